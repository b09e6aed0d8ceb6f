//! Backoff that doubles up to 30 s, with full jitter so that watches do not reconnect at the same time.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// A failure after so long without one is a first failure again.
const FORGIVEN: Duration = Duration::from_mins(2);

/// Backoff of one watch. Two minutes without a failure reset it.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
    last: Option<Instant>,
    randomness: RandomState,
}

impl Backoff {
    /// Consecutive failures.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Makes the next failure a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure at `now`, and returns the backoff until the next try.
    pub fn next(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > FORGIVEN) {
            self.failures = 0;
        }
        self.last = Some(now);
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let mut hasher = self.randomness.build_hasher();
        hasher.write_u32(self.failures);
        // A keyed hash is random enough to spread pauses, and needs no generator.
        ceiling.mul_f64(
            f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX),
        )
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
            let ceiling = Duration::from_millis(250 << failure.min(7)).min(LONGEST);
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
        assert!(backoff.next(now + FORGIVEN * 2) <= FIRST);
    }
}
