//! Waiting until member clusters are listed and their history is known.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connected::Connected;
use super::members::Fleet;
use domain::names::ClusterName;

impl Fleet {
    /// Whether a member's canary was compared with its note, and a restore that this showed is recorded.
    pub(crate) fn is_history_known(&self, name: &ClusterName) -> bool {
        self.get(name).is_some_and(|connected| connected.member.canary().is_compared())
            && !self.index.is_rewound(name)
    }

    /// Whether a member's canary was renewed since then and found as it was left: nothing seen until then came back with a
    /// restore that is not recorded.
    pub(crate) fn is_history_proven(&self, name: &ClusterName, since: Instant) -> bool {
        self.get(name).is_some_and(|connected| connected.member.canary().is_proven_since(since))
            && !self.index.is_rewound(name)
    }

    /// Waits until registrations were listed.
    pub async fn listed(&self) {
        self.slots.listed().await;
    }

    /// Waits until registrations were listed and every member's workspaces, too, each with the versions that it is to be shown
    /// with; and until the Secrets of those that are not joined yet were read.
    pub async fn synced(&self) {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            let all = |connected: &Arc<Connected>| {
                connected.places.values().all(|place| place.cache.is_synced())
                    && self.is_history_known(connected.member.name())
            };
            let listed = self.slots.is_listed() && !self.logins.are_reading();
            if listed && self.connected().iter().all(all) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until every member was listed once, at most so long: one that does not answer must not hold up the others.
    pub async fn members_known(&self, within: Duration) {
        if tokio::time::timeout(within, self.synced()).await.is_err() {
            tracing::warn!(
                "some clusters were not listed yet; their workspaces are not shown until they are"
            );
        }
    }
}
