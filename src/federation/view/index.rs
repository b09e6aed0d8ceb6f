//! The fleet's workspaces as this replica sees them: a synchronous index over placement records and watched resources.
//!
//! It can be rebuilt from these two at any time. The lock is held for microseconds and never across an await: a read of
//! many workspaces takes it for a few of them at a time, and subscribers get what is published after it is released. A
//! resource counts only where its record says that it belongs; what has no record is kept aside until one comes.

mod clusters;
mod drains;
mod ends;
mod reads;
mod records;
mod rewinds;
mod session;
mod shown;
mod strays;
mod subscribe;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;

use crate::view::events::{Event, Events};
use domain::ending::Ending;
use domain::names::{ClusterName, MetaId, Namespace, Region, WorkspaceId};
use domain::record::{PlacementRecord, status_version};
use domain::rewind::Rewinds;
use domain::workspace::{Phase, View};

pub use drains::{Notice, Placed};
pub use session::Session;
pub use shown::Shown;
pub use subscribe::{Expired, From, Subscription};

/// Workspaces that are read, or published again, under the lock at a time.
const LOOK: usize = 64;

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
    /// Sorted as lists are.
    records: BTreeMap<WorkspaceId, Versioned>,
    /// Live records by the long-lived id.
    live_by_meta: HashMap<String, WorkspaceId>,
    /// Live records that do not say whose ports' URLs theirs are, as an earlier release made them.
    unnoted: BTreeMap<WorkspaceId, MetaId>,
    /// Live records by cluster.
    live_by_cluster: HashMap<ClusterName, BTreeSet<WorkspaceId>>,
    /// Resources by where they are, whether they belong there or not.
    resources: BTreeMap<Key, Resource>,
    /// Those that were published, by the sequence number of their last change.
    by_sequence: BTreeMap<u64, Key>,
    /// Resources of ours that no record places where they are, by cluster.
    strays: HashMap<ClusterName, BTreeSet<(WorkspaceId, Namespace)>>,
    clusters: HashMap<ClusterName, ClusterFacts>,
    /// The connection that is in use to each cluster.
    sessions: HashMap<ClusterName, session::Current>,
    /// Number of the last session.
    last_session: u64,
    /// Clusters that are being emptied.
    drains: HashMap<ClusterName, Notice>,
    /// Clusters that were set back, as recorded.
    rewinds: HashMap<ClusterName, Rewinds>,
    /// Clusters that were found set back and are not recorded so yet.
    rewound: BTreeSet<ClusterName>,
    /// States of those whose versions fell.
    parked: HashMap<Key, View>,
    /// How workspaces ended whose records are yet to end.
    endings: HashMap<WorkspaceId, Ending>,
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
    /// The last phase in which it was not ending; where none was seen, that in which it was first.
    reached: Phase,
    /// Number of the session that last reported it.
    session: u64,
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

    /// Changes the index; subscribers get what was published once the lock is released.
    fn change<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let result = act(&mut self.inner.write());
        self.events.deliver();
        result
    }

    /// Takes a resource as a cluster's watch shows it. A version that is known is no news, even if the view differs, as it
    /// does after the configuration changed: clients take equal versions for equal states. Neither is an older one.
    pub fn resource(&self, session: &Session, view: View) {
        self.change(|inner| {
            if inner.is_current(session) {
                self.take_view(inner, session, view);
            }
        });
    }

    fn take_view(&self, inner: &mut Inner, session: &Session, view: View) {
        let cluster = session.cluster();
        let key = (view.id.clone(), cluster.clone(), view.namespace.clone());
        let rewinds = inner.rewinds_on(cluster);
        let known = inner.resources.get_mut(&key);
        if let Some(known) = known {
            let is_first = std::mem::replace(&mut known.session, session.number()) != session.number();
            if known.view.uid == view.uid && known.rewinds >= rewinds {
                match view.resource_version.cmp(&known.view.resource_version) {
                    Ordering::Less => return inner.park(key, view, is_first),
                    Ordering::Equal => return,
                    Ordering::Greater => {}
                }
            }
        }
        let known = inner.resources.get(&key);
        let silent = known.is_some_and(|known| known.view.same_but_for_activity(&view));
        let sequence = known.map_or(0, |known| known.sequence);
        let is_ending = matches!(view.phase, Phase::Stopping | Phase::Stopped | Phase::Unknown);
        let reached = known.filter(|_| is_ending).map_or(view.phase, |known| known.reached);
        let session = session.number();
        let resource = Resource { view: Arc::new(view.into()), sequence, rewinds, reached, session };
        inner.resources.insert(key.clone(), resource);
        // It is there again.
        inner.endings.remove(&key.0);
        inner.note_stray(&key);
        inner.parked.remove(&key);
        if !silent {
            self.stir(inner, &key.1);
            self.announce(inner, &key);
        }
    }

    /// Takes the disappearance of a resource. Where its end was not shown yet, it is shown now, with this message.
    pub fn resource_gone(&self, session: &Session, namespace: &Namespace, id: &WorkspaceId, message: String) {
        self.change(|inner| {
            if inner.is_current(session) {
                self.end(inner, &(id.clone(), session.cluster().clone(), namespace.clone()), message);
            }
        });
    }

    fn end(&self, inner: &mut Inner, key: &Key, message: String) {
        let Some(last) = inner.take_resource(key) else { return };
        inner.note_stray(key);
        inner.parked.remove(key);
        self.stir(inner, &key.1);
        let Some(generation) = inner.generation_at(key, &last) else { return };
        inner.note_ending(&key.0, &last, &message);
        let (version, view) = if last.view.phase == Phase::Stopped {
            (status_version(generation, last.view.resource_version), last.view)
        } else {
            // Above all versions of this generation and the same on every replica.
            let held = String::new();
            let ended =
                View { phase: Phase::Stopped, deleting: true, message, held, ..View::clone(&last.view) };
            (status_version(generation, u64::MAX), Arc::new(ended.into()))
        };
        let seen = inner.seen(&key.1, view, version);
        let shown = last.sequence != 0 && ends::last_was_the_end(&seen, version, generation);
        let event = inner.ended(seen);
        if shown {
            self.events.publish_again(event, last.sequence);
        } else {
            self.events.publish(event);
        }
    }

    /// Publishes the present state of every workspace of a cluster again, a few under one lock.
    fn announce_all(&self, cluster: &ClusterName) {
        let mut after = None;
        loop {
            let keys = self.change(|inner| {
                let keys = inner.keys_after(after.as_ref());
                for key in keys.iter().filter(|(_, at, _)| at == cluster) {
                    self.announce(inner, key);
                }
                keys
            });
            match keys.into_iter().nth(LOOK - 1) {
                Some(last) => after = Some(last),
                None => return,
            }
        }
    }

    /// Publishes the present state of a resource, where it belongs.
    fn announce(&self, inner: &mut Inner, key: &Key) {
        let Some(seen) = inner.visible(key) else { return };
        inner.sequence += 1;
        let sequence = inner.sequence;
        if let Some(resource) = inner.resources.get_mut(key) {
            let before = std::mem::replace(&mut resource.sequence, sequence);
            inner.by_sequence.remove(&before);
            inner.by_sequence.insert(sequence, key.clone());
        }
        self.events.publish(Event { sequence, seen });
    }
}

/// Where a record says that its resource is.
fn key_of(record: &PlacementRecord) -> Key {
    (record.workspace.clone(), record.cluster.clone(), record.namespace.clone())
}

impl Inner {
    /// The first resources after one.
    fn keys_after(&self, after: Option<&Key>) -> Vec<Key> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.resources.range((from, Bound::Unbounded)).take(LOOK).map(|(key, _)| key.clone()).collect()
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
