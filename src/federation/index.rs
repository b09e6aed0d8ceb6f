//! The fleet's workspaces as this replica sees them: a synchronous index over placement records and watched resources.
//!
//! It can be rebuilt from these two at any time. The lock is held for microseconds and never across an await. A
//! resource counts only where its record says that it belongs; what has no record is kept aside until one comes.

mod drains;
mod ends;
mod reads;
mod rewinds;
mod shown;
mod strays;
mod subscribe;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;

use super::events::{Event, Events};
use crate::domain::names::{ClusterName, Namespace, Region, WorkspaceId};
use crate::domain::record::{PlacementRecord, status_version};
use crate::domain::rewind::Rewinds;
use crate::domain::workspace::{Phase, View};

pub use drains::{Notice, Placed};
pub use rewinds::Found;
pub use shown::Shown;
pub use subscribe::{Expired, From};

/// A workspace with what the federation knows of its place.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What the resource says.
    pub view: Arc<Shown>,
    /// The owning cluster.
    pub cluster: ClusterName,
    /// Its region.
    pub region: Option<Region>,
    /// Orders states of one workspace, whoever answers.
    pub version: u64,
    /// Whether the cluster answers.
    pub reachable: bool,
    /// When the cluster last answered; absent while it is reachable.
    pub observed_at: Option<Timestamp>,
    /// Present while the cluster is being emptied.
    pub draining: Option<Notice>,
}

/// Where a resource is. The same id may be in several namespaces of a cluster.
type Key = (WorkspaceId, ClusterName, Namespace);

/// A record with its etcd revision, by which it is changed.
pub type Versioned = (PlacementRecord, i64);

/// What the index knows of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Its region.
    pub region: Region,
    /// Whether it answers.
    pub reachable: bool,
    /// When it last answered.
    pub last_answer: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<WorkspaceId, Versioned>,
    /// Live records by the long-lived id.
    live_by_meta: HashMap<String, WorkspaceId>,
    /// Live records by cluster.
    live_by_cluster: HashMap<ClusterName, BTreeSet<WorkspaceId>>,
    /// Resources by where they are, whether they belong there or not. Sorted as lists are.
    resources: BTreeMap<Key, Resource>,
    /// Resources of ours that no record places where they are, by cluster.
    strays: HashMap<ClusterName, BTreeSet<(WorkspaceId, Namespace)>>,
    clusters: HashMap<ClusterName, ClusterFacts>,
    /// Clusters that are being emptied.
    drains: HashMap<ClusterName, Notice>,
    /// Clusters that were set back, as recorded.
    rewinds: HashMap<ClusterName, Rewinds>,
    /// Clusters that were found set back and are not recorded so yet.
    rewound: BTreeMap<ClusterName, Found>,
    /// States of those whose versions fell.
    parked: HashMap<Key, View>,
    /// Last ends, for subscribers that resume.
    ends: VecDeque<Event>,
    sequence: u64,
    /// Sequence number of the oldest change that can be resumed from.
    resumable_from: u64,
}

#[derive(Debug)]
struct Resource {
    view: Arc<Shown>,
    /// Sequence number of its last published change.
    sequence: u64,
    /// How often its cluster was set back when the state was taken.
    rewinds: u32,
}

/// The index. Cheap to share.
#[derive(Debug)]
pub struct Index {
    inner: RwLock<Inner>,
    events: Arc<Events>,
    /// Tells this index from those of other replicas and earlier processes in resume tokens.
    instance: String,
    drain_changes: tokio::sync::watch::Sender<()>,
    rewound_changes: tokio::sync::watch::Sender<()>,
}

impl Index {
    /// An empty index whose subscribers get `buffer` places each.
    pub fn new(buffer: usize) -> Self {
        Self {
            inner: RwLock::default(),
            events: Arc::new(Events::new(buffer)),
            instance: uuid::Uuid::new_v4().simple().to_string(),
            drain_changes: tokio::sync::watch::Sender::default(),
            rewound_changes: tokio::sync::watch::Sender::default(),
        }
    }

    /// The subscribers.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Takes a record as etcd has it. Older versions than the one known are ignored.
    pub fn record(&self, record: PlacementRecord, version: i64) {
        let mut inner = self.inner.write();
        if inner.records.get(&record.workspace).is_some_and(|(_, known)| *known > version) {
            return;
        }
        let id = record.workspace.clone();
        inner.unlink(&id);
        inner.link(&record);
        let key = key_of(&record);
        let generation = record.generation;
        let given_up = record.given_up.is_some().then(|| record.clone());
        let before = inner.records.insert(id.clone(), (record, version)).map(|(record, _)| record);
        self.stir(&inner, &key.1);
        inner.note_stray(&key);
        let moved = before.as_ref().map(key_of).filter(|before| *before != key);
        if let Some(before) = &moved {
            inner.note_stray(before);
        }
        if let Some(given_up) = given_up.filter(|_| before.as_ref().is_some_and(PlacementRecord::is_live)) {
            self.announce_given_up(&mut inner, &given_up);
            return;
        }
        // A resource that waited for its record, or whose generation grew, is news.
        let is_news = |before: &PlacementRecord| before.generation != generation || moved.is_some();
        if inner.resources.contains_key(&key) && before.as_ref().is_none_or(is_news) {
            self.announce(&mut inner, &key);
        }
    }

    /// Takes the removal of a record, unless a newer one is known.
    pub fn record_gone(&self, id: &WorkspaceId, version: i64) {
        let mut inner = self.inner.write();
        if inner.records.get(id).is_some_and(|(_, known)| *known > version) {
            return;
        }
        inner.unlink(id);
        if let Some((record, _)) = inner.records.remove(id) {
            inner.note_stray(&key_of(&record));
            self.stir(&inner, &record.cluster);
        }
    }

    /// Keeps only the records given: the answer to a list at an etcd revision. What was changed here since stays.
    pub fn records_are(&self, all: Vec<Versioned>, revision: i64) {
        let gone: Vec<(WorkspaceId, i64)> = {
            let inner = self.inner.read();
            let listed: std::collections::HashSet<&WorkspaceId> =
                all.iter().map(|(record, _)| &record.workspace).collect();
            inner
                .records
                .iter()
                .filter(|(id, (_, version))| !listed.contains(id) && *version <= revision)
                .map(|(id, (_, version))| (id.clone(), *version))
                .collect()
        };
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

    /// Ids whose live record names a namespace of a cluster.
    pub fn placed_in(&self, cluster: &ClusterName, namespace: &Namespace) -> Vec<WorkspaceId> {
        let inner = self.inner.read();
        let ids = inner.live_by_cluster.get(cluster).into_iter().flatten();
        let there = |id: &&WorkspaceId| {
            inner.records.get(*id).is_some_and(|(record, _)| record.namespace == *namespace)
        };
        ids.filter(there).cloned().collect()
    }

    /// How many live records a cluster has.
    pub fn count_on(&self, cluster: &ClusterName) -> usize {
        self.inner.read().live_by_cluster.get(cluster).map_or(0, BTreeSet::len)
    }

    /// Live records.
    pub fn live_records(&self) -> Vec<Versioned> {
        self.inner.read().records.values().filter(|(record, _)| record.is_live()).cloned().collect()
    }

    /// Takes a resource as a cluster's watch shows it. A state older than the one known is ignored.
    pub fn resource(&self, cluster: &ClusterName, view: View) {
        let mut inner = self.inner.write();
        let key = (view.id.clone(), cluster.clone(), view.namespace.clone());
        let rewinds = inner.rewinds_on(cluster);
        let known = inner.resources.get(&key);
        if let Some(known) = known
            && known.view.uid == view.uid
            && known.view.resource_version > view.resource_version
            && known.rewinds >= rewinds
        {
            inner.park(key, view);
            return;
        }
        let silent = known.is_some_and(|known| known.view.same_but_for_activity(&view));
        let sequence = known.map_or(0, |known| known.sequence);
        inner.resources.insert(key.clone(), Resource { view: Arc::new(view.into()), sequence, rewinds });
        inner.note_stray(&key);
        inner.parked.remove(&key);
        if !silent {
            self.stir(&inner, cluster);
            self.announce(&mut inner, &key);
        }
    }

    /// Takes the disappearance of a resource. Where its end was not shown yet, it is shown now, with this message.
    pub fn resource_gone(
        &self,
        cluster: &ClusterName,
        namespace: &Namespace,
        id: &WorkspaceId,
        message: String,
    ) {
        let mut inner = self.inner.write();
        let key = (id.clone(), cluster.clone(), namespace.clone());
        let Some(last) = inner.resources.remove(&key) else { return };
        inner.note_stray(&key);
        inner.parked.remove(&key);
        self.stir(&inner, cluster);
        let Some(generation) = inner.generation_at(&key, &last) else { return };
        let (version, view) = if last.view.phase == Phase::Stopped {
            (status_version(generation, last.view.resource_version), last.view)
        } else {
            // Above all versions of this generation and the same on every replica.
            let ended = View { phase: Phase::Stopped, deleting: true, message, ..View::clone(&last.view) };
            (status_version(generation, u64::MAX), Arc::new(ended.into()))
        };
        let seen = inner.seen(&key.1, view, version);
        let shown = last.sequence != 0 && last_was_the_end(&seen, version, generation);
        let event = inner.ended(seen);
        if !shown {
            self.events.publish(&event);
        }
    }

    /// Takes what is known of a cluster. Its workspaces are announced again where it became reachable or was lost.
    pub fn cluster(&self, name: &ClusterName, facts: ClusterFacts) {
        let mut inner = self.inner.write();
        let (reachable, region) = (facts.reachable, facts.region.clone());
        let before = inner.clusters.insert(name.clone(), facts);
        if before.is_none_or(|before| before.reachable == reachable && before.region == region) {
            return;
        }
        let keys: Vec<_> =
            inner.resources.keys().filter(|(_, cluster, _)| cluster == name).cloned().collect();
        for key in keys {
            self.announce(&mut inner, &key);
        }
    }

    /// Forgets a cluster and its resources; its records stay. No end is announced: the workspaces may run on.
    pub fn cluster_gone(&self, name: &ClusterName) {
        let mut inner = self.inner.write();
        inner.clusters.remove(name);
        inner.strays.remove(name);
        inner.resources.retain(|(_, cluster, _), _| cluster != name);
        inner.forget_rewinds(name);
    }

    /// Publishes the present state of a resource, where it belongs.
    fn announce(&self, inner: &mut Inner, key: &Key) {
        let Some(seen) = inner.visible(key) else { return };
        inner.sequence += 1;
        let sequence = inner.sequence;
        if let Some(resource) = inner.resources.get_mut(key) {
            resource.sequence = sequence;
        }
        self.events.publish(&Event { sequence, seen });
    }
}

/// Where a record says that its resource is.
fn key_of(record: &PlacementRecord) -> Key {
    (record.workspace.clone(), record.cluster.clone(), record.namespace.clone())
}

/// Whether the state published last was already the end.
fn last_was_the_end(seen: &Seen, version: u64, generation: u32) -> bool {
    seen.view.phase == Phase::Stopped && version != status_version(generation, u64::MAX)
}

impl Inner {
    fn link(&mut self, record: &PlacementRecord) {
        if record.is_live() {
            self.live_by_meta.insert(record.meta.to_string(), record.workspace.clone());
            let placed = self.live_by_cluster.entry(record.cluster.clone()).or_default();
            placed.insert(record.workspace.clone());
        }
    }

    fn unlink(&mut self, id: &WorkspaceId) {
        let Some((record, _)) = self.records.get(id) else { return };
        if self.live_by_meta.get(record.meta.as_str()) == Some(id) {
            self.live_by_meta.remove(record.meta.as_str());
        }
        if let Some(placed) = self.live_by_cluster.get_mut(&record.cluster) {
            placed.remove(id);
        }
    }

    /// The generation of a resource, where its record says that it belongs there and is of its start. What was given up
    /// belongs nowhere any more.
    fn generation_at(&self, key: &Key, resource: &Resource) -> Option<u32> {
        let (record, _) = self.records.get(&key.0)?;
        let view = &resource.view;
        let is_here = record.cluster == key.1 && record.namespace == key.2 && record.given_up.is_none();
        (is_here && record.takes(&view.digest, view.generation))
            .then(|| record.generation.max(resource.view.generation).saturating_add(resource.rewinds))
    }

    fn visible(&self, key: &Key) -> Option<Seen> {
        self.visible_as(key, self.resources.get(key)?)
    }

    fn visible_as(&self, key: &Key, resource: &Resource) -> Option<Seen> {
        let generation = self.generation_at(key, resource)?;
        let version = status_version(generation, resource.view.resource_version);
        Some(self.seen(&key.1, Arc::clone(&resource.view), version))
    }

    fn seen(&self, cluster: &ClusterName, view: Arc<Shown>, version: u64) -> Seen {
        let facts = self.clusters.get(cluster);
        let reachable = facts.is_some_and(|facts| facts.reachable);
        Seen {
            view,
            cluster: cluster.clone(),
            region: facts.map(|facts| facts.region.clone()),
            version,
            reachable,
            observed_at: facts.filter(|_| !reachable).and_then(|facts| facts.last_answer),
            draining: self.drains.get(cluster).copied(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
