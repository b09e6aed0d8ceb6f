//! What the nodes of clusters have left, and what is recorded under the names of clusters that were taken out.

use std::collections::BTreeMap;

use crate::fleet::Fleet;
use crate::view::index::Index;
use domain::names::ClusterName;
use domain::placement::capacity::{Available, Resources};
use domain::workspace::Kind;

/// What the nodes of a cluster have left.
#[derive(Debug, Clone, Default)]
pub struct CapacityOverview {
    /// Whether nodes were listed.
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
    /// How many more regular workspaces fit, by class; of the namespace with most capacity where they differ.
    pub rooms: BTreeMap<String, u64>,
}

/// How many workspaces are still recorded under the names of clusters that were taken out.
pub(crate) fn left(fleet: &Fleet, index: &Index) -> BTreeMap<ClusterName, usize> {
    let mut placed = index.placed();
    placed.retain(|name, _| fleet.version(name).is_none());
    placed
}

pub(crate) fn capacity_of(fleet: &Fleet, name: &ClusterName) -> Option<CapacityOverview> {
    let connected = fleet.get(name)?;
    let capacity = connected.member.capacity();
    let mut rooms: BTreeMap<String, u64> = BTreeMap::new();
    for ((_, class, kind), room) in capacity.rooms().iter() {
        if let (Kind::Regular, Available::Counted { left, .. }) = (kind, room) {
            let most = rooms.entry(class.clone()).or_default();
            *most = (*most).max(*left);
        }
    }
    let totals = capacity.totals();
    Some(CapacityOverview {
        known: totals.known,
        nodes: totals.nodes,
        usable: totals.usable,
        allocatable: totals.allocatable,
        taken: totals.taken,
        waiting: totals.waiting,
        rooms,
    })
}
