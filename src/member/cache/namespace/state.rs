//! State of the cache of a namespace, and the changes that keep its parts consistent and queue notifications in order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::cache::queue::Queue;
use domain::pod::PodFacts;
use k8s::convert::resource_version;
use k8s::resources::Workspace;

/// Deletions that are remembered; with more of them all are forgotten, and the cluster is asked instead.
pub(super) const DELETIONS: usize = 4096;

pub(super) enum Change {
    Workspace(Arc<Workspace>),
    Gone(Arc<Workspace>),
    Unreadable(String),
    Pods(String),
    Rewound,
    Synced,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each kind of object has two of its own")]
pub(super) struct State {
    pub(super) workspaces: BTreeMap<String, Arc<Workspace>>,
    pub(super) on_node: HashMap<String, BTreeSet<String>>,
    pub(super) pods: HashMap<String, Arc<PodFacts>>,
    pub(super) pods_of: HashMap<String, BTreeSet<String>>,
    /// The highest version that the watch gave: an unknown object below it is one that is gone already.
    pub(super) newest: u64,
    /// Likewise of pods.
    pub(super) newest_pod: u64,
    /// What the list under way has named; `None` outside of a list.
    pub(super) listed_workspaces: Option<HashSet<String>>,
    pub(super) listed_pods: Option<HashSet<String>>,
    /// Workspaces that a watch event deleted, without a later event for their names.
    pub(super) deleted: HashSet<String>,
    /// Workspaces that are about to be created, without a later event for their names: a deletion event that may still
    /// arrive is about an earlier workspace of the name.
    pub(super) awaited: HashSet<String>,
    /// Offered since the list under way began, which may not hold it.
    pub(super) offered: HashSet<String>,
    /// Whether the list under way names versions below those known: the cluster was restored from a backup.
    pub(super) rewound: bool,
    /// Whether the list of pods under way had one at a lower version than was seen.
    pub(super) pods_rewound: bool,
    /// Of workspaces.
    pub(super) fall: Fall,
    /// Of pods.
    pub(super) pods_fall: Fall,
    pub(super) workspaces_synced: bool,
    pub(super) pods_synced: bool,
}

/// Whether the next list may fall below the versions that were seen: a restore of the cluster is recorded. A list that
/// began before the record may be of before the restore, so only one that began after it ends the expectation.
#[derive(Debug, Default)]
pub(super) struct Fall {
    expected: bool,
    /// Expected when the list under way began.
    by_list: bool,
}

impl Fall {
    pub(super) fn restore_recorded(&mut self) {
        *self = Self { expected: true, by_list: false };
    }

    pub(super) fn is_expected(&self) -> bool {
        self.expected
    }

    pub(super) fn list_begins(&mut self) {
        self.by_list = self.expected;
    }

    pub(super) fn list_ends(&mut self) {
        if std::mem::take(&mut self.by_list) {
            self.expected = false;
        }
    }
}

impl State {
    pub(super) fn remove(&mut self, name: &str, version: u64, queue: &Queue<Change>) {
        self.newest = self.newest.max(version);
        // What was made again under the name since then stays.
        if self.workspaces.get(name).is_some_and(|known| self::version(known) <= version) {
            self.take(name, queue);
        }
    }

    pub(super) fn remember_deletion(&mut self, name: &str) {
        if self.workspaces.contains_key(name) || self.awaited.contains(name) {
            return;
        }
        if self.deleted.len() >= DELETIONS {
            self.deleted.clear();
        }
        self.deleted.insert(name.to_owned());
    }

    pub(super) fn await_creation(&mut self, name: &str) {
        self.deleted.remove(name);
        if self.awaited.len() >= DELETIONS {
            self.awaited.clear();
            self.deleted.clear();
        }
        self.awaited.insert(name.to_owned());
    }

    pub(super) fn put(&mut self, name: String, workspace: Arc<Workspace>, queue: &Queue<Change>) {
        self.deleted.remove(&name);
        self.awaited.remove(&name);
        let before = self.workspaces.insert(name.clone(), Arc::clone(&workspace));
        let (was, is) = (before.as_deref().and_then(node_of), node_of(&workspace));
        if was != is {
            if let Some(was) = was {
                self.leave_node(was, &name);
            }
            if let Some(is) = is {
                self.on_node.entry(is.to_owned()).or_default().insert(name);
            }
        }
        queue.push(Change::Workspace(workspace));
    }

    pub(super) fn take(&mut self, name: &str, queue: &Queue<Change>) {
        if let Some(last) = self.workspaces.remove(name) {
            if let Some(node) = node_of(&last) {
                self.leave_node(node, name);
            }
            queue.push(Change::Gone(last));
        }
    }

    pub(super) fn leave_node(&mut self, node: &str, name: &str) {
        if let Some(names) = self.on_node.get_mut(node) {
            names.remove(name);
            if names.is_empty() {
                self.on_node.remove(node);
            }
        }
    }

    pub(super) fn put_pod(&mut self, pod: PodFacts, queue: &Queue<Change>) {
        let workspace = pod.workspace.clone();
        if self.pods.get(&pod.name).is_some_and(|known| known.workspace != workspace) {
            self.take_pod(&pod.name, queue);
        }
        self.insert_pod(pod);
        queue.push(Change::Pods(workspace));
    }

    pub(super) fn insert_pod(&mut self, pod: PodFacts) {
        self.pods_of.entry(pod.workspace.clone()).or_default().insert(pod.name.clone());
        self.pods.insert(pod.name.clone(), Arc::new(pod));
    }

    pub(super) fn take_pod(&mut self, name: &str, queue: &Queue<Change>) {
        let Some(pod) = self.pods.remove(name) else { return };
        if let Some(names) = self.pods_of.get_mut(&pod.workspace) {
            names.remove(name);
            if names.is_empty() {
                self.pods_of.remove(&pod.workspace);
            }
        }
        queue.push(Change::Pods(pod.workspace.clone()));
    }

    /// After a recorded restore, what is known holds only once both were listed again.
    pub(super) fn tell_synced(&self, queue: &Queue<Change>) {
        let is_stale = self.fall.is_expected() || self.pods_fall.is_expected();
        if self.workspaces_synced && self.pods_synced && !is_stale {
            queue.push(Change::Synced);
        }
    }
}

fn node_of(workspace: &Workspace) -> Option<&str> {
    workspace.status.as_ref()?.runtime.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

pub(super) fn pod_version(pod: &PodFacts) -> u64 {
    pod.resource_version.parse().unwrap_or(0)
}

/// Whether a state is of before the one known: by its version, or, where a restore raised versions, by its generation.
pub(super) fn is_older(workspace: &Workspace, known: &Workspace) -> bool {
    let generation = |of: &Workspace| of.metadata.generation.unwrap_or(0);
    let same = workspace.metadata.uid == known.metadata.uid;
    version(workspace) < version(known) || (same && generation(workspace) < generation(known))
}

pub(super) fn version(workspace: &Workspace) -> u64 {
    resource_version(&workspace.metadata)
}
