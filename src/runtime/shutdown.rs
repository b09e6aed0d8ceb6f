//! Shutdown of the process: signals, a drain deadline, and supervision of tasks.
//!
//! # Flow
//! The first SIGINT or SIGTERM cancels the token of all tasks; tasks finish their current work and end. Tasks that still run at
//! the deadline are aborted, and so are all at the second signal.
//!
//! # Guarantee
//! A task of the [`Supervisor`] that ends, fails or panics before the shutdown stops the whole process with an error that names
//! it: a manager that works only in part is worse than one that restarts.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

#[cfg(test)]
mod tests;

/// Error of a task.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why the process ends without a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task ended that must run as long as the process.
    #[error("task {0} ended unexpectedly")]
    Ended(&'static str),
    /// A task returned an error.
    #[error("task {name} failed")]
    Failed {
        /// The task.
        name: &'static str,
        /// Its error.
        source: BoxError,
    },
    /// A task panicked.
    #[error("task {0} panicked")]
    Panicked(&'static str),
    /// Some tasks did not finish in time and were aborted.
    #[error("tasks did not end within {deadline:?} and were aborted: {names}")]
    Overdue {
        /// The deadline.
        deadline: Duration,
        /// Names of the tasks, comma-separated.
        names: String,
    },
    /// A second signal interrupted the drain.
    #[error("aborted by a second signal while waiting for {0}")]
    Aborted(String),
}

/// Stream of the signals SIGINT and SIGTERM.
///
/// From this call on they no longer end the process by themselves.
pub fn signals() -> std::io::Result<impl Stream<Item = &'static str> + Send + Unpin> {
    let named = |kind, name: &'static str| -> std::io::Result<_> {
        let listener = signal(kind)?;
        Ok(Box::pin(stream::unfold(listener, move |mut listener| async move {
            listener.recv().await.map(|()| (name, listener))
        })))
    };
    Ok(stream::select(named(SignalKind::interrupt(), "SIGINT")?, named(SignalKind::terminate(), "SIGTERM")?))
}

/// Owns the long-lived tasks of the process.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, &'static str>,
    shutdown: CancellationToken,
}

impl Supervisor {
    /// A supervisor whose tasks must end when `shutdown` is cancelled.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), names: HashMap::new(), shutdown }
    }

    /// The token of all tasks. Tasks select on it; cancelling it starts the shutdown.
    pub fn token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a task inside a span of its name. It must run until the token is cancelled.
    pub fn spawn<E>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<BoxError>,
    {
        let task = async move { task.await.map_err(Into::into) }.instrument(info_span!("task", name));
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Runs until a signal, until the token is cancelled, or until a task ends; then waits at most `drain` for the other tasks.
    ///
    /// Returns the first error.
    pub async fn run(
        mut self,
        drain: Duration,
        mut signals: impl Stream<Item = &'static str> + Unpin,
    ) -> Result<(), Error> {
        let cause = self.wait_for_the_end(&mut signals).await;
        if let Err(error) = &cause {
            warn!(%error, "shutting down because of a task");
        }
        self.shutdown.cancel();
        let drained = self.drain(drain, &mut signals).await;
        cause.and(drained)
    }

    async fn wait_for_the_end(
        &mut self,
        signals: &mut (impl Stream<Item = &'static str> + Unpin),
    ) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {
                info!("shutting down on request");
                Ok(())
            }
            // After the end of the signal stream the branch is disabled.
            Some(signal) = signals.next() => {
                info!(signal, "shutting down; a second signal aborts");
                Ok(())
            }
            Some(ended) = self.tasks.join_next_with_id() => {
                let (name, outcome) = self.outcome(ended);
                outcome.and(Err(Error::Ended(name)))
            }
        }
    }

    async fn drain(
        &mut self,
        deadline: Duration,
        signals: &mut (impl Stream<Item = &'static str> + Unpin),
    ) -> Result<(), Error> {
        let end = Instant::now() + deadline;
        let mut result = Ok(());
        loop {
            tokio::select! {
                biased;
                ended = self.tasks.join_next_with_id() => {
                    let Some(ended) = ended else { return result };
                    let (name, outcome) = self.outcome(ended);
                    info!(task = name, left = self.names.len(), "ended");
                    result = result.and(outcome);
                }
                Some(signal) = signals.next() => {
                    warn!(signal, "second signal");
                    return result.and(Err(Error::Aborted(self.abort().await)));
                }
                () = tokio::time::sleep_until(end) => {
                    return result.and(Err(Error::Overdue { deadline, names: self.abort().await }));
                }
            }
        }
    }

    /// Aborts the remaining tasks and returns their names. It does not wait for a task that never yields.
    async fn abort(&mut self) -> String {
        let mut names: Vec<_> = self.names.values().copied().collect();
        names.sort_unstable();
        self.tasks.abort_all();
        let all_gone = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(1), all_gone).await.is_err() {
            self.tasks.detach_all();
        }
        names.join(", ")
    }

    fn outcome(
        &mut self,
        ended: Result<(Id, Result<(), BoxError>), JoinError>,
    ) -> (&'static str, Result<(), Error>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let name = self.names.remove(&id).unwrap_or("unnamed");
        let outcome = match ended {
            Ok((_, Ok(()))) => Ok(()),
            Ok((_, Err(source))) => Err(Error::Failed { name, source }),
            Err(_) => Err(Error::Panicked(name)),
        };
        (name, outcome)
    }
}
