//! What the seed decides of each restore.

use std::ops::Range;

use crate::chaos::rng::Rng;
use crate::harness::Versions;

/// How many workspaces of each sort there are.
const SOME: Range<u64> = 1..4;

/// One restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where versions go on.
    pub versions: Versions,
    /// Whether no manager runs meanwhile.
    pub away: bool,
    /// Whether other programs write to the cluster all the time.
    pub writers: bool,
    /// Workspaces that are in the backup and run on.
    pub stays: u64,
    /// Workspaces that are in the backup and end after it.
    pub ends: u64,
    /// Workspaces that are made after the backup.
    pub late: u64,
}

impl Plan {
    /// `count` restores of each kind in turns; managers are away in every second one of a kind, in an order of the seed's.
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
                    // Where versions rise, they rise past those that others write.
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
