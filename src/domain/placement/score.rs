//! How good a fitting cluster is. Fields are compared in the order they stand; less is better.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::capacity::Room;
use super::{Candidate, PlacementRequest};
use crate::cluster::CANARY_PERMISSION;
use crate::names::ClusterName;

/// Load per weight is scaled so that a share of a workspace per weight point still counts.
const LOAD_SCALE: u64 = 1_000_000;

/// Headroom is told in thousandths: finer differences say nothing.
const FULL: u64 = 1000;

/// A score: an explanation that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// Place of the cluster's region in the preferences; regions not named come after all that are.
    pub region: usize,
    /// 0 for a canary cluster (one that demands the canary permission, which the request then holds), 1 for others.
    pub canary: u8,
    /// Load that this placement would make, per weight point: the cluster furthest below its share wins, so that
    /// clusters fill in proportion to their weights.
    pub load: u64,
    /// How full its nodes would be for this class, in thousandths; 1000 also where only an autoscaler can tell.
    pub headroom: u64,
    /// Workspaces there: of equals the one whose failure takes fewer along.
    pub spread: u64,
    /// Seeded, so that equal clusters are not always taken in the order of their names.
    pub tie: u64,
}

impl Score {
    pub(super) fn of(request: &PlacementRequest, candidate: &Candidate, room: &Room) -> Self {
        let canary = candidate.constraints.iter().any(|c| c.permission() == Some(CANARY_PERMISSION));
        let region = request.regions.iter().position(|region| *region == candidate.region);
        let placed = u64::try_from(candidate.placed).unwrap_or(u64::MAX);
        Self {
            region: region.unwrap_or(request.regions.len()),
            canary: u8::from(!canary),
            load: placed.saturating_add(1).saturating_mul(LOAD_SCALE) / u64::from(candidate.weight.max(1)),
            headroom: fullness(room),
            spread: placed,
            tie: tie(&request.seed, &candidate.name),
        }
    }
}

/// With this placement.
fn fullness(room: &Room) -> u64 {
    match room {
        Room::Unknown => FULL,
        Room::Counted { left, of, .. } => {
            let taken = of.saturating_sub(*left).saturating_add(1);
            taken.saturating_mul(FULL).checked_div(*of).map_or(FULL, |full| full.min(FULL))
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
