//! Times of the lease that a candidate for the leadership holds.

use std::time::Duration;

use super::{Error, Result};

/// Times of a lease. `renew < stop_after < ttl < stalled_after`.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// TTL of the lease in whole seconds, at least 2 s; 6 s by default.
    pub ttl: Duration,
    /// Interval of renewals; 2 s by default.
    pub renew: Duration,
    /// The leader stops writing so long after the last confirmed renewal was sent; 4 s by default.
    pub stop_after: Duration,
    /// The leader revokes its lease when the main runtime has stalled for so long; 30 s by default.
    pub stalled_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self { ttl: 6 * second, renew: 2 * second, stop_after: 4 * second, stalled_after: 30 * second }
    }
}

impl Timing {
    pub(super) fn check(&self) -> Result<()> {
        let bad = |field, rule: &str| Err(Error::Options { field, rule: rule.to_owned() });
        if self.ttl.subsec_nanos() != 0 || self.ttl < Duration::from_secs(2) {
            return bad("lease", "must be whole seconds, at least 2");
        }
        if self.stop_after >= self.ttl {
            return bad("stopAfter", "must be shorter than the lease");
        }
        if self.renew.is_zero() || self.renew * 3 > self.stop_after * 2 {
            return bad(
                "renew",
                "must be at most two thirds of stopAfter, so that a renewal can be tried again",
            );
        }
        if self.stalled_after <= self.ttl {
            return bad("stalledAfter", "must be longer than the lease");
        }
        Ok(())
    }

    /// Deadline of a renewal, which leaves time for a second attempt.
    pub(super) fn answer(&self) -> Duration {
        self.stop_after.saturating_sub(self.renew) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inconsistent_times_are_rejected_by_name() {
        let ms = Duration::from_millis;
        let check = |ttl, renew, stop_after, field: &str| {
            let error = Timing {
                ttl: ms(ttl),
                renew: ms(renew),
                stop_after: ms(stop_after),
                stalled_after: ms(7000),
            }
            .check()
            .unwrap_err();
            assert!(error.to_string().starts_with(&format!("etcd {field}:")), "{error}");
        };
        assert!(Timing::default().check().is_ok());
        check(6500, 2000, 4000, "lease");
        check(1000, 200, 600, "lease");
        check(6000, 2000, 6000, "stopAfter");
        check(6000, 3000, 4000, "renew");
        check(6000, 0, 4000, "renew");
        check(7000, 2000, 4000, "stalledAfter");
    }

    #[test]
    fn a_renewal_can_be_retried_before_the_leader_stops() {
        let Timing { renew, stop_after, .. } = Timing::default();
        assert_eq!(renew + 2 * Timing::default().answer(), stop_after);
    }
}
