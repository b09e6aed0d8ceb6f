//! Resources of ours that no record places where they are, and all records of a cluster.

use jiff::{SignedDuration, Timestamp};

use super::{Index, Inner, Key};
use crate::domain::names::{ClusterName, Namespace, WorkspaceId};
use crate::domain::record::PlacementRecord;

/// Younger ones are left out: on a replica that does not lead, a record may be heard of a moment after its resource.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);

impl Index {
    /// The strays of a cluster that are no news, by id.
    pub fn strays(&self, cluster: &ClusterName, now: Timestamp) -> Vec<WorkspaceId> {
        let inner = self.inner.read();
        let settled = |(id, namespace): &&(WorkspaceId, Namespace)| {
            let resource = inner.resources.get(&(id.clone(), cluster.clone(), namespace.clone()));
            let made = resource.and_then(|resource| resource.view.created_at);
            made.is_none_or(|made| now.duration_since(made) >= SETTLED)
        };
        let strays = inner.strays.get(cluster).into_iter().flatten().filter(settled);
        strays.map(|(id, _)| id.clone()).collect()
    }

    /// Takes that a resource is not ours to show any more. No end is announced: it may run on.
    pub fn let_go(&self, cluster: &ClusterName, namespace: &Namespace, id: &WorkspaceId) {
        let mut inner = self.inner.write();
        let key = (id.clone(), cluster.clone(), namespace.clone());
        inner.resources.remove(&key);
        inner.parked.remove(&key);
        inner.note_stray(&key);
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
    pub(super) fn note_stray(&mut self, key: &Key) {
        let resource = self.resources.get(key).filter(|resource| resource.view.ours);
        if resource.is_some_and(|resource| self.generation_at(key, resource).is_none()) {
            self.strays.entry(key.1.clone()).or_default().insert((key.0.clone(), key.2.clone()));
        } else if let Some(strays) = self.strays.get_mut(&key.1) {
            strays.remove(&(key.0.clone(), key.2.clone()));
        }
    }
}
