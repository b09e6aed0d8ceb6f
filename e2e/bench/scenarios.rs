//! The scenarios, the fleets that they share, and their sizes.

mod bare;
mod faults;
mod few;
mod many;
mod sizes;

use anyhow::Result;
use clap::ValueEnum;

use crate::work::Bench;

pub use sizes::{Scale, Sizes};

/// What can be measured separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One workspace at a time.
    One,
    /// API calls of a lifecycle.
    Calls,
    /// Many subscribers watching a burst.
    Subscribers,
    /// Many starts at once on one cluster.
    Burst,
    /// Many stops at once, after a burst.
    Stop,
    /// GetWorkspaces with many live.
    List,
    /// Cost of idling with 1, 3 and 12 clusters.
    Idle,
    /// Start of the process with many live.
    Restart,
    /// The leader is killed or ends.
    Takeover,
    /// Heartbeats of many.
    Heartbeats,
    /// Many starts at once on three clusters.
    Burst3,
    /// One bad cluster of eight.
    BadCluster,
    /// How soon a silent cluster is detected.
    Detection,
    /// Placement alone; `src/domain/benches` measures it, and it is only reported here.
    Placement,
    /// Backups and restores of trees, beside `tar | zstd`, restic and kopia; only where it is named.
    Content,
    /// Changes of the index while everything is read; `src/federation/benches` measures and prints it.
    Index,
}

/// Scenarios that share a fleet.
pub struct Group {
    /// Name of its file of results.
    pub name: &'static str,
    /// Clusters of the fleet.
    pub clusters: usize,
    /// The scenarios on it.
    pub scenarios: &'static [Scenario],
}

/// In the order in which they run.
pub const GROUPS: [Group; 5] = [
    Group {
        name: "few",
        clusters: 1,
        scenarios: &[Scenario::One, Scenario::Calls, Scenario::Subscribers, Scenario::Burst, Scenario::Stop],
    },
    Group {
        name: "many",
        clusters: 1,
        scenarios: &[
            Scenario::List,
            Scenario::Idle,
            Scenario::Restart,
            Scenario::Takeover,
            Scenario::Heartbeats,
        ],
    },
    Group { name: "three", clusters: 3, scenarios: &[Scenario::Burst3, Scenario::Idle, Scenario::Detection] },
    Group { name: "eight", clusters: 8, scenarios: &[Scenario::BadCluster] },
    Group { name: "twelve", clusters: 12, scenarios: &[Scenario::Idle] },
];

/// Runs the wanted scenarios of a group. [`Bench::doing`] is the current one when one fails.
pub async fn run(bench: &mut Bench, group: &Group, wanted: &[Scenario], sizes: &Sizes) -> Result<()> {
    match group.name {
        "few" => Box::pin(with_few(bench, wanted, sizes)).await,
        "many" => Box::pin(with_many(bench, wanted, sizes)).await,
        _ => Box::pin(over_several(bench, wanted, sizes)).await,
    }
}

async fn with_few(bench: &mut Bench, wanted: &[Scenario], sizes: &Sizes) -> Result<()> {
    if bench.begin(wanted, Scenario::One) {
        bench.one_at_a_time(sizes.one).await?;
        bench.done(Scenario::One)?;
    }
    if bench.begin(wanted, Scenario::Calls) {
        bench.calls().await?;
        bench.done(Scenario::Calls)?;
    }
    if bench.begin(wanted, Scenario::Subscribers) {
        let (subscribers, starts) = sizes.subscribers;
        bench.subscribers(subscribers, starts).await?;
        bench.done(Scenario::Subscribers)?;
    }
    // A stop needs its burst, and a burst must be stopped.
    if bench.begin(wanted, Scenario::Stop) | bench.begin(wanted, Scenario::Burst) {
        bench.crowd("burst", "stop", sizes.burst).await?;
        for scenario in [Scenario::Burst, Scenario::Stop] {
            if wanted.contains(&scenario) {
                bench.done(scenario)?;
            }
        }
    }
    Ok(())
}

/// Adds live workspaces on one cluster in steps, and runs the scenarios that depend on their number.
async fn with_many(bench: &mut Bench, wanted: &[Scenario], sizes: &Sizes) -> Result<()> {
    if bench.begin(wanted, Scenario::Idle) {
        bench.idle(sizes.window).await?;
    }
    if bench.begin(wanted, Scenario::Takeover) {
        bench.takeover(sizes.repeats).await?;
    }
    for count in sizes.live {
        let at = |scenario| match scenario {
            Scenario::List | Scenario::Restart => true,
            Scenario::Idle => sizes.idle.contains(count),
            Scenario::Takeover => sizes.takeover.contains(count),
            Scenario::Heartbeats => Some(count) == sizes.live.last(),
            _ => false,
        };
        let now: Vec<Scenario> = wanted.iter().copied().filter(|it| at(*it)).collect();
        if now.is_empty() {
            continue;
        }
        bench.populate(*count).await?;
        if bench.begin(&now, Scenario::List) {
            bench.lists().await?;
        }
        if bench.begin(&now, Scenario::Idle) {
            bench.idle(sizes.window).await?;
        }
        if bench.begin(&now, Scenario::Restart) {
            bench.restart(sizes.repeats).await?;
        }
        if bench.begin(&now, Scenario::Takeover) {
            bench.takeover(sizes.repeats).await?;
        }
        if bench.begin(&now, Scenario::Heartbeats) {
            bench.heartbeats(sizes.heartbeats).await?;
        }
    }
    wanted.iter().try_for_each(|scenario| bench.done(*scenario))
}

async fn over_several(bench: &mut Bench, wanted: &[Scenario], sizes: &Sizes) -> Result<()> {
    if bench.begin(wanted, Scenario::Idle) {
        bench.idle(sizes.window).await?;
    }
    if bench.begin(wanted, Scenario::Burst3) {
        bench.crowd("burst3", "burst3", sizes.burst_over_several).await?;
        bench.done(Scenario::Burst3)?;
    }
    if bench.begin(wanted, Scenario::Idle) {
        for count in sizes.idle_over_several {
            bench.populate(*count).await?;
            bench.idle(sizes.window).await?;
        }
        bench.done(Scenario::Idle)?;
    }
    if bench.begin(wanted, Scenario::BadCluster) {
        let (rounds, starts) = sizes.bad_cluster;
        bench.bad_cluster(rounds, starts).await?;
        bench.done(Scenario::BadCluster)?;
    }
    if bench.begin(wanted, Scenario::Detection) {
        bench.detection(sizes.recovery).await?;
        bench.done(Scenario::Detection)?;
    }
    Ok(())
}
