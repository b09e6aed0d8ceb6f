//! The state of the index, and how a resource is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;

use crate::view::encoded_status::Shown;
use crate::view::events::{Event, Events};
use crate::view::seen::{Notice, Seen};
use domain::ending::Ending;
use domain::names::{ClusterName, MetaId, Namespace, Region, WorkspaceId};
use domain::record::{PlacementRecord, status_version};
use domain::restore::Restores;
use domain::workspace::{Phase, View};

/// Workspaces that are read, or published again, under the lock at a time.
pub(super) const LOOK: usize = 64;

/// Where a resource is. The same id may be in several namespaces of a cluster.
pub(super) type Key = (WorkspaceId, ClusterName, Namespace);

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

/// One connection to a cluster, from its opening until another takes its place or there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub(super) cluster: ClusterName,
    pub(super) number: u64,
}

impl Session {
    /// The cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// The session in use.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    /// Namespaces that it has not listed yet.
    pub(super) unlisted: BTreeSet<Namespace>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Sorted as lists are.
    pub(super) records: BTreeMap<WorkspaceId, Versioned>,
    /// Live records by the long-lived id.
    pub(super) live_by_meta: HashMap<String, WorkspaceId>,
    /// Live records that do not say whose ports' URLs theirs are, as an earlier release made them.
    pub(super) unnoted: BTreeMap<WorkspaceId, MetaId>,
    /// Live records by cluster.
    pub(super) live_by_cluster: HashMap<ClusterName, BTreeSet<WorkspaceId>>,
    /// Resources by where they are, whether they belong there or not.
    pub(super) resources: BTreeMap<Key, Resource>,
    /// Those that were published, by the sequence number of their last change.
    pub(super) by_sequence: BTreeMap<u64, Key>,
    /// Orphans, by cluster.
    pub(super) strays: HashMap<ClusterName, BTreeSet<(WorkspaceId, Namespace)>>,
    pub(super) clusters: HashMap<ClusterName, ClusterFacts>,
    /// The connection that is in use to each cluster.
    pub(super) sessions: HashMap<ClusterName, Current>,
    /// Number of the last session.
    pub(super) last_session: u64,
    /// Clusters that are being emptied.
    pub(super) drains: HashMap<ClusterName, Notice>,
    /// Clusters that were restored, as recorded.
    pub(super) rewinds: HashMap<ClusterName, Restores>,
    /// Clusters whose restore was detected and is not recorded yet.
    pub(super) rewound: BTreeSet<ClusterName>,
    /// States of those whose versions fell.
    pub(super) parked: HashMap<Key, View>,
    /// Why what was decided about workspaces cannot be written.
    pub(super) obstacles: HashMap<Key, Arc<str>>,
    /// How workspaces ended whose records are yet to end.
    pub(super) endings: HashMap<WorkspaceId, Ending>,
    /// Last ends, for subscribers that resume.
    pub(super) ends: VecDeque<Event>,
    pub(super) sequence: u64,
    /// Sequence number of the oldest change that can be resumed from.
    pub(super) resumable_from: u64,
}

#[derive(Debug)]
pub(super) struct Resource {
    pub(super) view: Arc<Shown>,
    /// Sequence number of its last published change.
    pub(super) sequence: u64,
    /// How often its cluster had been restored when the state was taken.
    pub(super) rewinds: u32,
    /// The last phase in which it was not ending; where none was seen, that in which it was first.
    pub(super) reached: Phase,
    /// Number of the session that last reported it.
    pub(super) session: u64,
}

/// The index. Cheap to share.
#[derive(Debug)]
pub struct Index {
    pub(super) inner: RwLock<Inner>,
    pub(super) events: Arc<Events>,
    /// Tells this index from those of other replicas and earlier processes in resume tokens.
    pub(super) instance: String,
    pub(super) drain_changes: tokio::sync::watch::Sender<()>,
    pub(super) rewound_changes: tokio::sync::watch::Sender<()>,
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

    /// Changes the index; subscribers get what was published once the lock is released.
    pub(super) fn change<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let result = act(&mut self.inner.write());
        self.events.deliver();
        result
    }
}

/// Where a record says that its resource is.
pub(super) fn key_of(record: &PlacementRecord) -> Key {
    (record.workspace.clone(), record.cluster.clone(), record.namespace.clone())
}

impl Inner {
    /// The first resources after one.
    pub(super) fn keys_after(&self, after: Option<&Key>) -> Vec<Key> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.resources.range((from, Bound::Unbounded)).take(LOOK).map(|(key, _)| key.clone()).collect()
    }

    /// The generation of a resource, where its record says that it belongs there and is of its start. What was given up
    /// belongs nowhere any more.
    pub(super) fn generation_at(&self, key: &Key, resource: &Resource) -> Option<u32> {
        let (record, _) = self.records.get(&key.0)?;
        let view = &resource.view;
        let is_here = record.cluster == key.1 && record.namespace == key.2 && record.given_up.is_none();
        (is_here && record.takes(&view.digest, view.generation))
            .then(|| record.generation.max(resource.view.generation).saturating_add(resource.rewinds))
    }

    pub(super) fn visible(&self, key: &Key) -> Option<Seen> {
        self.visible_as(key, self.resources.get(key)?)
    }

    pub(super) fn visible_as(&self, key: &Key, resource: &Resource) -> Option<Seen> {
        let generation = self.generation_at(key, resource)?;
        let version = status_version(generation, resource.view.resource_version);
        Some(self.seen(&key.1, Arc::clone(&resource.view), version))
    }

    pub(super) fn seen(&self, cluster: &ClusterName, view: Arc<Shown>, version: u64) -> Seen {
        let facts = self.clusters.get(cluster);
        let obstacle = self.obstacle(cluster, &view);
        let reachable = facts.is_some_and(|facts| facts.reachable);
        Seen {
            view,
            cluster: cluster.clone(),
            region: facts.map(|facts| facts.region.clone()),
            version,
            reachable,
            observed_at: facts.filter(|_| !reachable).and_then(|facts| facts.last_answer),
            draining: self.drains.get(cluster).copied(),
            obstacle,
        }
    }
}
