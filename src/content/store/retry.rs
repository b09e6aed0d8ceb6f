//! Attempts, backoff and deadlines of requests. The client library's own retries are off: they would repeat a request with
//! the credentials that it was signed with, and these may have been rotated meanwhile.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::error::{At, Error};

/// How often and how long a request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts of one request.
    pub attempts: u32,
    /// Attempts of a request that the store denies: the credentials may be rotated just now.
    pub denied: u32,
    /// Backoff after the first attempt; it doubles each time.
    pub first: Duration,
    /// Maximum backoff.
    pub most: Duration,
    /// Deadline of an attempt that carries no content.
    pub answer: Duration,
    /// Bytes a second below which an attempt with content misses its deadline.
    pub slowest: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            denied: 4,
            first: Duration::from_millis(200),
            most: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            slowest: 128 * 1024,
        }
    }
}

impl RetryPolicy {
    /// Runs a request that carries `bytes` of content until it succeeds, cannot succeed, or was tried often enough.
    pub(super) async fn run<T, F>(
        &self,
        at: &At,
        bytes: u64,
        mut request: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let deadline = self.answer + Duration::from_secs(bytes / self.slowest.max(1));
        let mut attempt = 1;
        loop {
            let error = match timeout(deadline, request()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => Error::of(at, &error),
                Err(_) => {
                    Error::Unavailable { at: at.clone(), why: format!("no answer within {deadline:?}") }
                }
            };
            let most = match error {
                Error::Denied { .. } => self.denied,
                Error::Unavailable { .. } => self.attempts,
                _ => return Err(error),
            };
            if attempt >= most {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "retrying a request to the object store");
            sleep(self.backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// The backoff after an attempt, with a jitter that spreads clients apart.
    fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << (attempt - 1).min(16)).min(self.most);
        doubled.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
