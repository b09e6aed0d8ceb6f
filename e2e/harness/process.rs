//! A program that never outlives this process.
//!
//! Every program starts through `babysit` (`controlplane/babysit`), which reads a pipe of this process: when this
//! process ends, for whatever cause, the pipe closes and the program is stopped. The same pipe carries signals, and
//! babysit acknowledges each on its standard output, so that a stop or a pause has happened when the call returns.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::assets::Assets;

const POLL: Duration = Duration::from_millis(50);
const LOG_TAIL: u64 = 3_000;
/// How often the system may offer a port that was given out before.
const PORT_TRIES: usize = 1_000;

/// A program to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Name in errors.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    /// Environment variables in addition to those of this process.
    pub env: Vec<(String, String)>,
    /// File to which its output is appended.
    pub log: PathBuf,
    /// Process whose namespaces it runs in ([`super::RealNode::inside`]).
    pub inside: Option<u32>,
    /// What dropping it sends first. Other signals than KILL give it 5 s.
    pub ends_by: Signal,
}

impl Launch {
    /// A program and its arguments, with the environment of this process.
    pub fn new<A: Into<String>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self {
            name: name.to_owned(),
            program: program.to_path_buf(),
            args,
            env: Vec::new(),
            log: log.to_path_buf(),
            inside: None,
            ends_by: Signal::Kill,
        }
    }
}

/// A signal to the process group of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Asks it to end.
    Term,
    /// As Ctrl-C.
    Int,
    /// Ends it.
    Kill,
    /// Freezes it: it keeps its connections and answers nothing.
    Stop,
    /// Resumes it.
    Cont,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    pid: Option<u32>,
    sent: usize,
    exit: Option<i32>,
}

/// A running program. Dropping it ends its process group ([`Launch::ends_by`]) and waits for it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    log_start: u64,
    pid: u32,
    ends_by: Signal,
    child: Mutex<Child>,
    control: Mutex<Option<ChildStdin>>,
    seen: watch::Receiver<Seen>,
}

/// A port that is free and was not given out before: of two programs that start at once with one port, each would take
/// the other for itself. It may still be taken by another process; start again with a new one then.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut held = Vec::new();
    for _ in 0..PORT_TRIES {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
        let port = listener.local_addr()?.port();
        if GIVEN.lock().insert(port) {
            return Ok(port);
        }
        // Held, so that the next one differs.
        held.push(listener);
    }
    bail!("no port on 127.0.0.1 that was not given before")
}

impl Process {
    /// Returns once it has a process id.
    pub async fn start(assets: &Assets, launch: &Launch) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&launch.log)
            .with_context(|| format!("cannot open log file {}", launch.log.display()))?;
        let log_start = log.metadata().map_or(0, |meta| meta.len());
        let mut command = Command::new(assets.babysit());
        if let Some(pid) = launch.inside {
            command.args(["-in", &pid.to_string()]);
        }
        let mut child = command
            .arg("--")
            .arg(&launch.program)
            .args(&launch.args)
            .envs(launch.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", launch.name))?;
        let control = child.stdin.take();
        let stdout = child.stdout.take().context("babysit without standard output")?;
        let mut seen = listen(stdout);
        let first = timeout(Duration::from_secs(30), seen.wait_for(|s| s.pid.is_some() || s.exit.is_some()))
            .await
            .map_err(|_| anyhow!("{}: babysit said nothing in 30 s", launch.name))?
            .map(|s| *s)
            .with_context(|| format!("{}: babysit ended", launch.name))?;
        let Some(pid) = first.pid else {
            bail!("{} did not start: {}", launch.name, tail(&launch.log, log_start));
        };
        let (name, log) = (launch.name.clone(), launch.log.clone());
        let (child, control) = (Mutex::new(child), Mutex::new(control));
        Ok(Self { name, log, log_start, pid, ends_by: launch.ends_by, child, control, seen })
    }

    /// Process id, also of its process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn is_running(&self) -> bool {
        self.seen.borrow().exit.is_none()
    }

    /// Its log file, which earlier runs may have written to, too.
    pub fn log(&self) -> &Path {
        &self.log
    }

    pub fn log_tail(&self) -> String {
        tail(&self.log, self.log_start)
    }

    /// Waits until `probe` succeeds. The error has the state of the process, the last error of the probe, and the last
    /// log lines.
    pub async fn ready<P>(&self, deadline: Duration, mut probe: P) -> Result<()>
    where
        P: AsyncFnMut() -> Result<()>,
    {
        let until = Instant::now() + deadline;
        loop {
            let outcome = timeout(Duration::from_secs(2), probe()).await;
            if let Some(code) = self.seen.borrow().exit {
                bail!("{} ended with {code} before it was ready; {}", self.name, self.log_tail());
            }
            let why = match outcome {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "no answer in 2 s".to_owned(),
            };
            if Instant::now() > until {
                bail!("{} not ready after {deadline:?} ({why}); {}", self.name, self.log_tail());
            }
            sleep(POLL).await;
        }
    }

    /// Sends a signal to its process group; for a stop, also waits until every thread has stopped.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        let mut seen = self.seen.clone();
        let before = seen.borrow_and_update().sent;
        self.say(signal).with_context(|| format!("cannot send {signal:?} to {}", self.name))?;
        timeout(Duration::from_secs(5), seen.wait_for(|s| s.sent > before || s.exit.is_some()))
            .await
            .map_err(|_| anyhow!("{}: {signal:?} was not sent in 5 s", self.name))?
            .with_context(|| format!("{}: babysit ended", self.name))?;
        if signal == Signal::Stop { self.frozen().await } else { Ok(()) }
    }

    /// Waits until it is stopped. The signal wakes one thread; until that one is scheduled, which takes time on a busy
    /// machine, the others continue.
    async fn frozen(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(5);
        while self.is_running() && !is_stopped(self.pid)? {
            if Instant::now() > until {
                bail!("{} goes on 5 s after it was stopped", self.name);
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Waits for its end and returns its exit status (128 + n after signal n).
    pub async fn exited(&self, deadline: Duration) -> Result<i32> {
        let mut seen = self.seen.clone();
        let last = timeout(deadline, seen.wait_for(|s| s.exit.is_some()))
            .await
            .map_err(|_| anyhow!("{} still runs after {deadline:?}; {}", self.name, self.log_tail()))?
            .with_context(|| format!("{}: babysit ended", self.name))?;
        Ok(last.exit.unwrap_or(-1))
    }

    /// Asks it to end, and kills it after `grace`. Returns its exit status.
    pub async fn stop(&self, grace: Duration) -> Result<i32> {
        if self.is_running() {
            self.signal(Signal::Term).await?;
        }
        match self.exited(grace).await {
            Ok(code) => Ok(code),
            Err(_) => self.kill().await,
        }
    }

    /// Kills it and waits for its end.
    pub async fn kill(&self) -> Result<i32> {
        if self.is_running() {
            self.signal(Signal::Kill).await?;
        }
        self.exited(Duration::from_secs(10)).await
    }

    fn say(&self, signal: Signal) -> Result<()> {
        let mut control = self.control.lock();
        let pipe = control.as_mut().context("it was dropped")?;
        pipe.write_all(signal.line().as_bytes())?;
        Ok(())
    }
}

/// Whether the kernel reports every thread of a process as stopped.
fn is_stopped(pid: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has ended.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
        // The name before the state may contain anything, parentheses too.
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if !matches!(state, Some('T' | 't' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.say(self.ends_by);
        drop(self.control.lock().take());
        let _ = self.child.lock().wait();
    }
}

impl Signal {
    fn line(self) -> &'static str {
        match self {
            Self::Term => "TERM\n",
            Self::Int => "INT\n",
            Self::Kill => "KILL\n",
            Self::Stop => "STOP\n",
            Self::Cont => "CONT\n",
        }
    }
}

/// Reads the reports of babysit. A thread, not a task: it serves any runtime.
fn listen(stdout: ChildStdout) -> watch::Receiver<Seen> {
    let (report, seen) = watch::channel(Seen::default());
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            report.send_modify(|seen| match line.split_once(' ') {
                Some(("started", pid)) => seen.pid = pid.parse().ok(),
                Some(("sent", _)) => seen.sent += 1,
                Some(("exited", code)) => seen.exit = code.parse().ok(),
                _ => {}
            });
        }
        report.send_modify(|seen| seen.exit = seen.exit.or(Some(-1)));
        // Keep the channel open until it is unused, so that a late caller reads the exit status.
        futures::executor::block_on(report.closed());
    });
    seen
}

/// The end of a log file, for an error; nothing before byte `start`.
fn tail(log: &Path, start: u64) -> String {
    let read = || -> Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL).max(start)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => format!("the end of {}:\n{text}", log.display()),
        Err(error) => format!("its log {} cannot be read: {error}", log.display()),
    }
}

/// Whether an error of [`Process::ready`] says that another process took the port.
pub fn is_port_clash(error: &anyhow::Error) -> bool {
    format!("{error:#}").to_lowercase().contains("address already in use")
}

/// Retries `start` with new ports while a port is taken by another process.
pub async fn with_free_ports<T>(mut start: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    for _ in 0..4 {
        match start().await {
            Err(error) if is_port_clash(&error) => {}
            other => return other,
        }
    }
    start().await
}

/// An empty folder that only this process uses.
pub fn fresh_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}
