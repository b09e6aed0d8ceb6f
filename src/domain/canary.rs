//! The canary of a cluster: a Lease that the leader renews, to see that writes succeed and that watches show them.
//!
//! It does not change the health of a cluster, which only probes decide ([`health`](super::health)): a busy machine with slow
//! writes is no lost cluster. If every write fails for several renewals in a row, the cluster gets no new workspaces, and
//! nothing else changes.

use std::time::Duration;

/// Failed renewals in a row until they count; fewer are normal on a busy machine.
pub const MISSES: u32 = 3;
/// Factor on the renewal rate while misses count, so that a recovery is detected soon.
const EAGERNESS: u32 = 5;

/// Result of one renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was written, and a watch showed it so long after it was sent.
    Shown(Duration),
    /// It was written, and no watch showed it within this time.
    Unseen(Duration),
    /// It was rejected or not answered, with the reason.
    Failed(String),
    /// The login may not write the Lease, which is no evidence about the cluster.
    NotAllowed(String),
}

/// State of the canary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CanaryState {
    /// This replica does not renew it, or has not yet.
    #[default]
    Unknown,
    /// Renewals are written and shown; with the duration of the last round trip.
    Healthy(Duration),
    /// Renewals are written, and watches do not show them.
    NotShown(String),
    /// Renewals fail.
    NotWritten(String),
    /// The login lacks the permission.
    NotAllowed(String),
}

/// Renewals of one cluster in one term.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renewals {
    misses: u32,
    round: Option<Duration>,
    last: Option<Outcome>,
}

impl Renewals {
    /// Adds the result of a renewal.
    pub fn take(&mut self, outcome: Outcome) {
        match &outcome {
            Outcome::Shown(round) => (self.misses, self.round) = (0, Some(*round)),
            Outcome::Unseen(_) | Outcome::Failed(_) => self.misses = self.misses.saturating_add(1),
            Outcome::NotAllowed(_) => self.misses = 0,
        }
        self.last = Some(outcome);
    }

    /// State of the canary after the renewals so far.
    pub fn standing(&self) -> CanaryState {
        match &self.last {
            None => CanaryState::Unknown,
            Some(Outcome::NotAllowed(reason)) => CanaryState::NotAllowed(reason.clone()),
            Some(Outcome::Failed(reason)) if self.misses >= MISSES => CanaryState::NotWritten(reason.clone()),
            Some(Outcome::Unseen(within)) if self.misses >= MISSES => CanaryState::NotShown(format!(
                "writes succeed, and watches do not show them within {within:?}"
            )),
            Some(_) => self.round.map_or(CanaryState::Unknown, CanaryState::Healthy),
        }
    }

    /// Why the cluster gets no new workspaces; `None` unless writes fail.
    pub fn barred(&self) -> Option<String> {
        match self.standing() {
            CanaryState::NotWritten(reason) => {
                Some(format!("the last {} small writes to it failed: {reason}", self.misses))
            }
            _ => None,
        }
    }

    /// Delay until the next renewal.
    pub fn pause(&self, period: Duration) -> Duration {
        if self.misses >= MISSES { period / EAGERNESS } else { period }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(7);
    const PERIOD: Duration = Duration::from_secs(10);

    fn after(outcomes: impl IntoIterator<Item = Outcome>) -> Renewals {
        let mut renewals = Renewals::default();
        outcomes.into_iter().for_each(|outcome| renewals.take(outcome));
        renewals
    }

    fn failed() -> Outcome {
        Outcome::Failed("no answer within 10s".to_owned())
    }

    #[test]
    fn fewer_misses_than_three_in_a_row_change_nothing() {
        let two = after([Outcome::Shown(ROUND), failed(), failed()]);
        assert_eq!((two.standing(), two.barred()), (CanaryState::Healthy(ROUND), None));
        let interrupted = after([failed(), failed(), Outcome::Shown(ROUND), failed(), failed()]);
        assert_eq!(interrupted.standing(), CanaryState::Healthy(ROUND));
        assert_eq!(interrupted.pause(PERIOD), PERIOD);
    }

    #[test]
    fn three_failed_writes_in_a_row_bar_new_workspaces_until_one_succeeds() {
        let mut renewals = after([Outcome::Shown(ROUND), failed(), failed(), failed()]);
        let barred = renewals.barred().unwrap();
        assert!(barred.contains("last 3") && barred.contains("no answer within 10s"), "{barred}");
        assert!(renewals.pause(PERIOD) < PERIOD);
        renewals.take(Outcome::Shown(ROUND));
        assert_eq!((renewals.barred(), renewals.standing()), (None, CanaryState::Healthy(ROUND)));
    }

    #[test]
    fn missing_watch_events_and_missing_permissions_are_reported_and_bar_nothing() {
        let unseen = after([Outcome::Unseen(PERIOD), Outcome::Unseen(PERIOD), Outcome::Unseen(PERIOD)]);
        assert!(matches!(unseen.standing(), CanaryState::NotShown(_)) && unseen.barred().is_none());
        let refused = after([failed(), failed(), Outcome::NotAllowed("forbidden".to_owned())]);
        assert_eq!(refused.standing(), CanaryState::NotAllowed("forbidden".to_owned()));
        assert_eq!(refused.barred(), None);
    }
}
