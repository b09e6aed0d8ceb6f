//! States of clusters that were set back: what counts from an old backup's versions on gets versions above all before.
//!
//! The number of times is recorded in etcd, so that all replicas count alike. A state whose version fell waits until the
//! record tells of one time more than it was shown under.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Index, Inner, Key};
use crate::domain::names::ClusterName;
use crate::domain::rewind::Rewinds;
use crate::domain::workspace::View;

/// How it was found that a cluster was set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// The canary was written at a version below its last.
    Written,
    /// A list named states of before those known.
    Listed,
}

impl Index {
    /// Takes how often a cluster was set back, as etcd has it; whether that is news.
    pub fn rewinds(&self, cluster: &ClusterName, rewinds: Rewinds) -> bool {
        let mut inner = self.inner.write();
        let known = inner.rewinds.get(cluster).map_or(0, |known| known.count);
        if rewinds.count <= known {
            return false;
        }
        inner.rewinds.insert(cluster.clone(), rewinds);
        // What only the canary told waits for a list.
        if inner.rewound.remove(cluster) == Some(Found::Listed) {
            self.restamp(&mut inner, cluster);
        }
        true
    }

    /// How often a cluster was set back.
    pub fn rewinds_of(&self, cluster: &ClusterName) -> Option<Rewinds> {
        self.inner.read().rewinds.get(cluster).copied()
    }

    /// Takes that this replica found a cluster set back. Where the record told of it before, that was expected.
    pub fn rewound(&self, cluster: &ClusterName, found: Found) {
        let mut inner = self.inner.write();
        let count = inner.rewinds_on(cluster);
        if inner.resources.iter().any(|(key, resource)| key.1 == *cluster && resource.rewinds < count) {
            return;
        }
        let known = inner.rewound.entry(cluster.clone()).or_insert(found);
        *known = found.max(*known);
        self.rewound_changes.send_replace(());
    }

    /// Clusters that were found set back and whose record does not tell of it yet.
    pub fn unrecorded_rewinds(&self) -> Vec<ClusterName> {
        self.inner.read().rewound.keys().cloned().collect()
    }

    /// Wakes when there are others.
    pub fn rewinds_found(&self) -> watch::Receiver<()> {
        self.rewound_changes.subscribe()
    }

    /// Whether a cluster was found set back and its record does not tell of it yet.
    pub fn is_rewound(&self, cluster: &ClusterName) -> bool {
        self.inner.read().rewound.contains_key(cluster)
    }

    /// Takes that everything of a cluster was listed: from then on its states are those of after the last time.
    pub fn listed(&self, cluster: &ClusterName) {
        let mut inner = self.inner.write();
        if !inner.rewound.contains_key(cluster) {
            self.restamp(&mut inner, cluster);
        }
    }

    /// Shows every state of a cluster under the recorded number.
    fn restamp(&self, inner: &mut Inner, cluster: &ClusterName) {
        let count = inner.rewinds_on(cluster);
        let behind: Vec<Key> = inner
            .resources
            .iter()
            .filter(|(key, resource)| key.1 == *cluster && resource.rewinds < count)
            .map(|(key, _)| key.clone())
            .collect();
        for key in behind {
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
    /// How often a cluster was set back, as recorded.
    pub(super) fn rewinds_on(&self, cluster: &ClusterName) -> u32 {
        self.rewinds.get(cluster).map_or(0, |rewinds| rewinds.count)
    }

    /// Forgets what is known of a cluster's past.
    pub(super) fn forget_rewinds(&mut self, cluster: &ClusterName) {
        self.parked.retain(|(_, at, _), _| at != cluster);
        self.rewound.remove(cluster);
        self.rewinds.remove(cluster);
    }

    /// Keeps a state whose version fell until the record tells why.
    pub(super) fn park(&mut self, key: Key, view: View) {
        if self.rewound.contains_key(&key.1) {
            self.parked.insert(key, view);
        }
    }
}
