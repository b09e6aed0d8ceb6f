//! Placement: `place(request, candidates) -> Decision`, a pure function: filter with a reason each, score, choose.
//!
//! The same request and the same candidates give the same answer.

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

use capacity::Room;

pub use filter::Rejection;
pub use score::Score;
pub use simulate::{Forecast, MOST_STARTS, Outcome, simulate};

/// Tries that the deadline of a start leaves time for: each at another cluster.
const TRIES: u32 = 3;
/// For one try, at least.
const LEAST_TRY: Duration = Duration::from_secs(1);

/// How long one try to create a Workspace may take, where `deadline` is that of a whole start.
pub fn one_try(deadline: Duration) -> Duration {
    (deadline / TRIES).max(LEAST_TRY)
}

/// What a start asks of the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacementRequest {
    /// Regions in order of preference; empty: no preference.
    pub regions: Vec<Region>,
    /// Whether only the named regions will do.
    pub require_region: bool,
    /// Only this cluster will do.
    pub cluster: Option<ClusterName>,
    /// Labels that the cluster must carry with these values.
    pub labels: BTreeMap<String, String>,
    /// Permissions the caller holds.
    pub permissions: BTreeSet<String>,
    /// Only a namespace of this name will do.
    pub namespace: Option<Namespace>,
    /// The class; absent: the preferred class of wherever it lands.
    pub class: Option<ClassId>,
    /// What it is for: headless workspaces have nodes of their own.
    pub kind: Kind,
    /// Breaks ties; the workspace id, so that a repeated call breaks them alike.
    pub seed: String,
}

/// A cluster as placement sees it. Made anew when something about it changed, and shared by all decisions until then.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The cluster.
    pub name: ClusterName,
    /// Its region.
    pub region: Region,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its share against others; 0 takes none.
    pub weight: u32,
    /// Whether what its nodes have left is a limit.
    pub capacity: Capacity,
    /// Whether the admin keeps new workspaces away.
    pub cordoned: bool,
    /// Whether it is being emptied.
    pub draining: bool,
    /// Its health.
    pub health: Health,
    /// Why it takes no writes of this leadership, where it does not.
    pub barred: Option<String>,
    /// What a request must hold.
    pub constraints: Vec<Constraint>,
    /// Its workspace namespaces, in the order of the registration.
    pub namespaces: Vec<CandidateNamespace>,
    /// Live workspaces placed there, those in flight included.
    pub placed: usize,
}

/// A workspace namespace as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateNamespace {
    /// Its name.
    pub name: Namespace,
    /// The classes it offers.
    pub offers: BTreeMap<ClassId, Offer>,
    /// The class used where a request names none.
    pub preferred_class: Option<ClassId>,
    /// Whether it is under maintenance.
    pub maintenance: bool,
    /// Why it accepts no workspaces now, where that is known.
    pub closed: Option<String>,
}

/// A class that a namespace offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What a request that takes it gets.
    pub target: Arc<Target>,
    /// What nodes have left for it.
    pub rooms: Rooms,
}

/// Room for workspaces of one class by what they are for, since that decides which nodes take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rooms(pub [Room; 3]);

impl Rooms {
    /// Room for workspaces of a kind.
    pub fn of(&self, kind: Kind) -> &Room {
        let [regular, prebuild, image_build] = &self.0;
        match kind {
            Kind::Regular => regular,
            Kind::Prebuild => prebuild,
            Kind::ImageBuild => image_build,
        }
    }
}

impl Rooms {
    fn of_mut(&mut self, kind: Kind) -> &mut Room {
        let [regular, prebuild, image_build] = &mut self.0;
        match kind {
            Kind::Regular => regular,
            Kind::Prebuild => prebuild,
            Kind::ImageBuild => image_build,
        }
    }
}

/// Where a workspace goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its region.
    pub region: Region,
    /// The namespace there.
    pub namespace: Namespace,
    /// The class, resolved where the request named none.
    pub class: ClassId,
}

/// A verdict for every candidate, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Clusters that fit, best first.
    pub ranked: Vec<(Arc<Target>, Score)>,
    /// Clusters that do not, with the reason, by name.
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
