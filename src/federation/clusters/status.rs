//! The whole installation on one page, as this replica sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::capacity::{CapacityOverview, capacity_of, left};
use super::drain::{DrainView, Drains};
use super::incarnation::{Incarnations, Standing};
use super::view::{ClusterView, Views};
use crate::fleet::Fleet;
use crate::view::index::Index;
use domain::names::ClusterName;
use domain::workspace::Phase;

/// How many workspaces are in each phase.
pub type Phases = BTreeMap<Phase, usize>;

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

/// The whole installation on one page.
pub struct Overviews {
    views: Arc<Views>,
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    drains: Arc<Drains>,
    incarnations: Arc<Incarnations>,
}

impl Overviews {
    pub(crate) fn new(
        views: Arc<Views>,
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        drains: Arc<Drains>,
        incarnations: Arc<Incarnations>,
    ) -> Arc<Self> {
        Arc::new(Self { views, fleet, index, drains, incarnations })
    }

    /// The page.
    pub async fn read(&self) -> Overview {
        let mut phases = self.index.phases();
        let of_cluster = |cluster: ClusterView| {
            let name = &cluster.spec.name;
            ClusterOverview {
                capacity: capacity_of(&self.fleet, name),
                phases: phases.remove(name).unwrap_or_default(),
                // One that was cancelled keeps nothing away.
                drain: if self.index.is_draining(name) { self.drains.get(name, false).ok() } else { None },
                cluster,
            }
        };
        let clusters = self.views.all().into_iter().map(of_cluster).collect();
        let now = Timestamp::now();
        let strays = self.fleet.connected();
        let strays =
            strays.iter().map(|connected| self.index.strays(connected.member.name(), now).len()).sum();
        Overview {
            standing: self.incarnations.standing().await,
            clusters,
            strays,
            left: left(&self.fleet, &self.index),
        }
    }
}
