//! Resources of ours that no record places where they are, and all records of a cluster.

use jiff::{SignedDuration, Timestamp};

use super::{Index, Inner};
use crate::domain::names::{ClusterName, WorkspaceId};
use crate::domain::record::PlacementRecord;

/// Younger ones are left out: on a replica that does not lead, a record may be heard of a moment after its resource.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);

impl Index {
    /// The strays of a cluster that are no news, by id.
    pub fn strays(&self, cluster: &ClusterName, now: Timestamp) -> Vec<WorkspaceId> {
        let inner = self.inner.read();
        let settled = |id: &&WorkspaceId| {
            let resource = inner.resources.get(&((*id).clone(), cluster.clone()));
            let made = resource.and_then(|resource| resource.view.created_at);
            made.is_none_or(|made| now.duration_since(made) >= SETTLED)
        };
        inner.strays.get(cluster).into_iter().flatten().filter(settled).cloned().collect()
    }

    /// All records that name a cluster, those that have ended too.
    pub fn records_of(&self, cluster: &ClusterName) -> Vec<PlacementRecord> {
        let inner = self.inner.read();
        let here = inner.records.values().filter(|(record, _)| record.cluster == *cluster);
        here.map(|(record, _)| record.clone()).collect()
    }
}

impl Inner {
    /// Looks whether a resource is a stray now.
    pub(super) fn note_stray(&mut self, key: &(WorkspaceId, ClusterName)) {
        let resource = self.resources.get(key).filter(|resource| resource.view.ours);
        if resource.is_some_and(|resource| self.generation_at(key, resource).is_none()) {
            self.strays.entry(key.1.clone()).or_default().insert(key.0.clone());
        } else if let Some(strays) = self.strays.get_mut(&key.1) {
            strays.remove(&key.0);
        }
    }
}
