//! Ctrl-C while a verb waits for something that continues without it.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code by the convention of shells: 128 plus the number of the signal.
pub const EXIT_CODE: u8 = 130;

/// The wait was interrupted; the text says what continues, and how to follow or stop it.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
pub struct Interrupted(pub String);

/// Catches Ctrl-C, which then no longer ends the process.
pub struct Interrupt(Signal);

impl Interrupt {
    /// Call it once all files are read: reading a pipe blocks the only thread.
    pub fn listen() -> Result<Self> {
        Ok(Self(signal(SignalKind::interrupt()).context("failed to listen for Ctrl-C")?))
    }

    /// Runs `work` until it ends or Ctrl-C drops it; `goes_on` says what continues.
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
