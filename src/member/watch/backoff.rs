//! Backoff that doubles up to 30 s, with full jitter so that watches do not reconnect at the same time.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use domain::backoff::doubling;

/// Upper bounds of the delays.
const BOUNDS: ExponentialBuilder = doubling(Duration::from_millis(250), Duration::from_secs(30));
/// A failure after so long without one is a first failure again.
const FORGIVEN: Duration = Duration::from_mins(2);

/// Backoff of one watch. Two minutes without a failure reset it.
pub struct Backoff {
    failures: u32,
    last: Option<Instant>,
    bounds: ExponentialBackoff,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { failures: 0, last: None, bounds: BOUNDS.build() }
    }
}

impl Backoff {
    /// Consecutive failures.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Makes the next failure a first one.
    pub fn reset(&mut self) {
        (self.failures, self.bounds) = (0, BOUNDS.build());
    }

    /// Counts a failure at `now`, and returns the backoff until the next try.
    pub fn next(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > FORGIVEN) {
            self.reset();
        }
        self.last = Some(now);
        self.failures = self.failures.saturating_add(1);
        self.bounds.next().unwrap_or_default().mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_under_a_ceiling_that_doubles_to_thirty_seconds() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for failure in 0..20 {
            let ceiling = Duration::from_millis(250 << failure.min(7)).min(Duration::from_secs(30));
            assert!(backoff.next(now) <= ceiling, "failure {failure}");
        }
    }

    #[test]
    fn a_failure_after_a_long_calm_is_a_first_one() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.next(now);
        }
        assert!(backoff.next(now + FORGIVEN * 2) <= Duration::from_millis(250));
    }
}
