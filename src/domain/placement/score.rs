//! Score of a cluster that fits. Fields are compared in their order; less is better.

use std::hash::{Hash, Hasher};

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};

use super::capacity::Available;
use super::{Candidate, Offer, PlacementRequest};
use crate::cluster::CANARY_PERMISSION;
use crate::names::ClusterName;

/// Scale of load per weight, so that fractions of a workspace per weight point count.
const LOAD_SCALE: u64 = 1_000_000;

/// Headroom is in thousandths: finer differences do not matter.
const FULL: u64 = 1000;

/// A score, which also explains the ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// 1 if the namespace is the last choice, because its rules rejected the last starts; 0 for others.
    #[serde(default)]
    pub last_choice: u8,
    /// Place of the cluster's region in the preferences; regions not named come after all that are.
    pub region: usize,
    /// 0 for a canary cluster (one that demands the canary permission, which the request then holds), 1 for others.
    pub canary: u8,
    /// Load per weight point after this placement: the cluster furthest below its share wins, so that clusters fill in
    /// proportion to their weights.
    pub load: u64,
    /// How full its nodes would be for this class, in thousandths; 1000 also if only an autoscaler adds capacity.
    pub headroom: u64,
    /// Number of workspaces there: of equal clusters, the one whose failure affects fewer.
    pub spread: u64,
    /// Seeded hash, so that equal clusters are not always chosen in the order of their names.
    pub tie: u64,
}

impl Score {
    pub(super) fn of(request: &PlacementRequest, candidate: &Candidate, offer: &Offer) -> Self {
        let canary = candidate.constraints.iter().any(|c| c.permission() == Some(CANARY_PERMISSION));
        let region = request.regions.iter().position(|region| *region == candidate.region);
        let placed = u64::try_from(candidate.placed).unwrap_or(u64::MAX);
        Self {
            last_choice: u8::from(candidate.last_choice(&offer.target.namespace).is_some()),
            region: region.unwrap_or(request.regions.len()),
            canary: u8::from(!canary),
            load: placed.saturating_add(1).saturating_mul(LOAD_SCALE) / u64::from(candidate.weight.max(1)),
            headroom: fullness(offer.rooms.of(request.kind)),
            spread: placed,
            tie: tie(&request.seed, &candidate.name),
        }
    }
}

/// How full the nodes are after this placement, in thousandths.
fn fullness(room: &Available) -> u64 {
    match room {
        Available::Unknown => FULL,
        Available::Counted { left, of, .. } => {
            let taken = of.saturating_sub(*left).saturating_add(1);
            taken.saturating_mul(FULL).checked_div(*of).map_or(FULL, |full| full.min(FULL))
        }
    }
}

/// FNV-1a over seed and name: the hasher of the standard library may change between versions.
fn tie(seed: &str, name: &ClusterName) -> u64 {
    let mut hasher = FnvHasher::default();
    seed.hash(&mut hasher);
    name.as_str().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ties_are_broken_alike_by_every_release() {
        let tie = |seed: &str, name: &str| super::tie(seed, &name.parse().unwrap());
        assert_eq!(tie("", "eu-1"), 0x7c4c_442c_bd07_b5db);
        assert_eq!(tie("ws-1", "eu-1"), 0xb6e4_a1a8_c3db_589b);
        assert_eq!(tie("ws-1", "us-1"), 0xc98e_5d76_1cda_411d);
    }
}
