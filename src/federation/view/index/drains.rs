//! What drains need: which clusters are drained, which workspaces are there, and how they ended.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::state::{Index, Inner, key_of};
use crate::view::encoded_status::Shown;
use crate::view::seen::Notice;
use domain::names::{ClusterName, WorkspaceId};
use domain::record::{PlacementRecord, RecordState};

/// A workspace of a cluster: its record, and the resource where it was seen.
pub type Placed = (PlacementRecord, Option<Arc<Shown>>);

impl Index {
    /// Takes whether a cluster is drained, and notifies the subscribers of its workspaces where that changed.
    pub fn notice(&self, cluster: &ClusterName, notice: Option<Notice>) {
        let before = self.change(|inner| match notice {
            Some(notice) => inner.drains.insert(cluster.clone(), notice),
            None => inner.drains.remove(cluster),
        });
        if before != notice {
            self.announce_all(cluster);
        }
    }

    /// Whether new workspaces are kept away from a cluster for a drain.
    pub fn is_draining(&self, cluster: &ClusterName) -> bool {
        self.inner.read().drains.contains_key(cluster)
    }

    /// Wakes when a workspace of a cluster that is being emptied has changed.
    pub fn drain_changes(&self) -> watch::Receiver<()> {
        self.drain_changes.subscribe()
    }

    pub(super) fn stir(&self, inner: &Inner, cluster: &ClusterName) {
        if inner.drains.contains_key(cluster) {
            self.drain_changes.send_replace(());
        }
    }

    /// The workspaces of a cluster, by id.
    pub fn residents(&self, cluster: &ClusterName) -> Vec<Placed> {
        self.each_placed(cluster, |inner, record| {
            let resource = inner.resources.get(&key_of(record));
            Some((record.clone(), resource.map(|resource| Arc::clone(&resource.view))))
        })
    }

    /// The last states of workspaces that ended in a cluster, those after `since` in the order of their ends, and the
    /// number to ask with next. 0 asks for all that are remembered.
    pub fn ends_after(&self, cluster: &ClusterName, since: u64) -> (Vec<Arc<Shown>>, u64) {
        let inner = self.inner.read();
        let here = inner.ends_since(since).filter(|end| end.seen.cluster == *cluster);
        (here.map(|end| Arc::clone(&end.seen.view)).collect(), inner.sequence)
    }

    /// Whether a workspace ended in a cluster at or after a time, or is about to: its record has not ended yet.
    pub fn ended_since(&self, id: &WorkspaceId, cluster: &ClusterName, since: Timestamp) -> bool {
        let inner = self.inner.read();
        inner.records.get(id).is_some_and(|(record, _)| {
            record.cluster == *cluster
                && match record.state {
                    RecordState::Ended { at, .. } => at >= since,
                    RecordState::Placed | RecordState::Confirmed => true,
                }
        })
    }
}
