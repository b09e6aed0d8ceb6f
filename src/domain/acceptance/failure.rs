//! A failure in a namespace, and when a start is tried in spite of it.

use std::time::Duration;

/// Without a working canary, one start is tried so long after the last failure; doubled with each further failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Upper bound of that backoff.
const RETRY_AFTER_MOST: Duration = Duration::from_mins(5);

/// A failure and when it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub at: Duration,
    pub reason: String,
    /// Failures in a row.
    pub count: u32,
}

impl Failure {
    /// Whether a start is tried again without evidence of the leader's own.
    pub fn is_due(&self, now: Duration) -> bool {
        let doublings = self.count.saturating_sub(1).min(10);
        let pause = RETRY_AFTER.saturating_mul(1 << doublings).min(RETRY_AFTER_MOST);
        now.saturating_sub(self.at) >= pause
    }
}

pub(super) fn fail(failure: &mut Option<Failure>, at: Duration, reason: String) {
    let count = failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
    *failure = Some(Failure { at, reason, count });
}
