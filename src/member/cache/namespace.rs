//! Cache of the workspaces and pods of one namespace.

mod state;

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;

use domain::names::Namespace;
use domain::pod::PodFacts;
use k8s::resources::Workspace;

use super::observer::Observer;
use super::queue::Queue;
use state::{Change, State, is_older, pod_version, version};

/// Workspaces by name, and pods by the workspace that owns them.
pub struct NamespaceCache {
    namespace: Namespace,
    state: RwLock<State>,
    queue: Queue<Change>,
}

impl NamespaceCache {
    /// An empty cache that notifies `observers`.
    pub fn new(namespace: Namespace, observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { namespace, state: RwLock::default(), queue: Queue::new(observers) }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A workspace.
    pub fn get(&self, name: &str) -> Option<Arc<Workspace>> {
        self.state.read().workspaces.get(name).cloned()
    }

    /// The pods of a workspace, by name.
    pub fn pods_of(&self, workspace: &str) -> Vec<Arc<PodFacts>> {
        let state = self.state.read();
        let names = state.pods_of.get(workspace).into_iter().flatten();
        names.filter_map(|name| state.pods.get(name)).cloned().collect()
    }

    /// Pods that are being deleted and are held by finalizers of others, whose workspaces are gone; by name.
    pub fn pods_left(&self) -> Vec<Arc<PodFacts>> {
        let state = self.state.read();
        let is_left = |pod: &&Arc<PodFacts>| {
            pod.deleting_since.is_some()
                && !pod.held_by.is_empty()
                && !state.workspaces.contains_key(&pod.workspace)
        };
        let mut left: Vec<Arc<PodFacts>> = state.pods.values().filter(is_left).cloned().collect();
        left.sort_by(|a, b| a.name.cmp(&b.name));
        left
    }

    /// Names of all workspaces, sorted.
    pub fn names(&self) -> Vec<String> {
        self.state.read().workspaces.keys().cloned().collect()
    }

    /// All workspaces, by name.
    pub fn workspaces(&self) -> Vec<Arc<Workspace>> {
        self.state.read().workspaces.values().cloned().collect()
    }

    /// Names of workspaces whose status says that they run on a node, sorted.
    pub fn on_node(&self, node: &str) -> Vec<String> {
        self.state.read().on_node.get(node).into_iter().flatten().cloned().collect()
    }

    /// Number of workspaces.
    pub fn len(&self) -> usize {
        self.state.read().workspaces.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether workspaces and pods were listed at least once: only then an absent one is one that is gone.
    pub fn is_synced(&self) -> bool {
        let state = self.state.read();
        state.workspaces_synced && state.pods_synced
    }

    /// Whether a list of workspaces is under way: what is known may be of before.
    pub fn is_listing(&self) -> bool {
        self.state.read().listed_workspaces.is_some()
    }

    /// Whether the cluster itself said that this workspace was deleted, so that it need not be asked whether it is there.
    /// Never of one that a list merely left out, that was handed to another manager, or that is there again.
    pub fn was_deleted(&self, name: &str) -> bool {
        self.state.read().deleted.contains(name)
    }

    /// A workspace of the name is about to be made: until it was seen, only the cluster can say that there is none.
    pub fn await_creation(&self, name: &str) {
        self.state.write().await_creation(name);
    }

    /// Forgets which names were deleted: another leader may have created workspaces with them that the watch has not
    /// delivered yet.
    pub fn forget_deletions(&self) {
        self.state.write().deleted.clear();
    }

    /// Takes the response of a write of this process if it is newer than the known state. Returns whether it was taken.
    pub fn offer(&self, mut workspace: Workspace) -> bool {
        workspace.metadata.managed_fields = None;
        let Some(name) = workspace.metadata.name.clone() else { return false };
        self.change(|state, queue| {
            let version = version(&workspace);
            let known = state.workspaces.get(&name).map(|known| self::version(known));
            if version <= known.unwrap_or(state.newest) {
                return false;
            }
            if state.listed_workspaces.is_some() {
                state.offered.insert(name.clone());
            }
            state.put(name, Arc::new(workspace), queue);
            true
        })
    }

    /// Takes the pod in the response of a creation by this process, so that the next read returns it. Notifies nobody: the
    /// caller created it.
    pub fn offer_pod(&self, pod: PodFacts) {
        let mut state = self.state.write();
        let version = pod_version(&pod);
        let known = state.pods.get(&pod.name).map(|known| pod_version(known));
        // During a list of pods it is unknown whether the list is from before or after.
        if state.listed_pods.is_none() && version > known.unwrap_or(0).max(state.newest_pod) {
            state.insert_pod(pod);
        }
    }

    /// Takes that a live read found no such workspace any more.
    pub fn forget(&self, name: &str, uid: &str) {
        self.change(|state, queue| {
            let known = state.workspaces.get(name);
            if known.is_some_and(|known| known.metadata.uid.as_deref() == Some(uid)) {
                state.take(name, queue);
            }
        });
    }

    fn change<T>(&self, act: impl FnOnce(&mut State, &Queue<Change>) -> T) -> T {
        let result = act(&mut self.state.write(), &self.queue);
        self.queue.drain(|observer, change| match change {
            Change::Workspace(workspace) => observer.workspace(&self.namespace, workspace),
            Change::Gone(last) => observer.workspace_gone(&self.namespace, last),
            Change::Unreadable(workspace) => observer.workspace_unreadable(&self.namespace, workspace),
            Change::Pods(workspace) => observer.pods_changed(&self.namespace, workspace),
            Change::Rewound => observer.rewound(&self.namespace),
            Change::Synced => observer.synced(&self.namespace),
        });
        result
    }
}

/// What the watches call, and what fills a cache in tests of other rooms.
impl NamespaceCache {
    /// A restore of the cluster is recorded: lists that show it again are not reported.
    pub fn expect_fall(&self) {
        let mut state = self.state.write();
        state.fall.restore_recorded();
        state.pods_fall.restore_recorded();
    }

    /// A list of workspaces begins.
    pub fn begin_workspaces(&self) {
        let mut state = self.state.write();
        state.listed_workspaces = Some(HashSet::new());
        state.offered.clear();
        state.deleted.clear();
        state.rewound = false;
        state.fall.list_begins();
    }

    /// A workspace is listed, new or changed.
    pub fn put_workspace(&self, mut workspace: Workspace) {
        workspace.metadata.managed_fields = None;
        let Some(name) = workspace.metadata.name.clone() else { return };
        self.change(|state, queue| {
            let version = version(&workspace);
            state.newest = state.newest.max(version);
            let known = state.workspaces.get(&name);
            let falls = known.is_some_and(|known| is_older(&workspace, known));
            let known = known.map(|known| self::version(known));
            let listing = match &mut state.listed_workspaces {
                Some(listed) => {
                    listed.insert(name.clone());
                    true
                }
                None => false,
            };
            // A list is the truth, even where versions went backwards with a restored cluster.
            let trusted = listing && !state.offered.contains(&name);
            if trusted && falls && !std::mem::replace(&mut state.rewound, true) && !state.fall.is_expected() {
                queue.push(Change::Rewound);
            }
            let is_news = match known {
                // A cluster that was restored gives the same versions to other states.
                Some(known) if trusted => version != known || state.fall.is_expected(),
                Some(known) => version > known,
                None => true,
            };
            if is_news {
                state.put(name, Arc::new(workspace), queue);
            }
        });
    }

    /// A workspace that is there but cannot be read, or is one too many: what was last read of it holds.
    pub fn keep_workspace(&self, name: &str) {
        self.change(|state, queue| {
            state.deleted.remove(name);
            if let Some(listed) = &mut state.listed_workspaces {
                listed.insert(name.to_owned());
            }
            queue.push(Change::Unreadable(name.to_owned()));
        });
    }

    /// A workspace no longer belongs to Spaceport as of a version; it may still exist.
    pub fn remove_workspace(&self, name: &str, version: u64) {
        self.change(|state, queue| {
            state.remove(name, version, queue);
            state.deleted.remove(name);
        });
    }

    /// A workspace was deleted, at a version.
    pub fn delete_workspace(&self, name: &str, version: u64) {
        self.change(|state, queue| {
            state.remove(name, version, queue);
            state.remember_deletion(name);
        });
    }

    /// A list of workspaces is complete: what it did not name is gone.
    pub fn end_workspaces(&self) {
        self.change(|state, queue| {
            let Some(listed) = state.listed_workspaces.take() else { return };
            state.fall.list_ends();
            let is_gone = |name: &&String| !listed.contains(*name) && !state.offered.contains(*name);
            let gone: Vec<_> = state.workspaces.keys().filter(is_gone).cloned().collect();
            for name in gone {
                state.take(&name, queue);
            }
            if std::mem::take(&mut state.rewound) {
                state.newest = state.workspaces.values().map(|known| version(known)).max().unwrap_or(0);
            }
            state.offered.clear();
            state.workspaces_synced = true;
            state.tell_synced(queue);
        });
    }

    /// A list of pods begins.
    pub fn begin_pods(&self) {
        let mut state = self.state.write();
        state.listed_pods = Some(HashSet::new());
        state.pods_rewound = false;
        state.pods_fall.list_begins();
    }

    /// A pod is listed, new or changed.
    pub fn put_pod(&self, pod: PodFacts) {
        self.change(|state, queue| {
            let version = pod_version(&pod);
            state.newest_pod = state.newest_pod.max(version);
            let is_listed = state.listed_pods.is_some();
            if let Some(listed) = &mut state.listed_pods {
                listed.insert(pod.name.clone());
            }
            let known = state.pods.get(&pod.name);
            // A list is a consistent read: an object never falls below the version seen before, but with a restored cluster.
            let falls = known.is_some_and(|known| known.uid == pod.uid && version < pod_version(known));
            let is_first = is_listed && falls && !std::mem::replace(&mut state.pods_rewound, true);
            if is_first && !state.pods_fall.is_expected() {
                queue.push(Change::Rewound);
            }
            let is_news =
                |known: &Arc<PodFacts>| **known != pod && (is_listed || version >= pod_version(known));
            if state.pods.get(&pod.name).is_none_or(is_news) {
                state.put_pod(pod, queue);
            }
        });
    }

    /// A pod that is there but cannot be read.
    pub fn keep_pod(&self, name: &str) {
        if let Some(listed) = &mut self.state.write().listed_pods {
            listed.insert(name.to_owned());
        }
    }

    /// A pod was deleted, at a version.
    pub fn remove_pod(&self, name: &str, version: u64) {
        self.change(|state, queue| {
            state.newest_pod = state.newest_pod.max(version);
            // What was made again under the name since then stays.
            if state.pods.get(name).is_some_and(|known| pod_version(known) <= version) {
                state.take_pod(name, queue);
            }
        });
    }

    /// A list of pods is complete: what it did not name is gone.
    pub fn end_pods(&self) {
        self.change(|state, queue| {
            let Some(listed) = state.listed_pods.take() else { return };
            state.pods_fall.list_ends();
            let gone: Vec<_> = state.pods.keys().filter(|name| !listed.contains(*name)).cloned().collect();
            for name in gone {
                state.take_pod(&name, queue);
            }
            if std::mem::take(&mut state.pods_rewound) {
                state.newest_pod = state.pods.values().map(|known| pod_version(known)).max().unwrap_or(0);
            }
            state.pods_synced = true;
            state.tell_synced(queue);
        });
    }
}

#[cfg(test)]
mod tests;
