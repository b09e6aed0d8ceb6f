//! The drains as this replica knows them: followed from etcd, and put here at once by who changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::domain::drain::Drain;
use crate::domain::names::ClusterName;
use crate::federation::index::{Index, Notice};
use crate::store::{Item, Progress};

/// All drains, by cluster.
pub struct Drains {
    index: Arc<Index>,
    known: RwLock<BTreeMap<ClusterName, (Drain, i64)>>,
    changes: watch::Sender<()>,
    /// How far etcd was followed.
    pub(in crate::federation) progress: watch::Sender<Option<Progress>>,
}

impl Drains {
    /// None yet; tells `index` of each.
    pub fn new(index: Arc<Index>) -> Self {
        Self {
            index,
            known: RwLock::default(),
            changes: watch::Sender::default(),
            progress: watch::Sender::default(),
        }
    }

    /// Wakes when a drain has changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The drain of a cluster, with what a change of it must show.
    pub fn get(&self, cluster: &ClusterName) -> Option<(Drain, i64)> {
        self.known.read().get(cluster).cloned()
    }

    /// Clusters whose drain is under way.
    pub fn active(&self) -> Vec<ClusterName> {
        let known = self.known.read();
        known.iter().filter(|(_, (drain, _))| drain.is_active()).map(|(name, _)| name.clone()).collect()
    }

    /// Takes a drain as it is recorded. An older version than the one known is ignored.
    pub fn put(&self, drain: Drain, version: i64) {
        let mut known = self.known.write();
        let cluster = drain.cluster.clone();
        if known.get(&cluster).is_some_and(|(_, before)| *before > version) {
            return;
        }
        let notice = drain.keeps_away().then_some(Notice { until: drain.deadline_at });
        known.insert(cluster.clone(), (drain, version));
        // Under the lock, so that the index hears of changes in their order.
        self.index.notice(&cluster, notice);
        drop(known);
        self.changes.send_replace(());
    }

    /// Takes that a drain is gone: its cluster was deregistered.
    pub fn gone(&self, cluster: &ClusterName, version: i64) {
        let mut known = self.known.write();
        if known.get(cluster).is_some_and(|(_, before)| *before > version) {
            return;
        }
        known.remove(cluster);
        self.index.notice(cluster, None);
        drop(known);
        self.changes.send_replace(());
    }

    /// Takes the answer to a list at an etcd revision.
    pub fn are(&self, items: Vec<Item<Drain>>, revision: i64) {
        let gone: Vec<ClusterName> = {
            let known = self.known.read();
            let unlisted = |name: &&ClusterName| items.iter().all(|item| item.value.cluster != **name);
            known.keys().filter(unlisted).cloned().collect()
        };
        for name in gone {
            self.gone(&name, revision);
        }
        for item in items {
            self.put(item.value, item.version);
        }
    }
}
