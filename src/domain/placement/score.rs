//! How good a fitting cluster is. Fields are compared in the order they stand; less is better.

use std::hash::{Hash, Hasher};

use super::{Candidate, PlacementRequest};
use crate::domain::cluster::CANARY_PERMISSION;
use crate::domain::names::ClusterName;

/// Load per weight is scaled so that a share of a workspace per weight point still counts.
const LOAD_SCALE: u64 = 1_000_000;

/// A score: an explanation that can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// 0 for a canary cluster (one that demands the canary permission, which the request then holds), 1 for others.
    pub canary: u8,
    /// Place of the cluster's region in the preferences; regions not named come after all that are.
    pub region: usize,
    /// Load that this placement would make, per weight point: the cluster furthest below its share wins, so that
    /// clusters fill in proportion to their weights.
    pub load: u64,
    /// Seeded, so that equal clusters are not always taken in the order of their names.
    pub tie: u64,
    /// Last, so that two scores are never equal.
    pub name: ClusterName,
}

impl Score {
    pub(super) fn of(request: &PlacementRequest, candidate: &Candidate) -> Self {
        let canary = candidate.constraints.iter().any(|c| c.permission() == Some(CANARY_PERMISSION));
        let region = request.regions.iter().position(|region| *region == candidate.region);
        let placed = u64::try_from(candidate.placed).unwrap_or(u64::MAX);
        Self {
            canary: u8::from(!canary),
            region: region.unwrap_or(request.regions.len()),
            load: placed.saturating_add(1).saturating_mul(LOAD_SCALE) / u64::from(candidate.weight.max(1)),
            tie: tie(&request.seed, &candidate.name),
            name: candidate.name.clone(),
        }
    }
}

/// FNV-1a over seed and name: the standard library's hasher is not promised to stay the same.
fn tie(seed: &str, name: &ClusterName) -> u64 {
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    seed.hash(&mut hasher);
    name.as_str().hash(&mut hasher);
    hasher.finish()
}
