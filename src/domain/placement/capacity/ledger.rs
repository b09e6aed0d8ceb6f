//! The ledger of one cluster's nodes. A change costs the work for one node, independent of the number of nodes and pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Available, Node, Resources, Shape, Shortage};

/// Upper bound of shapes. Each class and kind has one, and another one if the cluster admits larger pods.
const MOST_SHAPES: usize = 1024;

/// A shape whose available capacity the ledger counts. Shapes are never removed: there are about as many as classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShapeId(usize);

/// Available capacity of the nodes of one cluster.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    shapes: Vec<Shape>,
    totals: Vec<Total>,
    /// Sorted, so that equal histories give equal assignments.
    nodes: BTreeMap<Arc<str>, Entry>,
    /// Pods with a node, which may be unknown, and their requests.
    bound: HashMap<String, (Arc<str>, Resources)>,
    /// Sum of requests of the pods on each unknown node.
    pods_on_unknown_nodes: HashMap<Arc<str>, Resources>,
    /// Workspaces without a pod on a node, and the node that the ledger assigned.
    waiting: HashMap<String, (ShapeId, Option<Arc<str>>)>,
    /// Those of them without an assigned node, by shape.
    unassigned: Vec<BTreeSet<String>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Total {
    left: u64,
    of: u64,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    node: Node,
    bound: Resources,
    promised: Resources,
    /// Workspaces that are assigned to this node until their pods are scheduled.
    reserved: BTreeSet<String>,
    /// Number of further pods that fit, by shape.
    left: Vec<u64>,
    /// Number of pods that would fit on the empty node, by shape.
    of: Vec<u64>,
}

impl Entry {
    fn free(&self) -> Resources {
        self.node.allocatable - self.bound - self.promised
    }

    fn is_over(&self) -> bool {
        !self.node.allocatable.covers(&(self.bound + self.promised))
    }
}

impl Ledger {
    /// Adds a shape whose available capacity is counted from now on.
    pub fn shape(&mut self, shape: Shape) -> ShapeId {
        if let Some(known) = self.shapes.iter().position(|known| *known == shape) {
            return ShapeId(known);
        }
        self.shapes.push(shape);
        self.totals.push(Total::default());
        self.unassigned.push(BTreeSet::new());
        let names: Vec<Arc<str>> = self.nodes.keys().cloned().collect();
        for name in names {
            self.recount(&name, |_| {});
        }
        ShapeId(self.shapes.len() - 1)
    }

    /// Adds or updates a node.
    pub fn node(&mut self, node: Node) {
        let name = Arc::clone(&node.name);
        if self.nodes.get(&name).is_some_and(|known| known.node == node) {
            return;
        }
        if !self.nodes.contains_key(&name) {
            let bound = self.pods_on_unknown_nodes.remove(&name).unwrap_or_default();
            self.nodes.insert(Arc::clone(&name), Entry { bound, ..Entry::default() });
        }
        self.recount(&name, |entry| entry.node = node);
        self.relieve(&name);
        self.assign_pending();
    }

    /// Removes a node; its pods stay until they are removed, too.
    pub fn node_gone(&mut self, name: &str) {
        let Some((name, entry)) = self.nodes.remove_entry(name) else { return };
        for (shape, total) in self.totals.iter_mut().enumerate() {
            total.left -= entry.left.get(shape).copied().unwrap_or(0);
            total.of -= entry.of.get(shape).copied().unwrap_or(0);
        }
        if entry.bound != Resources::default() {
            self.pods_on_unknown_nodes.insert(name, entry.bound);
        }
        for guest in entry.reserved {
            self.turn_out(&guest);
        }
        self.assign_pending();
    }

    /// Adds a pod that is on a node and has not ended.
    pub fn bind(&mut self, pod: &str, node: &str, requests: Resources) {
        if self.bound.get(pod).is_some_and(|(at, known)| **at == *node && *known == requests) {
            return;
        }
        self.unbind(pod);
        let name: Arc<str> =
            self.nodes.get_key_value(node).map_or_else(|| node.into(), |(name, _)| Arc::clone(name));
        self.bound.insert(pod.to_owned(), (Arc::clone(&name), requests));
        if self.nodes.contains_key(&name) {
            self.recount(&name, |entry| entry.bound = entry.bound + requests);
            self.relieve(&name);
            self.assign_pending();
        } else {
            let pods_on_unknown_nodes = self.pods_on_unknown_nodes.entry(name).or_default();
            *pods_on_unknown_nodes = *pods_on_unknown_nodes + requests;
        }
    }

    /// Removes a pod that has ended or is gone.
    pub fn unbind(&mut self, pod: &str) {
        let Some((name, requests)) = self.bound.remove(pod) else { return };
        if self.nodes.contains_key(&name) {
            self.recount(&name, |entry| entry.bound = entry.bound - requests);
            self.assign_pending();
        } else if let Some(pods_on_unknown_nodes) = self.pods_on_unknown_nodes.get_mut(&name) {
            *pods_on_unknown_nodes = *pods_on_unknown_nodes - requests;
            if *pods_on_unknown_nodes == Resources::default() {
                self.pods_on_unknown_nodes.remove(&name);
            }
        }
    }

    /// Reserves capacity for a workspace if a node has enough; returns whether it did. Idempotent.
    pub fn reserve(&mut self, workspace: &str, shape: ShapeId) -> bool {
        if self.waiting.contains_key(workspace) {
            return true;
        }
        let Some(node) = self.emptiest(shape) else { return false };
        self.put(workspace, shape, node);
        true
    }

    /// Requests of a pod of this shape.
    pub fn requests(&self, shape: ShapeId) -> Option<Resources> {
        self.shapes.get(shape.0).map(|shape| shape.requests)
    }

    /// The same shape with other requests; `None` if there are too many shapes already, as with a webhook that gives each pod
    /// another size.
    pub fn resized(&mut self, shape: ShapeId, requests: Resources) -> Option<ShapeId> {
        let resized = Shape { requests, ..self.shapes.get(shape.0)?.clone() };
        let is_new = !self.shapes.contains(&resized);
        (!is_new || self.shapes.len() < MOST_SHAPES).then(|| self.shape(resized))
    }

    /// Adds a workspace that exists and whose pod has no node yet, even if no node has enough capacity.
    pub fn wait(&mut self, workspace: &str, shape: ShapeId) {
        match self.waiting.get(workspace) {
            Some((known, _)) if *known == shape => return,
            Some(_) => self.settled(workspace),
            None => {}
        }
        if !self.reserve(workspace, shape) {
            self.waiting.insert(workspace.to_owned(), (shape, None));
            if let Some(unassigned) = self.unassigned.get_mut(shape.0) {
                unassigned.insert(workspace.to_owned());
            }
        }
    }

    /// Removes a workspace that no longer waits: its pod has a node, or it needs none.
    pub fn settled(&mut self, workspace: &str) {
        let Some((shape, node)) = self.waiting.remove(workspace) else { return };
        match node {
            Some(node) => {
                let requests = self.shapes[shape.0].requests;
                self.recount(&node, |entry| {
                    entry.reserved.remove(workspace);
                    entry.promised = entry.promised - requests;
                });
                self.assign_pending();
            }
            None => {
                self.unassigned[shape.0].remove(workspace);
            }
        }
    }

    /// Available capacity for pods of a shape.
    pub fn room(&self, shape: ShapeId) -> Available {
        let Some((total, shape)) = self.totals.get(shape.0).zip(self.shapes.get(shape.0)) else {
            return Available::Unknown;
        };
        let shortage = (total.left == 0).then(|| {
            let nodes = self.nodes.values().map(|entry| (&entry.node, entry.free()));
            Arc::new(Shortage::of(shape, nodes))
        });
        Available::Counted { left: total.left, of: total.of, shortage }
    }

    /// Number of nodes, and of those that are ready and not cordoned.
    pub fn nodes(&self) -> (usize, usize) {
        let usable = self.nodes.values().filter(|entry| entry.node.ready && !entry.node.cordoned);
        (self.nodes.len(), usable.count())
    }

    /// Sum of what usable nodes offer, and of what is used, reservations included.
    pub fn sums(&self) -> (Resources, Resources) {
        let usable = self.nodes.values().filter(|entry| entry.node.ready && !entry.node.cordoned);
        usable.fold(<(Resources, Resources)>::default(), |(offered, taken), entry| {
            (offered + entry.node.allocatable, taken + entry.bound + entry.promised)
        })
    }

    /// Number of workspaces whose pods have no node yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The node where most pods of a shape fit, as a spreading scheduler would choose; the first by name of equals.
    fn emptiest(&self, shape: ShapeId) -> Option<Arc<str>> {
        if self.totals.get(shape.0)?.left == 0 {
            return None;
        }
        let left = |entry: &Entry| entry.left.get(shape.0).copied().unwrap_or(0);
        let mut best: Option<(&Arc<str>, u64)> = None;
        for (name, entry) in &self.nodes {
            let left = left(entry);
            if left > 0 && best.is_none_or(|(_, most)| left > most) {
                best = Some((name, left));
            }
        }
        best.map(|(name, _)| Arc::clone(name))
    }

    fn put(&mut self, workspace: &str, shape: ShapeId, node: Arc<str>) {
        let requests = self.shapes[shape.0].requests;
        self.recount(&node, |entry| {
            entry.reserved.insert(workspace.to_owned());
            entry.promised = entry.promised + requests;
        });
        self.waiting.insert(workspace.to_owned(), (shape, Some(node)));
    }

    /// Reassigns reserved workspaces of a node while the scheduler has placed more on it than the ledger expected.
    fn relieve(&mut self, name: &Arc<str>) {
        loop {
            let Some(entry) = self.nodes.get(name).filter(|entry| entry.is_over()) else { return };
            let Some(guest) = entry.reserved.first().cloned() else { return };
            let Some((shape, _)) = self.waiting.get(&guest).cloned() else { return };
            let requests = self.shapes[shape.0].requests;
            self.recount(name, |entry| {
                entry.reserved.remove(&guest);
                entry.promised = entry.promised - requests;
            });
            self.turn_out(&guest);
            if let Some(node) = self.emptiest(shape) {
                self.unassigned[shape.0].remove(&guest);
                self.put(&guest, shape, node);
            }
        }
    }

    fn turn_out(&mut self, guest: &str) {
        if let Some((shape, node)) = self.waiting.get_mut(guest) {
            *node = None;
            self.unassigned[shape.0].insert(guest.to_owned());
        }
    }

    /// Assigns capacity that became available to workspaces without a node.
    fn assign_pending(&mut self) {
        for shape in (0..self.shapes.len()).map(ShapeId) {
            while let Some(workspace) = self.unassigned[shape.0].first().cloned() {
                let Some(node) = self.emptiest(shape) else { break };
                self.unassigned[shape.0].remove(&workspace);
                self.put(&workspace, shape, node);
            }
        }
    }

    /// Changes a node and updates its part of the totals.
    fn recount(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.nodes.get_mut(name) else { return };
        change(entry);
        let free = entry.free();
        let over = entry.is_over();
        entry.left.resize(self.shapes.len(), 0);
        entry.of.resize(self.shapes.len(), 0);
        for (at, (shape, total)) in self.shapes.iter().zip(&mut self.totals).enumerate() {
            let takes = entry.node.takes(shape).is_ok();
            let left = if takes && !over { free.times(&shape.requests) } else { 0 };
            let of = if takes { entry.node.allocatable.times(&shape.requests) } else { 0 };
            total.left = total.left - entry.left[at] + left;
            total.of = total.of - entry.of[at] + of;
            (entry.left[at], entry.of[at]) = (left, of);
        }
    }
}

#[cfg(test)]
mod tests;
