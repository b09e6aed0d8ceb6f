//! What the leader notes of a cluster: for those who lead after it, and for replicas that do not lead.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::condition::{Condition, State};
use super::rewind::Rewinds;

/// The shortest time between two notes of a cluster.
const AT_LEAST: SignedDuration = SignedDuration::from_secs(5);
/// Notes older than this, in periods of noting, tell nothing any more.
const STALE: i32 = 3;

/// What was noted of a cluster. Forms of before it was all there are read, too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// How often it was set back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewinds: Option<Rewinds>,
    /// Version at which its canary was written last. One that is found at a lower version was set back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<u64>,
    /// What only the leader can tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Noted>,
    /// When the leader looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// A condition as it was noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// Such as `Writable`.
    pub kind: String,
    /// Whether it holds.
    pub state: State,
    /// A bounded category; empty where all is well.
    pub reason: String,
    /// For people; empty where all is well.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

impl Noted {
    /// As the leader sees it.
    pub fn of(condition: &Condition) -> Self {
        Self {
            kind: condition.kind.to_owned(),
            state: condition.state,
            reason: condition.reason.to_owned(),
            message: condition.message.clone(),
            since: condition.since,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.kind, self.state, &self.reason) == (&other.kind, other.state, &other.reason)
    }
}

impl Observed {
    /// When what is `seen` now is to be noted over this: changes soon, all else once a `period`.
    pub fn due(&self, seen: &Self, period: SignedDuration) -> Timestamp {
        let Some(at) = self.at else { return Timestamp::MIN };
        let same = (self.canary.is_some() || seen.canary.is_none())
            && self.conditions.len() == seen.conditions.len()
            && self.conditions.iter().zip(&seen.conditions).all(|(one, other)| one.is_like(other));
        let after = if same { period } else { AT_LEAST.min(period) };
        at.saturating_add(after).unwrap_or(Timestamp::MAX)
    }

    /// What was noted of a condition, and when, where that is not too long ago to count.
    pub fn condition(
        &self,
        kind: &str,
        period: SignedDuration,
        now: Timestamp,
    ) -> Option<(&Noted, Timestamp)> {
        let at = self.at.filter(|at| now.duration_since(*at) <= period * STALE)?;
        Some((self.conditions.iter().find(|one| one.kind == kind)?, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: SignedDuration = SignedDuration::from_mins(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn noted(state: State, second: i64) -> Observed {
        let condition = Noted {
            kind: "Writable".to_owned(),
            state,
            reason: String::new(),
            message: String::new(),
            since: at(0),
        };
        Observed { conditions: vec![condition], at: Some(at(second)), ..Observed::default() }
    }

    #[test]
    fn changes_are_noted_soon_and_the_rest_once_a_period_so_that_writes_are_bounded() {
        let well = noted(State::True, 100);
        assert_eq!(Observed::default().due(&well, PERIOD), Timestamp::MIN);
        assert_eq!(well.due(&noted(State::True, 101), PERIOD), at(160));
        assert_eq!(well.due(&noted(State::False, 101), PERIOD), at(105));
    }

    #[test]
    fn what_was_noted_too_long_ago_tells_nothing() {
        let well = noted(State::True, 100);
        assert!(well.condition("Writable", PERIOD, at(280)).is_some());
        assert!(well.condition("Writable", PERIOD, at(281)).is_none());
        assert!(well.condition("CanarySeen", PERIOD, at(101)).is_none());
    }

    #[test]
    fn a_note_of_before_the_canary_was_noted_is_read() {
        let text = r#"{"rewinds":{"count":2,"last":"1970-01-01T00:00:00Z"}}"#;
        let read: Observed = serde_json::from_str(text).unwrap();
        assert_eq!(read.rewinds.map(|rewinds| rewinds.count), Some(2));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
