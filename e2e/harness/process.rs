//! A program that never outlives us.
//!
//! Everything starts through `babysit` (`controlplane/babysit`), which holds the read end of a pipe of ours: when we end,
//! by whatever cause, the pipe closes and the program is stopped. The same pipe carries signals, and babysit answers each
//! on its standard output, so that a stop or a pause has happened when the call returns.

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
/// Ports of the system that may all have been given before.
const PORT_TRIES: usize = 1_000;

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Names the process in errors.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables beside our own.
    pub env: Vec<(String, String)>,
    /// File that its output is appended to.
    pub log: PathBuf,
}

impl Launch {
    /// A program and its arguments, with our own environment.
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
        }
    }
}

/// A signal for the process group of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ask it to end.
    Term,
    /// As Ctrl-C.
    Int,
    /// End it.
    Kill,
    /// Freeze it: it keeps its connections and answers nothing.
    Stop,
    /// Thaw it.
    Cont,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    pid: Option<u32>,
    sent: usize,
    exit: Option<i32>,
}

/// A running program. Dropping it kills its process group and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    log_start: u64,
    pid: u32,
    child: Mutex<Child>,
    control: Mutex<Option<ChildStdin>>,
    seen: watch::Receiver<Seen>,
}

/// A port nobody listens on now, and that this process gave to nobody before: two that start at once would each take the
/// other's answer for its own. Whoever takes one must be ready to find it taken and start again with another.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut held = Vec::new();
    for _ in 0..PORT_TRIES {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
        let port = listener.local_addr()?.port();
        if GIVEN.lock().insert(port) {
            return Ok(port);
        }
        // Held, so that the next one is another.
        held.push(listener);
    }
    bail!("no port on 127.0.0.1 that was not given before")
}

impl Process {
    /// Starts it and returns once it has a process id.
    pub async fn start(assets: &Assets, launch: &Launch) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&launch.log)
            .with_context(|| format!("cannot open log file {}", launch.log.display()))?;
        let log_start = log.metadata().map_or(0, |meta| meta.len());
        let mut child = Command::new(assets.babysit())
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
        Ok(Self { name, log, log_start, pid, child: Mutex::new(child), control: Mutex::new(control), seen })
    }

    /// Its process id, which is also its process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.seen.borrow().exit.is_none()
    }

    /// File of its output, which earlier runs may have written to, too.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines it logged.
    pub fn log_tail(&self) -> String {
        tail(&self.log, self.log_start)
    }

    /// Waits until `probe` says yes. The error tells what the process is, why the probe said no, and its last log lines.
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

    /// Sends a signal to its process group, and returns when it was sent; a stop when it has come to everything.
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

    /// Waits until it is stopped. The signal wakes one of its threads, and until that one runs, on a busy machine for some time,
    /// the others go on.
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

    /// Asks it to end, and kills it when it has not after `grace`. Returns its exit status.
    pub async fn stop(&self, grace: Duration) -> Result<i32> {
        if self.is_running() {
            self.signal(Signal::Term).await?;
        }
        match self.exited(grace).await {
            Ok(code) => Ok(code),
            Err(_) => self.kill().await,
        }
    }

    /// Kills it at once and waits for its end.
    pub async fn kill(&self) -> Result<i32> {
        if self.is_running() {
            self.signal(Signal::Kill).await?;
        }
        self.exited(Duration::from_secs(10)).await
    }

    fn say(&self, signal: Signal) -> Result<()> {
        let mut control = self.control.lock();
        let pipe = control.as_mut().context("it was let go of")?;
        pipe.write_all(signal.line().as_bytes())?;
        Ok(())
    }
}

/// Whether every thread of a process is stopped, as the kernel tells.
fn is_stopped(pid: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that ended meanwhile does nothing.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
        // The name before the state may hold anything, parentheses too.
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if !matches!(state, Some('T' | 't' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.say(Signal::Kill);
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

/// Follows what babysit reports. A thread, not a task: it must serve whichever runtime asks.
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
        // Stay until nobody asks any more, so that a late caller reads the exit instead of a closed channel.
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

/// Whether an error of [`Process::ready`] says that somebody took the port in the meantime.
pub fn is_port_clash(error: &anyhow::Error) -> bool {
    format!("{error:#}").to_lowercase().contains("address already in use")
}

/// Runs `start` again, with new ports, while it fails for a port that was taken in the meantime.
pub async fn with_free_ports<T>(mut start: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    for _ in 0..4 {
        match start().await {
            Err(error) if is_port_clash(&error) => {}
            other => return other,
        }
    }
    start().await
}

/// A fresh folder, private to us.
pub fn fresh_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}
