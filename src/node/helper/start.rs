//! The agent's side: start a helper, follow it, end it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use content::initializer::Fault;
use content::initializer::scrub::Scrubber;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::protocol::{Failure, Operation, Outcome, Progress, Request};
use super::settings::Settings;
use super::supervise::{self, End, Pipes, Reports};

/// Until a helper is inside of its namespaces.
const ENTER: Duration = Duration::from_secs(30);
/// From a helper's own deadline until it is killed, and from then until it must be gone.
const GRACE: Duration = Duration::from_secs(5);

/// Starts helpers. They need root and the capability `SYS_ADMIN`.
#[derive(Debug, Clone)]
pub struct Helper {
    settings: Arc<Settings>,
}

/// Work for one helper.
pub struct Job {
    /// The folder of the workspace on the node. It exists, and belongs to the workspace's user.
    pub workspace: PathBuf,
    /// What to do.
    pub operation: Operation,
    /// From the start to the end.
    pub deadline: Duration,
    /// Of the secrets of the whole initializer, for messages.
    pub scrubber: Scrubber,
}

/// Why a helper came to no result. The texts have no secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not start.
    #[error("the content helper did not start: {0}")]
    NotStarted(io::Error),
    /// It took too long.
    #[error("{what} took longer than {} s; its last step was: {step}", .deadline.as_secs_f32())]
    Late {
        /// The operation.
        what: &'static str,
        /// Of the job.
        deadline: Duration,
        /// What it did last.
        step: String,
    },
    /// It says why.
    #[error("{message}")]
    Failed {
        /// Who can mend it.
        fault: Fault,
        /// One sentence.
        message: String,
    },
    /// It, or a program that it ran, asked for more memory than it may have.
    #[error("{what} needs more memory than the {} MiB that a helper may have", .most >> 20)]
    Memory {
        /// The operation.
        what: &'static str,
        /// Bytes.
        most: u64,
    },
    /// It ended without a result.
    #[error("the content helper ended while {what}: {how}")]
    Lost {
        /// The operation.
        what: &'static str,
        /// Signal or exit code, and what it said last.
        how: String,
    },
}

impl Error {
    /// Who can mend it.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Failed { fault, .. } => *fault,
            // Usually a repository that is too large or a server that is too slow.
            Self::Late { .. } => Fault::User,
            Self::NotStarted(_) => Fault::Configuration,
            Self::Memory { .. } | Self::Lost { .. } => Fault::Platform,
        }
    }
}

impl Helper {
    /// With the settings of this node.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    /// Runs an operation without an archive to its end.
    pub async fn run(&self, job: Job) -> Result<Outcome, Error> {
        let mut running = self.start(job).await?;
        // A helper that reads sees the end.
        drop(running.input.take());
        drop(running.output.take());
        running.end().await
    }

    /// Starts an operation. Dropping it kills the helper.
    pub async fn start(&self, job: Job) -> Result<Running, Error> {
        let Job { workspace, operation, deadline, scrubber } = job;
        let (what, most) = (operation.name(), self.settings.limits.private(operation.runs_git()));
        let until = Instant::now() + deadline;
        let deadline_millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let request = Request { settings: (*self.settings).clone(), workspace, operation, deadline_millis };
        let (started, on_start) = oneshot::channel();
        let (entered, on_enter) = oneshot::channel();
        let (ended, on_end) = oneshot::channel();
        let (progress, on_progress) = watch::channel(Progress::default());
        let reports = Reports { started, entered, progress, ended };
        let supervise = move || supervise::run(&request, &scrubber, reports);
        std::thread::Builder::new()
            .name("content-helper".to_owned())
            .spawn(supervise)
            .map_err(Error::NotStarted)?;
        let gone = || Error::NotStarted(io::Error::other("its thread ended"));
        let handle = on_start.await.map_err(|_| gone())?.map_err(Error::NotStarted)?;
        let mut running = Running::new(Arc::new(handle), on_progress, on_end, what, (deadline, until), most);
        match tokio::time::timeout(ENTER.min(deadline), on_enter).await {
            Ok(Ok(pipes)) => running.attach(pipes).map_err(Error::NotStarted)?,
            // Its end says why.
            Ok(Err(_)) => return Err(running.end().await.err().unwrap_or_else(gone)),
            Err(_) => return Err(Error::NotStarted(io::Error::other("it was not set up in time"))),
        }
        Ok(running)
    }
}

/// A helper that runs.
pub struct Running {
    /// To the helper; drop it at the end of the archive.
    pub input: Option<pipe::Sender>,
    /// From the helper.
    pub output: Option<pipe::Receiver>,
    /// How far it is.
    pub progress: watch::Receiver<Progress>,
    handle: Arc<OwnedFd>,
    ended: Option<oneshot::Receiver<End>>,
    what: &'static str,
    deadline: Duration,
    until: Instant,
    /// Bytes of memory of one of its processes.
    most: u64,
    _killer: AbortOnDropHandle<()>,
}

impl Running {
    fn new(
        handle: Arc<OwnedFd>,
        progress: watch::Receiver<Progress>,
        ended: oneshot::Receiver<End>,
        what: &'static str,
        (deadline, until): (Duration, Instant),
        most: u64,
    ) -> Self {
        let victim = Arc::clone(&handle);
        // For the case that it cannot end itself.
        let killer = tokio::spawn(async move {
            tokio::time::sleep_until(until + GRACE).await;
            kill(&victim);
        });
        let killer = AbortOnDropHandle::new(killer);
        Self {
            input: None,
            output: None,
            progress,
            handle,
            ended: Some(ended),
            what,
            deadline,
            until,
            most,
            _killer: killer,
        }
    }

    fn attach(&mut self, pipes: Pipes) -> io::Result<()> {
        self.input = Some(pipe::Sender::from_owned_fd(pipes.input)?);
        self.output = Some(pipe::Receiver::from_owned_fd(pipes.output)?);
        Ok(())
    }

    /// Kills the helper and all that it started.
    pub fn kill(&self) {
        kill(&self.handle);
    }

    /// Waits for the end. All processes of the helper are gone then.
    pub async fn end(mut self) -> Result<Outcome, Error> {
        let late = |running: &Self| {
            let step = Some(running.progress.borrow().step.clone()).filter(|step| !step.is_empty());
            let step = step.unwrap_or_else(|| "none".to_owned());
            Error::Late { what: running.what, deadline: running.deadline, step }
        };
        let Some(ended) = self.ended.take() else { return Err(late(&self)) };
        // The killer acts one grace after the deadline.
        let result = tokio::time::timeout_at(self.until + 2 * GRACE, ended).await;
        match result {
            Ok(Ok(End::Done(outcome))) => Ok(outcome),
            Ok(Ok(End::Failed(Failure { fault, message }))) => Err(Error::Failed { fault, message }),
            Ok(Ok(End::Late)) | Err(_) => Err(late(&self)),
            Ok(Ok(End::Lost(_))) if Instant::now() >= self.until => Err(late(&self)),
            // The last words of a program of Rust.
            Ok(Ok(End::Lost(how))) if how.contains("memory allocation of ") => {
                Err(Error::Memory { what: self.what, most: self.most })
            }
            Ok(Ok(End::Lost(how))) => Err(Error::Lost { what: self.what, how }),
            Ok(Err(_)) => Err(Error::Lost { what: self.what, how: "its thread ended".to_owned() }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A helper that is gone already is no error: its descriptor never names another process.
fn kill(handle: &OwnedFd) {
    let _ = pidfd_send_signal(handle, Signal::KILL);
}
