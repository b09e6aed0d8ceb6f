//! Observations of a cluster that the leader stores in etcd, for later leaders and for standbys.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::condition::{Condition, State};
use super::restore::Restores;

/// Shortest interval between two writes for a cluster.
const AT_LEAST: SignedDuration = SignedDuration::from_secs(5);
/// Observations expire after so many write periods.
const STALE: i32 = 3;

/// Stored observations of a cluster. Values of earlier versions, which lack fields, can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Number of detected restores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewinds: Option<Restores>,
    /// Resource version of the last canary write. A lower version in the cluster means that the cluster was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<u64>,
    /// Conditions that only the leader observes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Noted>,
    /// Time of the observation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// A stored condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// Such as `Writable`.
    pub kind: String,
    /// Whether it holds.
    pub state: State,
    /// A bounded category; empty if there is no problem.
    pub reason: String,
    /// For people; empty if there is no problem.
    pub message: String,
    /// Time of the last change of `state`.
    pub since: Timestamp,
}

impl Noted {
    /// The stored form of a condition.
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
    /// When to replace this by `seen`: soon if something changed, else once each `period`.
    pub fn due(&self, seen: &Self, period: SignedDuration) -> Timestamp {
        let Some(at) = self.at else { return Timestamp::MIN };
        let same = (self.canary.is_some() || seen.canary.is_none())
            && self.conditions.len() == seen.conditions.len()
            && self.conditions.iter().zip(&seen.conditions).all(|(one, other)| one.is_like(other));
        let after = if same { period } else { AT_LEAST.min(period) };
        at.saturating_add(after).unwrap_or(Timestamp::MAX)
    }

    /// A stored condition with the time of its observation; `None` if it expired.
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
    fn changed_observations_are_written_soon_and_others_once_a_period() {
        let well = noted(State::True, 100);
        assert_eq!(Observed::default().due(&well, PERIOD), Timestamp::MIN);
        assert_eq!(well.due(&noted(State::True, 101), PERIOD), at(160));
        assert_eq!(well.due(&noted(State::False, 101), PERIOD), at(105));
    }

    #[test]
    fn expired_observations_are_ignored() {
        let well = noted(State::True, 100);
        assert!(well.condition("Writable", PERIOD, at(280)).is_some());
        assert!(well.condition("Writable", PERIOD, at(281)).is_none());
        assert!(well.condition("CanarySeen", PERIOD, at(101)).is_none());
    }

    #[test]
    fn observations_of_earlier_versions_can_be_read() {
        let text = r#"{"rewinds":{"count":2,"last":"1970-01-01T00:00:00Z"}}"#;
        let read: Observed = serde_json::from_str(text).unwrap();
        assert_eq!(read.rewinds.map(|rewinds| rewinds.count), Some(2));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
