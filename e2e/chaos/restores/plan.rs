//! The random choices for each restore.

use std::ops::Range;

use crate::chaos::rng::Rng;
use crate::harness::Versions;

/// Number of workspaces of each sort.
const SOME: Range<u64> = 1..4;

/// One restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether versions fall or rise.
    pub versions: Versions,
    /// Whether all managers are down meanwhile.
    pub away: bool,
    /// Whether other programs write to the cluster all the time.
    pub writers: bool,
    /// Workspaces in the backup that keep running.
    pub stays: u64,
    /// Workspaces in the backup that end after it.
    pub ends: u64,
    /// Workspaces that are created after the backup.
    pub late: u64,
}

impl Plan {
    /// `count` restores of each kind, alternating; managers are down in every second one of a kind, in random order.
    pub fn all(seed: u64, count: u32) -> Vec<Self> {
        let mut rng = Rng::new(seed, "restores");
        let mut kinds = [Versions::Fall, Versions::Rise].map(|versions| {
            let away = rng.shuffled((0..count).map(|n| n % 2 == 1).collect());
            (versions, away)
        });
        let mut plans = Vec::new();
        for _ in 0..count {
            for (versions, away) in &mut kinds {
                plans.push(Self {
                    versions: *versions,
                    away: away.pop().unwrap_or_default(),
                    // Rising versions must exceed what others write.
                    writers: *versions == Versions::Rise || rng.chance(50),
                    stays: rng.within(SOME),
                    ends: rng.within(SOME),
                    late: rng.within(SOME),
                });
            }
        }
        plans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_restores_and_each_kind_happens_live_and_away() {
        let plans = Plan::all(7, 4);
        assert_eq!(plans, Plan::all(7, 4));
        assert_ne!(plans, Plan::all(8, 4));
        for versions in [Versions::Fall, Versions::Rise] {
            let of_kind = || plans.iter().filter(|plan| plan.versions == versions);
            assert_eq!((of_kind().count(), of_kind().filter(|plan| plan.away).count()), (4, 2));
        }
        assert!(plans.iter().all(|plan| plan.writers || plan.versions == Versions::Fall));
    }
}
