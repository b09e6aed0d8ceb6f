//! Clusters as placement sees them: candidates, their namespaces, and the classes that these offer.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::capacity::Available;
use crate::cluster::{Capacity, Constraint};
use crate::health::Health;
use crate::names::{ClassId, ClusterName, Namespace, Region};
use crate::workspace::Kind;

/// A cluster as placement sees it. Rebuilt when something about it changes, and shared by all decisions until then.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The cluster.
    pub name: ClusterName,
    /// Its region.
    pub region: Region,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its share relative to other clusters; 0 means none.
    pub weight: u32,
    /// Whether available capacity of its nodes is a limit.
    pub capacity: Capacity,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// Whether it is being drained, or was.
    pub draining: bool,
    /// Its health.
    pub health: Health,
    /// Why writes of this term are not possible; `None` if they are.
    pub barred: Option<String>,
    /// Constraints that a request must meet.
    pub constraints: Vec<Constraint>,
    /// Its workspace namespaces, in the order of the registration.
    pub namespaces: Vec<CandidateNamespace>,
    /// Number of live workspaces placed there, including starts in flight.
    pub placed: usize,
}

/// A workspace namespace as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateNamespace {
    /// Its name.
    pub name: Namespace,
    /// The classes it offers.
    pub offers: BTreeMap<ClassId, Offer>,
    /// The class of requests that name none.
    pub preferred_class: Option<ClassId>,
    /// Whether it is under maintenance.
    pub maintenance: bool,
    /// Why it accepts no workspaces now, if known.
    pub closed: Option<String>,
    /// Why it is used only where nothing else fits, if it is.
    pub last_choice: Option<String>,
}

/// A class that a namespace offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The target of a request that chooses it.
    pub target: Arc<Target>,
    /// Available capacity for it.
    pub rooms: AvailableByKind,
}

/// Available capacity for a class, for each kind of workspace: the kind decides which nodes can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailableByKind(pub [Available; 3]);

impl AvailableByKind {
    /// Available capacity for a kind.
    pub fn of(&self, kind: Kind) -> &Available {
        let [regular, prebuild, image_build] = &self.0;
        match kind {
            Kind::Regular => regular,
            Kind::Prebuild => prebuild,
            Kind::ImageBuild => image_build,
        }
    }
}

impl Candidate {
    /// Why a namespace is used only where nothing else fits.
    pub(super) fn last_choice(&self, namespace: &Namespace) -> Option<&str> {
        let found = self.namespaces.iter().find(|one| one.name == *namespace)?;
        found.last_choice.as_deref()
    }
}

impl AvailableByKind {
    pub(super) fn of_mut(&mut self, kind: Kind) -> &mut Available {
        let [regular, prebuild, image_build] = &mut self.0;
        match kind {
            Kind::Regular => regular,
            Kind::Prebuild => prebuild,
            Kind::ImageBuild => image_build,
        }
    }
}

/// Where a workspace is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its region.
    pub region: Region,
    /// The namespace there.
    pub namespace: Namespace,
    /// The class, resolved if the request names none.
    pub class: ClassId,
}
