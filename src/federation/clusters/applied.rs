//! Waiting until this replica's fleet shows what was written to etcd.

use std::sync::Arc;
use std::time::Duration;

use super::view::{ClusterView, Views};
use crate::Result;
use crate::fleet::Fleet;
use domain::names::ClusterName;

/// For this replica to see its own write.
pub(super) const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Tries of a change that others get in the way of.
pub(super) const TRIES: usize = 5;

/// Registrations as this replica shows them, waited for where they were just written.
pub(crate) struct AppliedChanges {
    fleet: Arc<Fleet>,
    views: Arc<Views>,
}

impl AppliedChanges {
    pub(crate) fn new(fleet: Arc<Fleet>, views: Arc<Views>) -> Arc<Self> {
        Arc::new(Self { fleet, views })
    }

    /// A cluster as this replica shows it now.
    pub(super) fn cluster(&self, name: &ClusterName) -> Result<ClusterView> {
        self.views.get(name)
    }

    /// Waits until this replica's own fleet shows what was just written, so that the next call sees it.
    pub(super) async fn await_version(&self, name: &ClusterName, version: i64) -> Result<ClusterView> {
        let seen = || self.fleet.version(name).is_some_and(|seen| seen >= version);
        self.await_fleet(seen).await;
        self.views.get(name)
    }

    pub(super) async fn await_change(&self, name: &ClusterName, version: i64) {
        self.await_fleet(|| self.fleet.version(name).is_none_or(|seen| seen != version)).await;
    }

    pub(super) async fn await_fleet(&self, done: impl Fn() -> bool) {
        let mut changes = self.fleet.changes();
        let waiting = async {
            loop {
                changes.borrow_and_update();
                if done() || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SEEN_WITHIN, waiting).await.is_err() {
            tracing::warn!("the registry's change was written, and is not seen to work yet");
        }
    }
}
