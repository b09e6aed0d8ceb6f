//! Watches of the registry, as this replica sees it.
//!
//! *Flow.* A watch remembers what it reported of each cluster, and compares on every change and every
//! [`LOOK`]. *Guarantees.* The latest state of each cluster always arrives; states in between may be
//! merged. *Limits.* Each watch holds one copy of the registry, however slowly its client reads;
//! [`MOST_WATCHERS`] watches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::clusters::view::{ClusterView, Views};
use crate::fleet::Fleet;
use domain::condition::Condition;
use domain::names::ClusterName;

/// Watchers of one replica.
pub const MOST_WATCHERS: usize = 128;
/// Between comparisons without a change: some views change by time alone, such as the end of maintenance or of a login.
const LOOK: Duration = Duration::from_secs(2);

/// There are as many watchers as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// What a watch reports.
#[derive(Debug, Clone)]
pub enum ClusterEvent {
    /// Was there when the watch began.
    Present(ClusterView),
    /// All clusters that were present were reported.
    Synced,
    /// Came.
    Registered(ClusterView),
    /// The specification or the way there changed.
    Changed(ClusterView),
    /// What is seen of it changed.
    Observed(ClusterView),
    /// Went; as it was last.
    Deregistered(ClusterView),
}

/// A watch of all clusters or one.
pub struct ClusterWatch {
    views: Arc<Views>,
    only: Option<ClusterName>,
    changes: watch::Receiver<()>,
    told: BTreeMap<ClusterName, ClusterView>,
    ready: VecDeque<ClusterEvent>,
    _turn: OwnedSemaphorePermit,
}

/// Watches of this replica.
pub struct ClusterWatches {
    fleet: Arc<Fleet>,
    views: Arc<Views>,
    /// One permit a watch.
    permits: Arc<Semaphore>,
}

impl ClusterWatches {
    /// At most [`MOST_WATCHERS`].
    pub(crate) fn new(fleet: Arc<Fleet>, views: Arc<Views>) -> Arc<Self> {
        Arc::new(Self { fleet, views, permits: Arc::new(Semaphore::new(MOST_WATCHERS)) })
    }

    /// Watches all clusters, or one.
    pub fn open(&self, only: Option<ClusterName>) -> Result<ClusterWatch, TooMany> {
        let turn = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| TooMany)?;
        // Before the first look, so that nothing falls between.
        let changes = self.fleet.changes();
        let mut watch = ClusterWatch {
            views: Arc::clone(&self.views),
            only,
            changes,
            told: BTreeMap::new(),
            ready: VecDeque::new(),
            _turn: turn,
        };
        let present = watch.look();
        watch.ready.extend(present.values().cloned().map(ClusterEvent::Present));
        watch.ready.push_back(ClusterEvent::Synced);
        watch.told = present;
        Ok(watch)
    }
}

impl ClusterWatch {
    /// The next change; waits for it. `None` once this replica shuts down.
    pub async fn next(&mut self) -> Option<ClusterEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = self.look();
            self.ready.extend(differences(&self.told, &now));
            self.told = now;
        }
    }

    fn look(&self) -> BTreeMap<ClusterName, ClusterView> {
        let asked = |view: &ClusterView| self.only.as_ref().is_none_or(|only| *only == view.spec.name);
        let views = self.views.all().into_iter().filter(asked);
        views.map(|view| (view.spec.name.clone(), view)).collect()
    }
}

fn differences(
    before: &BTreeMap<ClusterName, ClusterView>,
    now: &BTreeMap<ClusterName, ClusterView>,
) -> Vec<ClusterEvent> {
    let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
    let mut events: Vec<_> = gone.map(|(_, view)| ClusterEvent::Deregistered(view.clone())).collect();
    for (name, view) in now {
        match before.get(name) {
            None => events.push(ClusterEvent::Registered(view.clone())),
            Some(old) if old.version != view.version => events.push(ClusterEvent::Changed(view.clone())),
            Some(old) if !is_seen_alike(old, view) => events.push(ClusterEvent::Observed(view.clone())),
            Some(_) => {}
        }
    }
    events
}

/// Whether what is seen is the same but for ages and counts.
fn is_seen_alike(old: &ClusterView, new: &ClusterView) -> bool {
    let alike = |(one, other): (&Condition, &Condition)| one.is_like(other);
    old.health == new.health
        && old.server_version == new.server_version
        && old.classes == new.classes
        && old.maintenance == new.maintenance
        && old.conditions.len() == new.conditions.len()
        && old.conditions.iter().zip(&new.conditions).all(alike)
}
