//! Conditions of a cluster, like those of Kubernetes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Not known.
    Unknown,
}

/// One condition of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Such as `Reachable`.
    pub kind: &'static str,
    /// Whether it holds.
    pub state: State,
    /// A bounded category for programs; empty if there is no problem.
    pub reason: &'static str,
    /// One sentence for people; empty if there is no problem.
    pub message: String,
    /// Time of the last change of `state`.
    pub since: Timestamp,
}

impl Condition {
    /// A condition that is True since `since`.
    pub fn holds(kind: &'static str, since: Timestamp) -> Self {
        Self { kind, state: State::True, reason: "", message: String::new(), since }
    }

    /// A condition that is False since `since`.
    pub fn fails(kind: &'static str, reason: &'static str, message: String, since: Timestamp) -> Self {
        Self { kind, state: State::False, reason, message, since }
    }

    /// Whether at most the message differs, which may contain a growing age. Watchers are not notified of such a difference.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.kind, self.state, self.reason) == (other.kind, other.state, other.reason)
    }
}

/// The conditions of `now`, with the times of `before` if the state has not changed.
pub fn aged(before: &[Condition], mut now: Vec<Condition>) -> Vec<Condition> {
    for condition in &mut now {
        let same = before.iter().find(|old| old.kind == condition.kind && old.state == condition.state);
        if let Some(old) = same {
            condition.since = condition.since.min(old.since);
        }
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_age_until_its_state_changes() {
        let first = aged(&[], vec![Condition::holds("Synced", at(1))]);
        let second = aged(&first, vec![Condition::holds("Synced", at(5))]);
        assert_eq!(second[0].since, at(1));
        let broken = aged(&second, vec![Condition::fails("Synced", "Pending", "listing".into(), at(7))]);
        assert_eq!(broken[0].since, at(7));
        let other = aged(&broken, vec![Condition::fails("Synced", "WatchesFail", "403".into(), at(9))]);
        assert_eq!((other[0].since, other[0].reason), (at(7), "WatchesFail"));
        assert!(!other[0].is_like(&broken[0]) && second[0].is_like(&first[0]));
    }
}
