//! Workspaces and pods of one namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::cluster::resources::Workspace;
use crate::domain::names::Namespace;
use crate::domain::pod::PodFacts;

use super::Observer;
use super::queue::Queue;

/// Workspaces by name, and pods by the workspace that owns them.
pub struct NamespaceCache {
    namespace: Namespace,
    state: RwLock<State>,
    queue: Queue<Change>,
}

enum Change {
    Workspace(Arc<Workspace>),
    Gone(Arc<Workspace>),
    Pods(String),
    Rewound,
    Synced,
}

#[derive(Default)]
struct State {
    workspaces: BTreeMap<String, Arc<Workspace>>,
    on_node: HashMap<String, BTreeSet<String>>,
    pods: HashMap<String, Arc<PodFacts>>,
    pods_of: HashMap<String, BTreeSet<String>>,
    /// The highest version that the watch gave: an unknown object below it is one that is gone already.
    newest: u64,
    /// Likewise of pods.
    newest_pod: u64,
    /// What the list under way has named; `None` outside of a list.
    listed_workspaces: Option<HashSet<String>>,
    listed_pods: Option<HashSet<String>>,
    /// Offered since the list under way began, which may not hold it.
    offered: HashSet<String>,
    /// Whether the list under way names versions below those known: the cluster was restored from a backup.
    rewound: bool,
    workspaces_synced: bool,
    pods_synced: bool,
}

impl NamespaceCache {
    /// An empty cache that tells `observers`.
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

    /// Takes what a write of ours answered, if it is newer than what is known; says whether it was taken.
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

    /// Takes the pod that a creation of ours answered, so that the next look sees it. Nobody is told: whoever made it
    /// knows.
    pub fn offer_pod(&self, pod: PodFacts) {
        let mut state = self.state.write();
        let version = pod_version(&pod);
        let known = state.pods.get(&pod.name).map(|known| pod_version(known));
        // While pods are listed it cannot be told whether the list is of before or after.
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
            Change::Pods(workspace) => observer.pods_changed(&self.namespace, workspace),
            Change::Rewound => observer.rewound(&self.namespace),
            Change::Synced => observer.synced(&self.namespace),
        });
        result
    }
}

/// What the watches call, and what fills a cache in tests of other rooms.
impl NamespaceCache {
    /// A list of workspaces begins.
    pub fn begin_workspaces(&self) {
        let mut state = self.state.write();
        state.listed_workspaces = Some(HashSet::new());
        state.offered.clear();
        state.rewound = false;
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
            if trusted && falls && !std::mem::replace(&mut state.rewound, true) {
                queue.push(Change::Rewound);
            }
            let is_news = match known {
                Some(known) if trusted => version != known,
                Some(known) => version > known,
                None => true,
            };
            if is_news {
                state.put(name, Arc::new(workspace), queue);
            }
        });
    }

    /// A workspace that is there but cannot be read: what was last read of it holds.
    pub fn keep_workspace(&self, name: &str) {
        if let Some(listed) = &mut self.state.write().listed_workspaces {
            listed.insert(name.to_owned());
        }
    }

    /// A workspace was deleted, at a version.
    pub fn remove_workspace(&self, name: &str, version: u64) {
        self.change(|state, queue| {
            state.newest = state.newest.max(version);
            // What was made again under the name since then stays.
            let known = state.workspaces.get(name).map(|known| self::version(known));
            if known.is_some_and(|known| known <= version) {
                state.take(name, queue);
            }
        });
    }

    /// A list of workspaces is complete: what it did not name is gone.
    pub fn end_workspaces(&self) {
        self.change(|state, queue| {
            let Some(listed) = state.listed_workspaces.take() else { return };
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
        self.state.write().listed_pods = Some(HashSet::new());
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
            let gone: Vec<_> = state.pods.keys().filter(|name| !listed.contains(*name)).cloned().collect();
            for name in gone {
                state.take_pod(&name, queue);
            }
            state.pods_synced = true;
            state.tell_synced(queue);
        });
    }
}

impl State {
    fn put(&mut self, name: String, workspace: Arc<Workspace>, queue: &Queue<Change>) {
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

    fn take(&mut self, name: &str, queue: &Queue<Change>) {
        if let Some(last) = self.workspaces.remove(name) {
            if let Some(node) = node_of(&last) {
                self.leave_node(node, name);
            }
            queue.push(Change::Gone(last));
        }
    }

    fn leave_node(&mut self, node: &str, name: &str) {
        if let Some(names) = self.on_node.get_mut(node) {
            names.remove(name);
            if names.is_empty() {
                self.on_node.remove(node);
            }
        }
    }

    fn put_pod(&mut self, pod: PodFacts, queue: &Queue<Change>) {
        let workspace = pod.workspace.clone();
        if self.pods.get(&pod.name).is_some_and(|known| known.workspace != workspace) {
            self.take_pod(&pod.name, queue);
        }
        self.insert_pod(pod);
        queue.push(Change::Pods(workspace));
    }

    fn insert_pod(&mut self, pod: PodFacts) {
        self.pods_of.entry(pod.workspace.clone()).or_default().insert(pod.name.clone());
        self.pods.insert(pod.name.clone(), Arc::new(pod));
    }

    fn take_pod(&mut self, name: &str, queue: &Queue<Change>) {
        let Some(pod) = self.pods.remove(name) else { return };
        if let Some(names) = self.pods_of.get_mut(&pod.workspace) {
            names.remove(name);
            if names.is_empty() {
                self.pods_of.remove(&pod.workspace);
            }
        }
        queue.push(Change::Pods(pod.workspace.clone()));
    }

    fn tell_synced(&self, queue: &Queue<Change>) {
        if self.workspaces_synced && self.pods_synced {
            queue.push(Change::Synced);
        }
    }
}

fn node_of(workspace: &Workspace) -> Option<&str> {
    workspace.status.as_ref()?.runtime.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

fn pod_version(pod: &PodFacts) -> u64 {
    pod.resource_version.parse().unwrap_or(0)
}

/// Whether a state is of before the one known: by its version, or, where a restore raised versions, by its generation.
fn is_older(workspace: &Workspace, known: &Workspace) -> bool {
    let generation = |of: &Workspace| of.metadata.generation.unwrap_or(0);
    let same = workspace.metadata.uid == known.metadata.uid;
    version(workspace) < version(known) || (same && generation(workspace) < generation(known))
}

fn version(workspace: &Workspace) -> u64 {
    super::version(&workspace.metadata)
}

#[cfg(test)]
mod tests;
