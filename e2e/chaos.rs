//! The chaos run by itself, on a fleet of its own, for as long as one likes: `make chaos SEED= MINUTES=`.
//!
//! Rounds follow one another until the time is over, each with a seed of its own, counted up from the first; an error names
//! the seed that repeats it.

#[path = "chaos/mod.rs"]
mod chaos;
#[path = "harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use chaos::stage::{Ground, Stage};
use clap::Parser;
use harness::node_agent::Pace;
use harness::spaceport::prepare_member;
use harness::{Fleet, FleetOptions, NodeAgent};
use tokio::time::Instant;

/// Faults of one round: short enough that its history can be read.
const ROUND: Duration = Duration::from_mins(1);

/// Disturbs three managers, their etcd and three real clusters while clients and an admin use them, and checks that every
/// promise was kept.
#[derive(Debug, Parser)]
struct Args {
    /// Seed of the first round; chosen at random where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How long; no round begins after that.
    #[arg(long, default_value_t = 2)]
    minutes: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match harness::block_on(harness::unless_interrupted(rounds(&args))) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nchaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn rounds(args: &Args) -> Result<()> {
    let first = args.seed.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    let end = Instant::now() + Duration::from_secs(args.minutes.saturating_mul(60));
    let fleet = Fleet::boot(FleetOptions::of(3).audited()).await?;
    let (mut kubeconfigs, mut agents) = (BTreeMap::new(), Vec::new());
    for cluster in fleet.clusters() {
        kubeconfigs.insert(cluster.name().to_owned(), prepare_member(cluster).await?);
        agents.push(NodeAgent::start(&cluster.client(), Pace::default()));
    }
    for seed in first.. {
        println!("chaos: seed {seed}");
        let ground = Ground {
            assets: fleet.assets(),
            dir: fleet.dir(),
            clusters: fleet.clusters().to_vec(),
            disturbable: fleet.clusters().to_vec(),
            kubeconfigs: &kubeconfigs,
        };
        let stage = Stage::set(ground, &format!("chaos-{seed}")).await?;
        println!("chaos: {}", chaos::run::run(stage, seed, ROUND).await?);
        if Instant::now() >= end {
            break;
        }
    }
    Ok(())
}
