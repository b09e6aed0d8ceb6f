//! The thread of the agent that starts a helper and stays with it until it ended.
//!
//! A thread of its own, for three reasons: a thread can have its children start in a new pid namespace without changing the agent's
//! other threads; the kernel kills the helper when the thread that started it ends; and it may block.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};

use content::initializer::scrub::Scrubber;
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::{oneshot, watch};

use super::ground::SUBCOMMAND;
use super::protocol::{EVENT_MAX, Event, Failure, GO, Outcome, Progress, Request, encode, one_line};

/// Bytes of what a helper says besides events, such as a panic.
const NOISE_MAX: usize = 4096;

/// How a helper ended.
#[derive(Debug)]
pub(super) enum End {
    Done(Outcome),
    Failed(Failure),
    /// At its own deadline.
    Late,
    /// Without a result: how, and what it said last.
    Lost(String),
}

/// The helper's pipes, once it is inside.
pub(super) struct Pipes {
    pub(super) input: OwnedFd,
    pub(super) output: OwnedFd,
}

/// What the thread reports to, in this order.
pub(super) struct Reports {
    /// For killing it.
    pub(super) started: oneshot::Sender<Result<OwnedFd, io::Error>>,
    pub(super) entered: oneshot::Sender<Pipes>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) ended: oneshot::Sender<End>,
}

/// Runs a helper to its end.
pub(super) fn run(request: &Request, scrubber: &Scrubber, reports: Reports) {
    let Reports { started, entered, progress, ended } = reports;
    let (mut child, events) = match spawn(request) {
        Ok((child, events, handle)) => {
            // Without a receiver nobody could kill it.
            if started.send(Ok(handle)).is_err() {
                kill(child);
                return;
            }
            (child, events)
        }
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let mut events = Events::new(events);
    let mut end = match handshake(&mut child, request, &mut events) {
        Ok(Ok(pipes)) => {
            let _ = entered.send(pipes);
            None
        }
        Ok(Err(early)) => Some(early),
        Err(error) => Some(End::Lost(error.to_string())),
    };
    while let Ok(Some(event)) = events.next() {
        match event {
            Event::Progress { progress: Progress { step, bytes } } => {
                let step = one_line(&scrubber.scrub(&step));
                progress.send_replace(Progress { step, bytes });
            }
            other => end = end_of(other).or(end),
        }
    }
    let status = child.wait();
    let shown = |text: &str| one_line(&scrubber.scrub(text));
    let end = match end {
        Some(End::Failed(Failure { fault, message })) => {
            End::Failed(Failure { fault, message: shown(&message) })
        }
        Some(End::Lost(why)) => End::Lost(shown(&format!("{why}\n{}", events.noise))),
        Some(end) => end,
        None => End::Lost(shown(&format!("{}\n{}", how(status), events.noise))),
    };
    let _ = ended.send(end);
}

/// How a process ended.
fn how(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}")),
        Err(error) => error.to_string(),
    }
}

fn spawn(request: &Request) -> io::Result<(Child, ChildStderr, OwnedFd)> {
    // For the children of this thread only. The first of them is process 1 there, and all end with it.
    unshare(CloneFlags::CLONE_NEWPID)?;
    let program = request.settings.program.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let mut command = Command::new(program);
    command.args([SUBCOMMAND, &std::process::id().to_string()]);
    command.env_clear().current_dir("/");
    // Otherwise the allocator takes 1 GiB of memory for writing before its first use, which the helper's limit counts.
    command.env("MIMALLOC_ARENA_EAGER_COMMIT", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let events = child.stderr.take();
    let handle = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let handle = handle.ok_or_else(|| io::Error::other("the helper has no process id"));
    let handle = handle.and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
    let events = events.ok_or_else(|| io::Error::other("the helper has no pipes"));
    match handle.and_then(|handle| Ok((events?, handle))) {
        Ok((events, handle)) => Ok((child, events, handle)),
        Err(error) => {
            kill(child);
            Err(error)
        }
    }
}

fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Hands over the request and maps the ids. The inner error is a result that came instead.
fn handshake(child: &mut Child, request: &Request, events: &mut Events) -> io::Result<Result<Pipes, End>> {
    let missing = || io::Error::other("the helper has no pipes");
    let mut input = child.stdin.take().ok_or_else(missing)?;
    let output = child.stdout.take().ok_or_else(missing)?;
    input.write_all(&encode(request)?)?;
    if let Some(end) = expect(events, |event| matches!(event, Event::Unshared))? {
        return Ok(Err(end));
    }
    map_ids(child.id(), &request.settings.id_map)?;
    go(&mut input)?;
    if let Some(end) = expect(events, |event| matches!(event, Event::Entered))? {
        return Ok(Err(end));
    }
    go(&mut input)?;
    Ok(Ok(Pipes { input: input.into(), output: output.into() }))
}

fn go(input: &mut ChildStdin) -> io::Result<()> {
    input.write_all(&[GO])
}

/// The next event, if it is another one than expected.
fn expect(events: &mut Events, is_expected: impl Fn(&Event) -> bool) -> io::Result<Option<End>> {
    match events.next()? {
        Some(event) if is_expected(&event) => Ok(None),
        Some(event) => {
            Ok(Some(end_of(event).unwrap_or_else(|| End::Lost("it broke the handshake".to_owned()))))
        }
        None => Err(io::Error::other("it ended while it was set up")),
    }
}

fn end_of(event: Event) -> Option<End> {
    match event {
        Event::Done { outcome } => Some(End::Done(outcome)),
        Event::Failed { failure } => Some(End::Failed(failure)),
        Event::Late => Some(End::Late),
        Event::Unshared | Event::Entered | Event::Progress { .. } => None,
    }
}

/// The same map for users and groups. The helper may still leave all groups, as the agent is privileged.
fn map_ids(process: u32, map: &[(u32, u32, u32)]) -> io::Result<()> {
    let lines: Vec<String> =
        map.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect();
    let text = lines.concat();
    for file in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{process}/{file}"), &text)?;
    }
    Ok(())
}

/// Lines of the helper, bounded.
struct Events {
    input: BufReader<ChildStderr>,
    /// What was no event.
    noise: String,
}

impl Events {
    fn new(stream: ChildStderr) -> Self {
        Self { input: BufReader::new(stream), noise: String::new() }
    }

    /// The next event; nothing at the end.
    fn next(&mut self) -> io::Result<Option<Event>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let most = EVENT_MAX as u64 + 1;
            if (&mut self.input).take(most).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            match serde_json::from_slice(&line) {
                Ok(event) => return Ok(Some(event)),
                Err(_) if self.noise.len() < NOISE_MAX => {
                    let text = String::from_utf8_lossy(&line);
                    self.noise.extend(text.chars().take(NOISE_MAX));
                }
                Err(_) => {}
            }
        }
    }
}
