//! Drains as this replica knows them: followed from etcd, and updated at once by the replica that writes
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::view::index::Index;
use crate::view::seen::Notice;
use domain::drain::Drain;
use domain::names::ClusterName;
use store::{Item, Progress};

/// All drains, by cluster.
pub struct KnownDrains {
    index: Arc<Index>,
    known: RwLock<Known>,
    changes: watch::Sender<()>,
    /// How far etcd was followed.
    pub(crate) progress: watch::Sender<Option<Progress>>,
}

#[derive(Default)]
struct Known {
    drains: BTreeMap<ClusterName, (Drain, i64)>,
    /// Everything up to this etcd revision was reported by the mirror.
    mirrored: i64,
}

impl KnownDrains {
    /// None yet; `index` is given each.
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
        self.known.read().drains.get(cluster).cloned()
    }

    /// Clusters whose drain is under way.
    pub fn active(&self) -> Vec<ClusterName> {
        let known = self.known.read();
        known
            .drains
            .iter()
            .filter(|(_, (drain, _))| drain.is_active())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Takes a drain as the mirror reports it. An older version than the one known is ignored.
    pub fn put(&self, drain: Drain, version: i64) {
        let mut known = self.known.write();
        known.mirrored = known.mirrored.max(version);
        self.take(&mut known, drain, version);
    }

    /// Takes a drain that was just written. Where the mirror is ahead, it may have reported the removal already.
    pub fn put_written(&self, drain: Drain, version: i64) {
        let mut known = self.known.write();
        if known.mirrored < version {
            self.take(&mut known, drain, version);
        }
    }

    fn take(&self, known: &mut Known, drain: Drain, version: i64) {
        let cluster = drain.cluster.clone();
        if known.drains.get(&cluster).is_some_and(|(_, before)| *before > version) {
            return;
        }
        let notice = drain.keeps_away().then_some(Notice { until: drain.deadline_at });
        known.drains.insert(cluster.clone(), (drain, version));
        // Under the lock, so that the index gets changes in their order.
        self.index.notice(&cluster, notice);
        self.changes.send_replace(());
    }

    /// Takes that a drain is gone: its cluster was deregistered.
    pub fn gone(&self, cluster: &ClusterName, version: i64) {
        let mut known = self.known.write();
        known.mirrored = known.mirrored.max(version);
        if known.drains.get(cluster).is_some_and(|(_, before)| *before > version) {
            return;
        }
        known.drains.remove(cluster);
        self.index.notice(cluster, None);
        drop(known);
        self.changes.send_replace(());
    }

    /// Takes the answer to a list at an etcd revision.
    pub fn are(&self, items: Vec<Item<Drain>>, revision: i64) {
        let gone: Vec<ClusterName> = {
            let known = self.known.read();
            let unlisted = |name: &&ClusterName| items.iter().all(|item| item.value.cluster != **name);
            known.drains.keys().filter(unlisted).cloned().collect()
        };
        for name in gone {
            self.gone(&name, revision);
        }
        for item in items {
            self.put(item.value, item.version);
        }
        let mut known = self.known.write();
        known.mirrored = known.mirrored.max(revision);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use domain::drain::Options;

    #[test]
    fn a_drain_that_went_with_its_cluster_does_not_come_back_by_a_late_answer() {
        let index = Arc::new(Index::new(1));
        let drains = KnownDrains::new(Arc::clone(&index));
        let eu: ClusterName = "eu-1".parse().unwrap();
        let drain = || Drain::begin(eu.clone(), Options::default(), 0, Timestamp::UNIX_EPOCH);
        drains.put_written(drain(), 5);
        assert!(index.is_draining(&eu) && drains.get(&eu).is_some());
        drains.put(drain(), 5);
        drains.gone(&eu, 8);
        drains.put_written(drain(), 7);
        assert!(!index.is_draining(&eu) && drains.get(&eu).is_none());
        drains.put_written(drain(), 9);
        assert!(index.is_draining(&eu), "one that is newer than what the mirror reported");
    }
}
