//! The scenarios: which there are, on what they run together, and how much of each.

mod faults;
mod few;
mod many;

use anyhow::Result;
use clap::ValueEnum;
use tokio::time::Duration;

use crate::work::Bench;

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// Seconds each: bursts of 50, 200 live.
    Small,
    /// What is held against the goals: bursts of 1,000, 10,000 live.
    Full,
}

/// What can be measured alone.
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
    /// What idling costs, over 1, 3 and 12 clusters.
    Idle,
    /// Start of the process with many live.
    Restart,
    /// The leader is killed or ends.
    Takeover,
    /// Heartbeats of many.
    Heartbeats,
    /// Many starts at once on three clusters.
    Burst3,
    /// One bad cluster among eight.
    BadCluster,
    /// How soon a cluster's silence is seen.
    Detection,
}

/// Scenarios that share a fleet.
pub struct Group {
    /// Names its file of results.
    pub name: &'static str,
    /// Clusters of the fleet.
    pub clusters: usize,
    /// What is measured on it.
    pub scenarios: &'static [Scenario],
}

/// All groups, in the order in which they run.
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
    Group { name: "three", clusters: 3, scenarios: &[Scenario::Burst3, Scenario::Idle] },
    Group { name: "eight", clusters: 8, scenarios: &[Scenario::BadCluster, Scenario::Detection] },
    Group { name: "twelve", clusters: 12, scenarios: &[Scenario::Idle] },
];

/// Times a burst is repeated, in turn with its floor.
const ROUNDS: usize = 3;

/// Runs the wanted scenarios of a group.
pub async fn run(bench: &mut Bench, group: &Group, wanted: &[Scenario], scale: Scale) -> Result<()> {
    let full = scale == Scale::Full;
    let many = if full { 1000 } else { 50 };
    let wants = |scenario: Scenario| wanted.contains(&scenario);
    match group.name {
        "few" => {
            if wants(Scenario::One) {
                bench.one_at_a_time(if full { 50 } else { 20 }).await?;
            }
            if wants(Scenario::Calls) {
                bench.calls().await?;
            }
            if wants(Scenario::Subscribers) {
                let (subscribers, starts) = if full { (1000, 200) } else { (100, 50) };
                bench.subscribers(subscribers, starts).await?;
            }
            if wants(Scenario::Burst) || wants(Scenario::Stop) {
                bench.crowd("burst", many, ROUNDS).await?;
            }
        }
        "many" => Box::pin(with_many(bench, wanted, scale)).await?,
        "eight" => {
            if wants(Scenario::BadCluster) {
                let (rounds, starts) = if full { (6, 100) } else { (2, 14) };
                bench.bad_cluster(rounds, starts).await?;
            }
            if wants(Scenario::Detection) {
                bench.detection(full).await?;
            }
        }
        _ => {
            let idle = wants(Scenario::Idle);
            if idle {
                bench.idle(window(scale)).await?;
            }
            if wants(Scenario::Burst3) {
                bench.crowd("burst3", many, ROUNDS).await?;
            }
            for count in if idle { sizes(scale) } else { &[] } {
                if *count != 5000 && *count != 100 {
                    bench.populate(*count).await?;
                    bench.idle(window(scale)).await?;
                }
            }
        }
    }
    Ok(())
}

fn window(scale: Scale) -> Duration {
    Duration::from_secs(if scale == Scale::Full { 20 } else { 5 })
}

fn sizes(scale: Scale) -> &'static [usize] {
    if scale == Scale::Full { &[1000, 5000, 10_000] } else { &[50, 100, 200] }
}

/// More and more live on one cluster, and everything that depends on how many live.
async fn with_many(bench: &mut Bench, wanted: &[Scenario], scale: Scale) -> Result<()> {
    let full = scale == Scale::Full;
    let wants = |scenario: Scenario| wanted.contains(&scenario);
    let rounds = if full { 3 } else { 1 };
    if wants(Scenario::Idle) {
        bench.idle(window(scale)).await?;
    }
    if wants(Scenario::Takeover) {
        bench.takeover(rounds).await?;
    }
    for (at, count) in sizes(scale).iter().enumerate() {
        if at == 2 && wanted == [Scenario::Takeover] {
            break;
        }
        bench.populate(*count).await?;
        if wants(Scenario::List) {
            bench.lists().await?;
        }
        if wants(Scenario::Idle) && at != 1 {
            bench.idle(window(scale)).await?;
        }
        if wants(Scenario::Restart) {
            bench.restart(rounds).await?;
        }
        if wants(Scenario::Takeover) && at < 2 {
            bench.takeover(rounds).await?;
        }
    }
    if wants(Scenario::Heartbeats) {
        bench.heartbeats(Duration::from_secs(if full { 300 } else { 10 })).await?;
    }
    Ok(())
}
