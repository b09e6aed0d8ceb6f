//! The agent's part of archive work: bytes into the helper, frames out of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use content::initializer::scrub::Scrubber;
use futures::{Stream, StreamExt as _};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::Failure;
use crate::archives::{Answer, Kind, Request, header};
use crate::helper::{self, Helper, Job, Operation, Outcome, Progress, Running};

/// Takes the frames of the helper.
#[async_trait]
pub(super) trait Frames: Send {
    /// The next one.
    async fn take(&mut self, kind: Kind, bytes: Bytes) -> io::Result<()>;
}

/// For work that has no output.
pub(super) struct NoFrames;

#[async_trait]
impl Frames for NoFrames {
    async fn take(&mut self, kind: Kind, _: Bytes) -> io::Result<()> {
        Err(io::Error::other(format!("the helper wrote {kind:?} where nothing was asked for")))
    }
}

/// Writes the tree state to a file. It is complete once [`TreeFile::finish`] returns.
pub(super) struct TreeFile {
    file: File,
}

impl TreeFile {
    pub(super) async fn create(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: File::create(path).await? })
    }

    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await
    }
}

#[async_trait]
impl Frames for TreeFile {
    async fn take(&mut self, kind: Kind, bytes: Bytes) -> io::Result<()> {
        match kind {
            Kind::Tree => self.file.write_all(&bytes).await,
            other => Err(io::Error::other(format!("the helper wrote {other:?} instead of the tree state"))),
        }
    }
}

/// Runs helpers for one folder until a deadline.
pub(super) struct Worker<'a> {
    pub(super) helper: &'a Helper,
    pub(super) folder: PathBuf,
    pub(super) until: Instant,
    pub(super) scrubber: Scrubber,
    pub(super) progress: &'a watch::Sender<Progress>,
}

impl Worker<'_> {
    /// Says what is done at the moment.
    pub(super) fn step(&self, step: &str) {
        self.progress.send_replace(Progress { step: step.to_owned(), bytes: 0 });
    }

    /// Runs an operation that has no streams.
    pub(super) async fn run(&self, operation: Operation) -> Result<Outcome, helper::Error> {
        let mut running = self.helper.start(self.job(operation)).await?;
        drop((running.input.take(), running.output.take()));
        let mut of_helper = running.progress.clone();
        tokio::select! {
            ended = running.end() => ended,
            never = relay(&mut of_helper, self.progress) => match never {},
        }
    }

    fn job(&self, operation: Operation) -> Job {
        let deadline = self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        Job { workspace: self.folder.clone(), operation, deadline, scrubber: self.scrubber.clone() }
    }

    /// Runs archive work: `input` goes to the helper, its frames go to `frames`. Complete, or an error.
    pub(super) async fn exchange(
        &self,
        request: &Request,
        input: impl Stream<Item = Result<Bytes, Failure>> + Send + Unpin,
        frames: &mut dyn Frames,
    ) -> Result<Answer, Failure> {
        let request = serde_json::to_value(request).map_err(|error| Failure::platform(error.to_string()))?;
        let mut running = self.helper.start(self.job(Operation::Archive { request })).await?;
        let missing = || Failure::platform("the content helper has no pipes");
        let sender = running.input.take().ok_or_else(missing)?;
        let receiver = running.output.take().ok_or_else(missing)?;
        let mut of_helper = running.progress.clone();
        let (fed, received) = tokio::select! {
            both = async { tokio::join!(feed(&running, sender, input), receive(&running, receiver, frames)) } => both,
            never = relay(&mut of_helper, self.progress) => match never {},
        };
        let ended = running.end().await;
        // What failed first ended the others.
        fed?;
        let is_complete =
            received.map_err(|error| Failure::platform(format!("the helper's output: {error}")))?;
        // Only restores and archives have the store on their other end.
        let ended = ended.map_err(|error| match error {
            helper::Error::Late { .. } => Failure::platform(error.to_string()),
            other => other.into(),
        });
        match ended? {
            Outcome::Archive { result } if is_complete => serde_json::from_value(result)
                .map_err(|error| Failure::platform(format!("the helper's answer cannot be read: {error}"))),
            _ => Err(Failure::platform("the helper ended before its output was complete")),
        }
    }
}

/// Passes progress on, without an end.
async fn relay(
    from: &mut watch::Receiver<Progress>,
    to: &watch::Sender<Progress>,
) -> std::convert::Infallible {
    while from.changed().await.is_ok() {
        let progress = from.borrow_and_update().clone();
        to.send_replace(progress);
    }
    std::future::pending().await
}

/// Writes the input. If the source fails, the helper is killed: it must not take what came for all of it.
async fn feed(
    running: &Running,
    mut to: pipe::Sender,
    mut input: impl Stream<Item = Result<Bytes, Failure>> + Send + Unpin,
) -> Result<(), Failure> {
    while let Some(chunk) = input.next().await {
        match chunk {
            Ok(bytes) => {
                if to.write_all(&bytes).await.is_err() {
                    // The helper does not read on; its end says why.
                    return Ok(());
                }
            }
            Err(failure) => {
                running.kill();
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// Reads frames to the end; false if the helper ended before that.
async fn receive(running: &Running, mut from: pipe::Receiver, frames: &mut dyn Frames) -> io::Result<bool> {
    let read = async {
        loop {
            let mut first = [0; 5];
            match from.read_exact(&mut first).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                other => other?,
            };
            let (kind, length) = header(first)?;
            if kind == Kind::End {
                return Ok(true);
            }
            let mut bytes = vec![0; length];
            match from.read_exact(&mut bytes).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                other => other?,
            };
            frames.take(kind, bytes.into()).await?;
        }
    };
    let read = read.await;
    if read.is_err() {
        running.kill();
    }
    read
}
