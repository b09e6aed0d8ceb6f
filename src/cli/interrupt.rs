//! Ctrl-C while a verb waits for something that goes on without it.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of an interrupted program, as shells have it: 128 and the signal's number.
pub const EXIT_CODE: u8 = 130;

/// The wait was interrupted; the text says what goes on, and how to follow or stop it.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
pub struct Interrupted(pub String);

/// Notices Ctrl-C from when it was made, in place of the process' end.
pub struct Interrupt(Signal);

impl Interrupt {
    /// Begins to notice it. To be called once all files are read: reading a pipe holds up the only thread.
    pub fn listen() -> Result<Self> {
        Ok(Self(signal(SignalKind::interrupt()).context("failed to listen for Ctrl-C")?))
    }

    /// Works until the end, or until Ctrl-C, which drops the work; `goes_on` says what it does not end.
    pub async fn unless<T>(
        &mut self,
        work: impl Future<Output = Result<T>>,
        goes_on: impl FnOnce() -> String,
    ) -> Result<T> {
        tokio::select! {
            outcome = work => outcome,
            _ = self.0.recv() => Err(Interrupted(goes_on()).into()),
        }
    }
}
