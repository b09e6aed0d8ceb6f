//! A cluster that was set back: its etcd was restored from an old backup, so that versions and generations count from
//! there again.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// An admin is told so long.
const TOLD: SignedDuration = SignedDuration::from_hours(24);

/// How often a cluster was set back since it was registered. It grows, and so do the versions of its workspaces' states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rewinds {
    /// How often.
    pub count: u32,
    /// When it was noticed last.
    pub last: Timestamp,
}

impl Rewinds {
    /// One more.
    pub fn after(before: Option<Self>, now: Timestamp) -> Self {
        Self { count: before.map_or(0, |before| before.count).saturating_add(1), last: now }
    }

    /// Whether an admin is still told.
    pub fn is_recent(&self, now: Timestamp) -> bool {
        now.duration_since(self.last) < TOLD
    }

    /// Whether what is there now may be from before `end`: a workspace whose end was recorded then came back with the
    /// backup, and nobody asked for it.
    pub fn may_bring_back(&self, end: Timestamp) -> bool {
        end <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_before_a_cluster_was_set_back_may_have_come_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = Rewinds::after(None, at(100));
        assert_eq!((first.count, Rewinds::after(Some(first), at(200)).count), (1, 2));
        assert!(first.may_bring_back(at(99)) && !first.may_bring_back(at(101)));
        assert!(first.is_recent(at(100 + 3600)) && !first.is_recent(at(100 + 25 * 3600)));
    }
}
