//! Clusters that were restored from a backup of their etcd: resource versions there fall, and the versions
//! shown must not.
//!
//! The number of restores is recorded in etcd, so that all replicas count alike. A state whose version fell
//! waits until the recorded number is above the one that the workspace was last shown under.

use std::sync::Arc;

use tokio::sync::watch;

use super::state::{Index, Inner, Key, Resource, Session};
use domain::names::{ClusterName, Namespace};
use domain::restore::Restores;
use domain::workspace::View;

impl Index {
    /// Takes how often a cluster was restored, as etcd has it; whether that is new. Its states are shown under the new
    /// number as they are listed again: until then, it is not known which of them are of before the restore.
    pub fn rewinds(&self, cluster: &ClusterName, rewinds: Restores) -> bool {
        self.change(|inner| {
            let known = inner.rewinds.get(cluster).map_or(0, |known| known.count);
            if rewinds.count <= known {
                return false;
            }
            inner.rewinds.insert(cluster.clone(), rewinds);
            inner.rewound.remove(cluster);
            true
        })
    }

    /// How often a cluster was restored.
    pub fn rewinds_of(&self, cluster: &ClusterName) -> Option<Restores> {
        self.inner.read().rewinds.get(cluster).copied()
    }

    /// Takes that this replica detected a restore. Where the restore is recorded already, that was expected.
    pub fn rewound(&self, session: &Session) {
        let cluster = session.cluster();
        let mut inner = self.inner.write();
        if !inner.is_current(session) {
            return;
        }
        let count = inner.rewinds_on(cluster);
        if inner.resources.iter().any(|(key, resource)| key.1 == *cluster && resource.rewinds < count) {
            return;
        }
        inner.rewound.insert(cluster.clone());
        self.rewound_changes.send_replace(());
    }

    /// Clusters whose restore was detected and is not recorded yet.
    pub fn unrecorded_rewinds(&self) -> Vec<ClusterName> {
        self.inner.read().rewound.iter().cloned().collect()
    }

    /// Wakes when there are others.
    pub fn rewinds_found(&self) -> watch::Receiver<()> {
        self.rewound_changes.subscribe()
    }

    /// Whether a restore of a cluster was detected and is not recorded yet.
    pub fn is_rewound(&self, cluster: &ClusterName) -> bool {
        self.inner.read().rewound.contains(cluster)
    }

    /// Shows every state of a namespace under the recorded number.
    pub(super) fn restamp(&self, inner: &mut Inner, cluster: &ClusterName, namespace: &Namespace) {
        let count = inner.rewinds_on(cluster);
        let is_behind = |at: &Namespace, resource: &Resource| at == namespace && resource.rewinds < count;
        for key in inner.keys_of(cluster, is_behind) {
            let parked = inner.parked.remove(&key);
            if let Some(resource) = inner.resources.get_mut(&key) {
                resource.rewinds = count;
                if let Some(view) = parked {
                    resource.view = Arc::new(view.into());
                }
            }
            self.announce(inner, &key);
        }
    }
}

impl Inner {
    /// How often a cluster was restored, as recorded.
    pub(super) fn rewinds_on(&self, cluster: &ClusterName) -> u32 {
        self.rewinds.get(cluster).map_or(0, |rewinds| rewinds.count)
    }

    /// Forgets what is known of a cluster's past.
    pub(super) fn forget_rewinds(&mut self, cluster: &ClusterName) {
        self.parked.retain(|(_, at, _), _| at != cluster);
        self.rewound.remove(cluster);
        self.rewinds.remove(cluster);
    }

    /// Keeps a state whose version fell until a restore is recorded: where a restore was detected, and where it is the
    /// first that a connection reports, which nothing later can have overtaken.
    pub(super) fn park(&mut self, key: Key, view: View, is_first: bool) {
        if is_first || self.rewound.contains(&key.1) {
            self.parked.insert(key, view);
        }
    }
}
