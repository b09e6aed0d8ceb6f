//! Available capacity of the nodes of one cluster: the ledger, updated by the watches of nodes, workspaces and pods.

pub mod reservation;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use domain::names::Namespace;
use domain::placement::capacity::{Available, Ledger, Node, QuotaLeft, Resources, Shape, ShapeId};
use domain::workspace::{Kind, Phase};
use k8s::convert;
use k8s::resources::{SeenPod, Workspace};

/// A class in a namespace, for workspaces of a kind.
pub type ShapeKey = (Namespace, String, Kind);

/// What is left on a cluster's nodes. Cheap to ask.
pub struct Capacity {
    inner: Mutex<Inner>,
    /// Whether everything that uses or provides capacity was listed.
    known: watch::Sender<bool>,
}

impl Default for Capacity {
    fn default() -> Self {
        let inner = Inner { unlisted: HashSet::from([Source::Nodes]), ..Inner::default() };
        Self { inner: Mutex::new(inner), known: watch::channel(false).0 }
    }
}

#[derive(Default)]
struct Inner {
    ledger: Ledger,
    shapes: HashMap<ShapeKey, ShapeId>,
    workspaces: HashMap<String, Waits>,
    /// The workspace of a pod, where it has one.
    owners: HashMap<String, String>,
    /// What each watch has named.
    listings: HashMap<Source, Listing>,
    /// What was not listed once: without it the nodes look emptier than they are.
    unlisted: HashSet<Source>,
    /// What quotas of namespaces have left.
    quotas: HashMap<Namespace, Vec<QuotaLeft>>,
    /// Counted when asked for, and forgotten when anything changes.
    rooms: Option<Arc<RoomsByShape>>,
}

/// A watch that reports capacity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Nodes.
    Nodes,
    /// Workspaces of a namespace.
    Workspaces(Namespace),
    /// Pods, by the name of their watch.
    Pods(String),
}

/// Available capacity by shape; what was never asked for is not in it.
pub type RoomsByShape = HashMap<ShapeKey, Available>;

/// Why a workspace may need capacity that no pod on a node takes yet.
#[derive(Default)]
struct Waits {
    /// A start was sent here and is not seen yet.
    claimed: Option<ShapeId>,
    /// The resource is there, and a pod of it is to come.
    wanted: Option<ShapeId>,
    /// Its pods that are on nodes.
    pods: HashSet<String>,
}

/// What a watch named in all, and what the list under way has.
#[derive(Default)]
struct Listing {
    known: HashSet<String>,
    listed: Option<HashSet<String>>,
}

/// What a cluster has in all, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Whether everything that uses or provides capacity was listed.
    pub known: bool,
    /// Nodes.
    pub nodes: usize,
    /// Nodes that are ready and not cordoned.
    pub usable: usize,
    /// What usable nodes offer.
    pub allocatable: Resources,
    /// What of it is taken.
    pub taken: Resources,
    /// Workspaces whose pods have no node yet.
    pub waiting: usize,
}

/// What placement asks.
impl Capacity {
    /// What pods of these classes ask for from now on.
    pub fn set_shapes(&self, namespace: &Namespace, shapes: impl IntoIterator<Item = (String, Kind, Shape)>) {
        let mut inner = self.inner.lock();
        inner.shapes.retain(|(of, _, _), _| of != namespace);
        for (class, kind, shape) in shapes {
            let id = inner.ledger.shape(shape);
            inner.shapes.insert((namespace.clone(), class, kind), id);
        }
        inner.rooms = None;
    }

    /// Takes what the pod of a class requests as the cluster admitted it: limit ranges, overhead and webhooks may have made it
    /// larger. Capacity is counted with that from now on, until the settings change.
    pub fn admitted(&self, namespace: &Namespace, class: &str, kind: Kind, requests: Resources) {
        let mut inner = self.inner.lock();
        let key = (namespace.clone(), class.to_owned(), kind);
        let Some(id) = inner.shapes.get(&key).copied() else { return };
        if inner.ledger.requests(id).is_none_or(|known| known == requests) {
            return;
        }
        if let Some(learned) = inner.ledger.resized(id, requests) {
            inner.shapes.insert(key, learned);
            inner.rooms = None;
        }
    }

    /// Takes what the quotas of a namespace have left. Returns whether that changed.
    pub fn set_quotas(&self, namespace: &Namespace, quotas: Vec<QuotaLeft>) -> bool {
        let mut inner = self.inner.lock();
        let known = inner.quotas.entry(namespace.clone()).or_default();
        if *known == quotas {
            return false;
        }
        *known = quotas;
        inner.rooms = None;
        true
    }

    /// What is left by namespace, class and kind. The same value until something changes.
    pub fn rooms(&self) -> Arc<RoomsByShape> {
        let mut inner = self.inner.lock();
        if let Some(rooms) = &inner.rooms {
            return Arc::clone(rooms);
        }
        let mut by_id: HashMap<ShapeId, Available> = HashMap::new();
        let mut rooms = RoomsByShape::new();
        for (key, id) in &inner.shapes {
            let room = || if inner.unlisted.is_empty() { inner.ledger.room(*id) } else { Available::Unknown };
            let room = by_id.entry(*id).or_insert_with(room).clone();
            let quotas = inner.quotas.get(&key.0).map(Vec::as_slice).unwrap_or_default();
            let room = match inner.ledger.requests(*id) {
                Some(each) if !quotas.is_empty() => room.within(quotas, &each),
                _ => room,
            };
            rooms.insert(key.clone(), room);
        }
        let rooms = Arc::new(rooms);
        inner.rooms = Some(Arc::clone(&rooms));
        rooms
    }

    /// Whether everything that uses or provides capacity was listed.
    pub fn is_known(&self) -> bool {
        *self.known.borrow()
    }

    /// Waits until everything that uses or provides capacity was listed.
    pub async fn known(&self) {
        // The sender lives as long as `self`, so this ends only when all is known.
        let _ = self.known.subscribe().wait_for(|known| *known).await;
    }

    /// What the cluster has in all.
    pub fn totals(&self) -> Totals {
        let inner = self.inner.lock();
        let (nodes, usable) = inner.ledger.nodes();
        let (allocatable, taken) = inner.ledger.sums();
        let (known, waiting) = (inner.unlisted.is_empty(), inner.ledger.waiting());
        Totals { known, nodes, usable, allocatable, taken, waiting }
    }

    fn change(&self, act: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock();
        act(&mut inner);
        inner.rooms = None;
    }
}

/// What the watches call. Names are `namespace/name`, but of nodes.
impl Capacity {
    /// What is left is not known before this was listed, too. To be called before anything is listed.
    pub fn wait_for(&self, source: Source) {
        self.inner.lock().unlisted.insert(source);
    }

    /// A list begins.
    pub fn begin(&self, source: &Source) {
        let mut inner = self.inner.lock();
        inner.listings.entry(source.clone()).or_default().listed = Some(HashSet::new());
    }

    /// Something is there that cannot be read: what was last read of it holds.
    pub fn keep(&self, source: &Source, name: &str) {
        self.inner.lock().listing(source, name);
    }

    /// A node is listed, new or changed.
    pub fn put_node(&self, node: Node) {
        self.change(|inner| {
            inner.listing(&Source::Nodes, &node.name);
            inner.ledger.node(node);
        });
    }

    /// A pod is listed, new or changed; `workspace`: whose it is.
    pub fn put_pod(&self, source: &Source, pod: &SeenPod, workspace: Option<&str>) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = key(namespace, pod.metadata.name.as_deref().unwrap_or_default());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let over = matches!(phase, Some("Succeeded" | "Failed"));
        let spec = pod.spec.as_ref().filter(|_| !over);
        let node = spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty());
        let bound = spec.zip(node).map(|(spec, node)| (node, convert::pod_requests(spec)));
        self.change(|inner| {
            inner.listing(source, &name);
            let Some((node, requests)) = bound else {
                inner.pod_gone(&name);
                return;
            };
            if let Some(workspace) = workspace {
                let owner = key(namespace, workspace);
                inner.workspace(&owner, |waits| {
                    waits.pods.insert(name.clone());
                });
                inner.owners.insert(name.clone(), owner);
            }
            inner.ledger.bind(&name, node, requests);
        });
    }

    /// A workspace is listed, new or changed.
    pub fn put_workspace(&self, source: &Source, workspace: &Workspace) {
        let meta = &workspace.metadata;
        let name =
            key(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let phase = workspace.status.as_ref().map(|status| status.phase).unwrap_or_default();
        let over = meta.deletion_timestamp.is_some()
            || matches!(phase, Phase::Running | Phase::Stopping | Phase::Stopped);
        let kind = workspace.spec.type_;
        let namespace = meta.namespace.as_deref().and_then(|name| name.parse::<Namespace>().ok());
        self.change(|inner| {
            inner.listing(source, &name);
            let key = namespace.map(|namespace| (namespace, workspace.spec.class.clone(), kind));
            let shape = key.and_then(|key| inner.shapes.get(&key).copied());
            inner.workspace(&name, |waits| {
                waits.claimed = None;
                waits.wanted = shape.filter(|_| !over);
            });
        });
    }

    /// Something is gone.
    pub fn remove(&self, source: &Source, name: &str) {
        self.change(|inner| {
            if let Some(listing) = inner.listings.get_mut(source) {
                listing.known.remove(name);
            }
            inner.leave(source, name);
        });
    }

    /// A list is complete: what it did not name is gone.
    pub fn end(&self, source: &Source) {
        let mut is_known = false;
        self.change(|inner| {
            inner.unlisted.remove(source);
            is_known = inner.unlisted.is_empty();
            let Some(listing) = inner.listings.get_mut(source) else { return };
            let Some(listed) = listing.listed.take() else { return };
            let gone: Vec<String> = listing.known.difference(&listed).cloned().collect();
            listing.known = listed;
            for name in gone {
                inner.leave(source, &name);
            }
        });
        if is_known {
            self.known.send_replace(true);
        }
    }
}

impl Inner {
    fn listing(&mut self, source: &Source, name: &str) {
        let listing = self.listings.entry(source.clone()).or_default();
        listing.known.insert(name.to_owned());
        if let Some(listed) = &mut listing.listed {
            listed.insert(name.to_owned());
        }
    }

    /// Changes why a workspace waits, and counts it accordingly.
    fn workspace(&mut self, key: &str, change: impl FnOnce(&mut Waits)) {
        let waits = self.workspaces.entry(key.to_owned()).or_default();
        change(waits);
        let waiting = waits.wanted.or(waits.claimed).filter(|_| waits.pods.is_empty());
        if waits.wanted.is_none() && waits.claimed.is_none() && waits.pods.is_empty() {
            self.workspaces.remove(key);
        }
        match waiting {
            Some(shape) => self.ledger.wait(key, shape),
            None => self.ledger.settled(key),
        }
    }

    /// An object left a watch. A pod whose labels changed may already have arrived in another watch.
    fn leave(&mut self, source: &Source, name: &str) {
        let is_pods = |source: &Source| matches!(source, Source::Pods(_));
        let has = |(other, listing): (&Source, &Listing)| {
            other != source && is_pods(other) && listing.known.contains(name)
        };
        if !is_pods(source) || !self.listings.iter().any(has) {
            self.gone(source, name);
        }
    }

    fn gone(&mut self, source: &Source, name: &str) {
        match source {
            Source::Nodes => self.ledger.node_gone(name),
            Source::Pods(_) => self.pod_gone(name),
            Source::Workspaces(_) => {
                self.workspace(name, |waits| (waits.wanted, waits.claimed) = (None, None));
            }
        }
    }

    fn pod_gone(&mut self, name: &str) {
        self.ledger.unbind(name);
        if let Some(owner) = self.owners.remove(name) {
            self.workspace(&owner, |waits| {
                waits.pods.remove(name);
            });
        }
    }
}

/// A name within the cluster.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node as K8sNode;
    use serde_json::json;

    use super::*;

    #[test]
    fn capacity_is_known_when_everything_that_uses_or_provides_it_was_listed() {
        let (capacity, others) = (Capacity::default(), Source::Pods("others".to_owned()));
        let shape = ("ws".parse().unwrap(), "c".to_owned(), Kind::Regular);
        capacity.set_shapes(&shape.0, [(shape.1.clone(), shape.2, Shape::default())]);
        capacity.wait_for(others.clone());
        for source in [&Source::Nodes, &others] {
            assert!(!capacity.is_known() && capacity.rooms()[&shape] == Available::Unknown);
            capacity.begin(source);
            capacity.end(source);
        }
        assert!(capacity.is_known() && capacity.rooms()[&shape] != Available::Unknown);
        capacity.begin(&others);
        assert!(capacity.is_known(), "what was known before holds until the list is complete");
    }

    #[test]
    fn a_pod_that_changed_hands_is_counted_whichever_watch_reports_it_first() {
        let capacity = Capacity::default();
        let node: K8sNode = serde_json::from_value(json!({
            "metadata": { "name": "n" },
            "status": {
                "allocatable": { "cpu": "4", "memory": "4Gi", "pods": "10" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }))
        .unwrap();
        let pod: SeenPod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ws" },
            "spec": { "nodeName": "n", "containers": [{
                "name": "workspace", "resources": { "requests": { "cpu": "1" } },
            }] },
        }))
        .unwrap();
        capacity.put_node(convert::node(&node));
        let (others, ours) = (Source::Pods("others".to_owned()), Source::Pods("ours".to_owned()));
        let empty = capacity.totals().taken;
        capacity.put_pod(&others, &pod, None);
        let taken = capacity.totals().taken;
        assert_ne!(taken, empty);
        capacity.put_pod(&ours, &pod, Some("a"));
        capacity.remove(&others, "ws/p");
        assert_eq!(capacity.totals().taken, taken);
        capacity.remove(&ours, "ws/p");
        assert_eq!(capacity.totals().taken, empty);
    }
}
