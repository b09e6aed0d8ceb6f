//! The ledger of one cluster's nodes. Every change costs what one node costs, whatever the number of nodes and pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Node, Resources, Room, Shape, Shortage};

/// Shapes that are counted: a class and type of workspace has one, and another one where the cluster admits larger pods.
const MOST_SHAPES: usize = 1024;

/// A shape that the ledger counts room for. Shapes are never taken back: there are as many as classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShapeId(usize);

/// What is left on the nodes of one cluster.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    shapes: Vec<Shape>,
    totals: Vec<Total>,
    /// Sorted, so that the same history puts the same workspaces on the same nodes.
    nodes: BTreeMap<Arc<str>, Entry>,
    /// Pods that have a node, also one that is not known (yet).
    bound: HashMap<String, (Arc<str>, Resources)>,
    /// Pods by a node that is not known.
    adrift: HashMap<Arc<str>, Resources>,
    /// Workspaces without a pod on a node, and where the ledger put them.
    waiting: HashMap<String, (ShapeId, Option<Arc<str>>)>,
    /// Those that it could put nowhere, by shape.
    homeless: Vec<BTreeSet<String>>,
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
    /// Workspaces that were put here until the scheduler says where they are.
    guests: BTreeSet<String>,
    /// By shape, how many more fit.
    left: Vec<u64>,
    /// By shape, how many would fit on the empty node.
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
    /// Counts room for pods of a shape from now on.
    pub fn shape(&mut self, shape: Shape) -> ShapeId {
        if let Some(known) = self.shapes.iter().position(|known| *known == shape) {
            return ShapeId(known);
        }
        self.shapes.push(shape);
        self.totals.push(Total::default());
        self.homeless.push(BTreeSet::new());
        let names: Vec<Arc<str>> = self.nodes.keys().cloned().collect();
        for name in names {
            self.recount(&name, |_| {});
        }
        ShapeId(self.shapes.len() - 1)
    }

    /// A node is there, or changed.
    pub fn node(&mut self, node: Node) {
        let name = Arc::clone(&node.name);
        if self.nodes.get(&name).is_some_and(|known| known.node == node) {
            return;
        }
        if !self.nodes.contains_key(&name) {
            let bound = self.adrift.remove(&name).unwrap_or_default();
            self.nodes.insert(Arc::clone(&name), Entry { bound, ..Entry::default() });
        }
        self.recount(&name, |entry| entry.node = node);
        self.relieve(&name);
        self.house();
    }

    /// A node is gone; its pods are until they are told gone, too.
    pub fn node_gone(&mut self, name: &str) {
        let Some((name, entry)) = self.nodes.remove_entry(name) else { return };
        for (shape, total) in self.totals.iter_mut().enumerate() {
            total.left -= entry.left.get(shape).copied().unwrap_or(0);
            total.of -= entry.of.get(shape).copied().unwrap_or(0);
        }
        if entry.bound != Resources::default() {
            self.adrift.insert(name, entry.bound);
        }
        for guest in entry.guests {
            self.turn_out(&guest);
        }
        self.house();
    }

    /// A pod is on a node and not over.
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
            self.house();
        } else {
            let adrift = self.adrift.entry(name).or_default();
            *adrift = *adrift + requests;
        }
    }

    /// A pod is over or gone.
    pub fn unbind(&mut self, pod: &str) {
        let Some((name, requests)) = self.bound.remove(pod) else { return };
        if self.nodes.contains_key(&name) {
            self.recount(&name, |entry| entry.bound = entry.bound - requests);
            self.house();
        } else if let Some(adrift) = self.adrift.get_mut(&name) {
            *adrift = *adrift - requests;
            if *adrift == Resources::default() {
                self.adrift.remove(&name);
            }
        }
    }

    /// Takes room for a workspace where one node has it; says whether it did. A workspace has room once.
    pub fn reserve(&mut self, workspace: &str, shape: ShapeId) -> bool {
        if self.waiting.contains_key(workspace) {
            return true;
        }
        let Some(node) = self.roomiest(shape) else { return false };
        self.put(workspace, shape, node);
        true
    }

    /// What pods of a shape request.
    pub fn requests(&self, shape: ShapeId) -> Option<Resources> {
        self.shapes.get(shape.0).map(|shape| shape.requests)
    }

    /// A shape that goes to the same nodes and requests something else; `None` where there are too many shapes already, as of a
    /// webhook that makes each pod another size.
    pub fn resized(&mut self, shape: ShapeId, requests: Resources) -> Option<ShapeId> {
        let resized = Shape { requests, ..self.shapes.get(shape.0)?.clone() };
        let is_new = !self.shapes.contains(&resized);
        (!is_new || self.shapes.len() < MOST_SHAPES).then(|| self.shape(resized))
    }

    /// Counts a workspace that is there and whose pod has no node yet, whether there is room for it or not.
    pub fn wait(&mut self, workspace: &str, shape: ShapeId) {
        match self.waiting.get(workspace) {
            Some((known, _)) if *known == shape => return,
            Some(_) => self.settled(workspace),
            None => {}
        }
        if !self.reserve(workspace, shape) {
            self.waiting.insert(workspace.to_owned(), (shape, None));
            if let Some(homeless) = self.homeless.get_mut(shape.0) {
                homeless.insert(workspace.to_owned());
            }
        }
    }

    /// A workspace waits no longer: its pod has a node, or it is not to have one.
    pub fn settled(&mut self, workspace: &str) {
        let Some((shape, node)) = self.waiting.remove(workspace) else { return };
        match node {
            Some(node) => {
                let requests = self.shapes[shape.0].requests;
                self.recount(&node, |entry| {
                    entry.guests.remove(workspace);
                    entry.promised = entry.promised - requests;
                });
                self.house();
            }
            None => {
                self.homeless[shape.0].remove(workspace);
            }
        }
    }

    /// What is left for pods of a shape.
    pub fn room(&self, shape: ShapeId) -> Room {
        let Some((total, shape)) = self.totals.get(shape.0).zip(self.shapes.get(shape.0)) else {
            return Room::Unknown;
        };
        let shortage = (total.left == 0).then(|| {
            let nodes = self.nodes.values().map(|entry| (&entry.node, entry.free()));
            Arc::new(Shortage::of(shape, nodes))
        });
        Room::Counted { left: total.left, of: total.of, shortage }
    }

    /// Nodes, and how many of them are ready and not cordoned.
    pub fn nodes(&self) -> (usize, usize) {
        let usable = self.nodes.values().filter(|entry| entry.node.ready && !entry.node.cordoned);
        (self.nodes.len(), usable.count())
    }

    /// What usable nodes offer in all, and what of it is taken, promises included.
    pub fn sums(&self) -> (Resources, Resources) {
        let usable = self.nodes.values().filter(|entry| entry.node.ready && !entry.node.cordoned);
        usable.fold(<(Resources, Resources)>::default(), |(offered, taken), entry| {
            (offered + entry.node.allocatable, taken + entry.bound + entry.promised)
        })
    }

    /// Workspaces whose pods have no node yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The node with most room for a shape, as a scheduler that spreads would choose; the first by name of equals.
    fn roomiest(&self, shape: ShapeId) -> Option<Arc<str>> {
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
            entry.guests.insert(workspace.to_owned());
            entry.promised = entry.promised + requests;
        });
        self.waiting.insert(workspace.to_owned(), (shape, Some(node)));
    }

    /// Where the scheduler put more on a node than the ledger had thought, those it had put there go elsewhere.
    fn relieve(&mut self, name: &Arc<str>) {
        loop {
            let Some(entry) = self.nodes.get(name).filter(|entry| entry.is_over()) else { return };
            let Some(guest) = entry.guests.first().cloned() else { return };
            let Some((shape, _)) = self.waiting.get(&guest).cloned() else { return };
            let requests = self.shapes[shape.0].requests;
            self.recount(name, |entry| {
                entry.guests.remove(&guest);
                entry.promised = entry.promised - requests;
            });
            self.turn_out(&guest);
            if let Some(node) = self.roomiest(shape) {
                self.homeless[shape.0].remove(&guest);
                self.put(&guest, shape, node);
            }
        }
    }

    fn turn_out(&mut self, guest: &str) {
        if let Some((shape, node)) = self.waiting.get_mut(guest) {
            *node = None;
            self.homeless[shape.0].insert(guest.to_owned());
        }
    }

    /// Gives room that came up to those that have none.
    fn house(&mut self) {
        for shape in (0..self.shapes.len()).map(ShapeId) {
            while let Some(workspace) = self.homeless[shape.0].first().cloned() {
                let Some(node) = self.roomiest(shape) else { break };
                self.homeless[shape.0].remove(&workspace);
                self.put(&workspace, shape, node);
            }
        }
    }

    /// Changes a node and counts its part of the totals anew.
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
