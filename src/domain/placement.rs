//! Placement: `place(request, candidates) -> Decision`. It filters clusters, each rejection with a reason, and ranks the rest by
//! score.
//!
//! It is pure and deterministic: equal requests and candidates give equal decisions.

pub mod capacity;
pub mod explain;
mod filter;
mod score;
mod simulate;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::cluster::{Capacity, Constraint};
use super::health::Health;
use super::names::{ClassId, ClusterName, Namespace, Region};
use super::workspace::Kind;

use capacity::Available;

pub use filter::Rejection;
pub use score::Score;
pub use simulate::{Forecast, MOST_STARTS, Outcome, simulate};

/// Attempts within the deadline of a start, each at another cluster.
const TRIES: u32 = 3;
/// Shortest deadline of an attempt.
const LEAST_TRY: Duration = Duration::from_secs(1);

/// Deadline of one attempt to create a Workspace, where `deadline` is that of the whole start; in whole milliseconds.
pub fn one_try(deadline: Duration) -> Duration {
    let millis = u64::try_from((deadline / TRIES).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis).max(LEAST_TRY)
}

/// Requirements and preferences of a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacementRequest {
    /// Regions in order of preference; empty: no preference.
    pub regions: Vec<Region>,
    /// Whether other regions are rejected.
    pub require_region: bool,
    /// Required cluster.
    pub cluster: Option<ClusterName>,
    /// Required labels of the cluster, with their values.
    pub labels: BTreeMap<String, String>,
    /// Permissions that the caller holds.
    pub permissions: BTreeSet<String>,
    /// Required namespace.
    pub namespace: Option<Namespace>,
    /// The class; `None`: the preferred class of the namespace.
    pub class: Option<ClassId>,
    /// The kind: headless workspaces have nodes of their own.
    pub kind: Kind,
    /// Breaks ties; the workspace id, so that a repeated call breaks them alike.
    pub seed: String,
}

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

impl AvailableByKind {
    fn of_mut(&mut self, kind: Kind) -> &mut Available {
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

/// A verdict for every candidate, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Clusters that fit, best first.
    pub ranked: Vec<(Arc<Target>, Score)>,
    /// Rejected clusters with the reason, by name.
    pub rejected: Vec<(ClusterName, Rejection)>,
}

/// Filters and ranks the candidates.
pub fn place<C: Borrow<Candidate>>(request: &PlacementRequest, candidates: &[C]) -> Decision {
    let mut decision = Decision { ranked: Vec::with_capacity(candidates.len()), rejected: Vec::new() };
    for candidate in candidates {
        let candidate = candidate.borrow();
        match filter::admit(request, candidate) {
            Ok(offer) => {
                let score = Score::of(request, candidate, offer.rooms.of(request.kind));
                decision.ranked.push((Arc::clone(&offer.target), score));
            }
            Err(rejection) => decision.rejected.push((candidate.name.clone(), rejection)),
        }
    }
    // The name last, so that two clusters are never equal.
    decision.ranked.sort_unstable_by(|(target, a), (other, b)| {
        a.cmp(b).then_with(|| target.cluster.cmp(&other.cluster))
    });
    decision.rejected.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    decision
}
