//! The whole installation on one page, as this replica sees it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use domain::names::ClusterName;
use domain::placement::capacity::{Resources, Room};
use domain::workspace::{Kind, Phase};

use crate::clusters::drain::DrainView;
use crate::clusters::registry::ClusterView;
use crate::{Federation, Standing};

/// How many workspaces are in each phase.
pub type Phases = BTreeMap<Phase, usize>;

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
    /// How many more regular workspaces fit, by class; the namespace with most room where they differ.
    pub rooms: BTreeMap<String, u64>,
}

/// A cluster with what its nodes have left.
#[derive(Debug, Clone)]
pub struct ClusterOverview {
    /// As it is listed.
    pub cluster: ClusterView,
    /// Absent where the registration cannot be used.
    pub capacity: Option<CapacityOverview>,
    /// Workspaces seen there.
    pub phases: Phases,
    /// The drain that keeps new workspaces away.
    pub drain: Option<DrainView>,
}

/// The page.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Who stands for election.
    pub standing: Standing,
    /// By name.
    pub clusters: Vec<ClusterOverview>,
    /// Resources that no record places where they are.
    pub strays: usize,
    /// Live records by the name that they have, where that is not registered.
    pub left: BTreeMap<ClusterName, usize>,
}

impl Federation {
    /// The page.
    pub async fn overview(&self) -> Overview {
        let mut phases = self.index.phases();
        let of_cluster = |cluster: ClusterView| {
            let name = &cluster.spec.name;
            ClusterOverview {
                capacity: self.capacity_of(name),
                phases: phases.remove(name).unwrap_or_default(),
                // One that was cancelled keeps nothing away.
                drain: if self.index.is_draining(name) { self.drain(name, false).ok() } else { None },
                cluster,
            }
        };
        let clusters = self.clusters().into_iter().map(of_cluster).collect();
        let now = Timestamp::now();
        let strays = self.fleet.connected();
        let strays =
            strays.iter().map(|connected| self.index.strays(connected.member.name(), now).len()).sum();
        Overview { standing: self.standing().await, clusters, strays, left: self.left() }
    }

    /// How many workspaces are still recorded under the names of clusters that were taken out.
    pub fn left(&self) -> BTreeMap<ClusterName, usize> {
        let mut placed = self.index.placed();
        placed.retain(|name, _| self.fleet.version(name).is_none());
        placed
    }

    pub(crate) fn capacity_of(&self, name: &ClusterName) -> Option<CapacityOverview> {
        let connected = self.fleet.get(name)?;
        let capacity = connected.member.capacity();
        let mut rooms: BTreeMap<String, u64> = BTreeMap::new();
        for ((_, class, kind), room) in capacity.rooms().iter() {
            if let (Kind::Regular, Room::Counted { left, .. }) = (kind, room) {
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
}
