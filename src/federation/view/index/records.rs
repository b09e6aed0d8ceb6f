//! Placement records, as etcd has them.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::state::{Index, Inner, Versioned, key_of};
use domain::names::{ClusterName, WorkspaceId};
use domain::record::PlacementRecord;

impl Index {
    /// Takes a record as etcd has it. Older versions than the one known are ignored.
    pub fn record(&self, record: PlacementRecord, version: i64) {
        self.change(|inner| self.take_record(inner, record, version));
    }

    fn take_record(&self, inner: &mut Inner, record: PlacementRecord, version: i64) {
        if inner.records.get(&record.workspace).is_some_and(|(_, known)| *known > version) {
            return;
        }
        let id = record.workspace.clone();
        inner.unlink(&id);
        inner.link(&record);
        let key = key_of(&record);
        let generation = record.generation;
        let given_up = record.given_up.is_some().then(|| record.clone());
        let is_live = record.is_live();
        if !is_live {
            inner.endings.remove(&id);
        }
        let before = inner.records.insert(id.clone(), (record, version)).map(|(record, _)| record);
        self.stir(inner, &key.1);
        inner.note_stray(&key);
        let moved = before.as_ref().map(key_of).filter(|before| *before != key);
        if let Some(before) = &moved {
            inner.note_stray(before);
        }
        if let Some(given_up) = given_up.filter(|_| before.as_ref().is_some_and(PlacementRecord::is_live)) {
            self.announce_given_up(inner, &given_up);
            return;
        }
        let ends = !is_live && before.as_ref().is_some_and(PlacementRecord::is_live);
        if ends && !inner.sessions.contains_key(&key.1) {
            // Nothing else will report the end here. A record that had ended says nothing new: its resource may have come
            // back with a restored cluster.
            self.end_unseen(inner, &key);
            return;
        }
        // A resource that waited for its record, or whose generation grew, is published.
        let is_news = |before: &PlacementRecord| before.generation != generation || moved.is_some();
        let waits = inner.resources.get(&key).map(|resource| resource.sequence == 0);
        if waits.is_some_and(|waits| waits || before.as_ref().is_none_or(is_news)) {
            self.announce(inner, &key);
        }
    }

    /// Takes the removal of a record, unless a newer one is known.
    pub fn record_gone(&self, id: &WorkspaceId, version: i64) {
        self.change(|inner| {
            let Some((record, known)) = inner.records.get(id) else { return };
            if *known > version {
                return;
            }
            let key = key_of(record);
            if !inner.sessions.contains_key(&key.1) {
                // Nothing else will report the end here.
                self.end_unseen(inner, &key);
            }
            inner.unlink(id);
            inner.records.remove(id);
            inner.endings.remove(id);
            inner.note_stray(&key);
            self.stir(inner, &key.1);
        });
    }

    /// Keeps only the records given: the answer to a list at an etcd revision. What was changed here since stays.
    pub fn records_are(&self, all: Vec<Versioned>, revision: i64) {
        let listed: HashSet<WorkspaceId> = all.iter().map(|(record, _)| record.workspace.clone()).collect();
        let mut gone = Vec::new();
        self.each_record("", |_, (record, version)| {
            if *version <= revision && !listed.contains(&record.workspace) {
                gone.push((record.workspace.clone(), *version));
            }
            ControlFlow::Continue(())
        });
        for (id, version) in gone {
            self.record_gone(&id, version);
        }
        for (record, version) in all {
            self.record(record, version);
        }
    }

    /// The record of a workspace.
    pub fn record_of(&self, id: &WorkspaceId) -> Option<Versioned> {
        self.inner.read().records.get(id).cloned()
    }

    /// Whether a workspace's record says that it is over.
    pub fn has_ended(&self, id: &WorkspaceId) -> bool {
        self.inner.read().records.get(id).is_some_and(|(record, _)| !record.is_live())
    }

    /// The live workspace that has the long-lived id.
    pub fn live_of_meta(&self, meta: &str) -> Option<WorkspaceId> {
        self.inner.read().live_by_meta.get(meta).cloned()
    }

    /// Ids of the live records of a cluster.
    pub fn placed_on(&self, cluster: &ClusterName) -> Vec<WorkspaceId> {
        self.inner.read().live_by_cluster.get(cluster).into_iter().flatten().cloned().collect()
    }
}

impl Inner {
    fn link(&mut self, record: &PlacementRecord) {
        if record.is_live() {
            self.live_by_meta.insert(record.meta.to_string(), record.workspace.clone());
            if record.port_of.is_none() {
                self.unnoted.insert(record.workspace.clone(), record.meta.clone());
            }
            let placed = self.live_by_cluster.entry(record.cluster.clone()).or_default();
            placed.insert(record.workspace.clone());
        }
    }

    fn unlink(&mut self, id: &WorkspaceId) {
        self.unnoted.remove(id);
        let Some((record, _)) = self.records.get(id) else { return };
        if self.live_by_meta.get(record.meta.as_str()) == Some(id) {
            self.live_by_meta.remove(record.meta.as_str());
        }
        if let Some(placed) = self.live_by_cluster.get_mut(&record.cluster) {
            placed.remove(id);
        }
    }
}
