//! Restored clusters: the cluster's etcd was restored from an old backup, so that its resource versions restart from an earlier
//! value.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a condition reports a restore to admins.
const TOLD: SignedDuration = SignedDuration::from_hours(24);

/// Detected restores of a cluster since it was registered. The count is added to generations, so that status versions grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restores {
    /// Number of restores.
    pub count: u32,
    /// When the last one was detected.
    pub last: Timestamp,
}

impl Restores {
    /// Counts one more restore.
    pub fn after(before: Option<Self>, now: Timestamp) -> Self {
        Self { count: before.map_or(0, |before| before.count).saturating_add(1), last: now }
    }

    /// Whether admins are still notified.
    pub fn is_recent(&self, now: Timestamp) -> bool {
        now.duration_since(self.last) < TOLD
    }

    /// Whether the restored state may be from before `end`: then a workspace whose end was recorded at `end` may have come back
    /// with the backup.
    pub fn may_bring_back(&self, end: Timestamp) -> bool {
        end <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_that_ended_before_a_restore_may_have_come_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = Restores::after(None, at(100));
        assert_eq!((first.count, Restores::after(Some(first), at(200)).count), (1, 2));
        assert!(first.may_bring_back(at(99)) && !first.may_bring_back(at(101)));
        assert!(first.is_recent(at(100 + 3600)) && !first.is_recent(at(100 + 25 * 3600)));
    }
}
