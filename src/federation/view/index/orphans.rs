//! Orphans: resources of this installation that no placement record puts where they are; and all records of
//! a cluster.

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};

use super::state::{Index, Inner, Key, Resource, Session};
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::record::PlacementRecord;

/// Younger ones are left out: a replica that does not lead may see a record a moment after its resource.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);

impl Index {
    /// The orphans of a cluster that are older than [`SETTLED`], by id.
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

    /// Takes that a resource is not owned any more. No end is published: it may run on.
    pub fn let_go(&self, session: &Session, namespace: &Namespace, id: &WorkspaceId) {
        self.change(|inner| {
            if inner.is_current(session) {
                inner.forget(&(id.clone(), session.cluster().clone(), namespace.clone()));
            }
        });
    }

    /// All records that name a cluster, those that have ended too.
    pub fn records_of(&self, cluster: &ClusterName) -> Vec<PlacementRecord> {
        let mut here = Vec::new();
        self.each_record("", |_, (record, _)| {
            here.extend(Some(record).filter(|record| record.cluster == *cluster).cloned());
            ControlFlow::Continue(())
        });
        here
    }
}

impl Inner {
    /// Removes a resource from everything that knows it.
    pub(super) fn take_resource(&mut self, key: &Key) -> Option<Resource> {
        let taken = self.resources.remove(key)?;
        self.by_sequence.remove(&taken.sequence);
        Some(taken)
    }

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
