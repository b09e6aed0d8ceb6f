//! Placement: `place(request, candidates) -> Decision`, a pure function: filter with a reason each, score, choose.
//!
//! The same request and the same candidates give the same answer.

mod filter;
mod score;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::Constraint;
use super::health::Health;
use super::names::{ClassId, ClusterName, Namespace, Region};

pub use filter::Rejection;
pub use score::Score;

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
    /// Breaks ties; the workspace id, so that a repeated call breaks them alike.
    pub seed: String,
}

/// A cluster as placement sees it.
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
    pub classes: BTreeSet<ClassId>,
    /// The class used where a request names none.
    pub preferred_class: Option<ClassId>,
    /// Whether it is under maintenance.
    pub maintenance: bool,
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
    pub ranked: Vec<(Target, Score)>,
    /// Clusters that do not, with the reason, by name.
    pub rejected: Vec<(ClusterName, Rejection)>,
}

/// Filters and ranks the candidates.
pub fn place(request: &PlacementRequest, candidates: &[Candidate]) -> Decision {
    let mut decision = Decision { ranked: Vec::new(), rejected: Vec::new() };
    for candidate in candidates {
        match filter::admit(request, candidate) {
            Ok((namespace, class)) => {
                let target = Target {
                    cluster: candidate.name.clone(),
                    region: candidate.region.clone(),
                    namespace,
                    class,
                };
                decision.ranked.push((target, Score::of(request, candidate)));
            }
            Err(rejection) => decision.rejected.push((candidate.name.clone(), rejection)),
        }
    }
    decision.ranked.sort_by(|(_, a), (_, b)| a.cmp(b));
    decision.rejected.sort_by(|(a, _), (b, _)| a.cmp(b));
    decision
}
