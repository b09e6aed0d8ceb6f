//! The canary of a cluster: whether a small write of ours goes through, and is shown by a watch.
//!
//! It is one signal of several. Reachability is judged by probes alone ([`health`](super::health)): a machine so busy that
//! a write takes long is no dead cluster. A cluster that refuses or swallows every write for several renewals in a row
//! takes no new workspaces, and nothing else changes there.

use std::time::Duration;

/// Misses in a row that count; fewer are what a busy machine does.
pub const MISSES: u32 = 3;
/// Once misses count, it is tried so many times as often, so that a cluster that is well again is known soon.
const EAGERNESS: u32 = 5;

/// What came of one renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was written, and a watch showed it, so long after it was sent.
    Shown(Duration),
    /// It was written, and no watch showed it in time.
    Unseen(Duration),
    /// It was refused, or not answered, for this reason.
    Failed(String),
    /// The login may not write it, which says nothing of the cluster.
    NotAllowed(String),
}

/// How the canary is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Nobody renews it here, or not yet.
    #[default]
    Unknown,
    /// It goes through; so long the last round took.
    Well(Duration),
    /// Renewals are written, and watches do not show them.
    NotShown(String),
    /// Renewals fail.
    NotWritten(String),
    /// The login lacks the right.
    NotAllowed(String),
}

/// The renewals of one cluster in one leadership.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renewals {
    misses: u32,
    round: Option<Duration>,
    last: Option<Outcome>,
}

impl Renewals {
    /// Takes what came of a renewal.
    pub fn take(&mut self, outcome: Outcome) {
        match &outcome {
            Outcome::Shown(round) => (self.misses, self.round) = (0, Some(*round)),
            Outcome::Unseen(_) | Outcome::Failed(_) => self.misses = self.misses.saturating_add(1),
            Outcome::NotAllowed(_) => self.misses = 0,
        }
        self.last = Some(outcome);
    }

    /// How the canary is.
    pub fn standing(&self) -> Standing {
        match &self.last {
            None => Standing::Unknown,
            Some(Outcome::NotAllowed(reason)) => Standing::NotAllowed(reason.clone()),
            Some(Outcome::Failed(reason)) if self.misses >= MISSES => Standing::NotWritten(reason.clone()),
            Some(Outcome::Unseen(within)) if self.misses >= MISSES => Standing::NotShown(format!(
                "writes are taken, and watches do not show them within {within:?}"
            )),
            Some(_) => self.round.map_or(Standing::Unknown, Standing::Well),
        }
    }

    /// Why the cluster takes no new workspaces; only writes that fail are a reason.
    pub fn barred(&self) -> Option<String> {
        match self.standing() {
            Standing::NotWritten(reason) => {
                Some(format!("the last {} small writes to it failed: {reason}", self.misses))
            }
            _ => None,
        }
    }

    /// Until the next renewal.
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
        assert_eq!((two.standing(), two.barred()), (Standing::Well(ROUND), None));
        let interrupted = after([failed(), failed(), Outcome::Shown(ROUND), failed(), failed()]);
        assert_eq!(interrupted.standing(), Standing::Well(ROUND));
        assert_eq!(interrupted.pause(PERIOD), PERIOD);
    }

    #[test]
    fn three_writes_that_failed_in_a_row_keep_new_workspaces_away_until_one_goes_through() {
        let mut renewals = after([Outcome::Shown(ROUND), failed(), failed(), failed()]);
        let barred = renewals.barred().unwrap();
        assert!(barred.contains("last 3") && barred.contains("no answer within 10s"), "{barred}");
        assert!(renewals.pause(PERIOD) < PERIOD);
        renewals.take(Outcome::Shown(ROUND));
        assert_eq!((renewals.barred(), renewals.standing()), (None, Standing::Well(ROUND)));
    }

    #[test]
    fn what_watches_do_not_show_and_what_is_not_allowed_is_told_and_bars_nothing() {
        let unseen = after([Outcome::Unseen(PERIOD), Outcome::Unseen(PERIOD), Outcome::Unseen(PERIOD)]);
        assert!(matches!(unseen.standing(), Standing::NotShown(_)) && unseen.barred().is_none());
        let refused = after([failed(), failed(), Outcome::NotAllowed("forbidden".to_owned())]);
        assert_eq!(refused.standing(), Standing::NotAllowed("forbidden".to_owned()));
        assert_eq!(refused.barred(), None);
    }
}
