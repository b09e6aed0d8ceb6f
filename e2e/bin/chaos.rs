//! `make chaos SEED= MINUTES=`: the chaos run on its own fleet, for as long as wanted; or `make chaos SEED= RESTORES=`:
//! restores of a member cluster from backups; or `make chaos CONTENT=1 SEED= KILLS=`: kills around the content of workspaces on
//! real nodes.
//!
//! Rounds follow each other until the time is over. Each has its own seed, counted up from the first; an error names
//! the seed that reproduces it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use e2e::chaos::stage::{Ground, Stage};
use e2e::harness::node_agent::Pace;
use e2e::harness::real_node::available;
use e2e::harness::spaceport::prepare_member;
use e2e::harness::{Audit, Cluster, Fleet, FleetOptions, NodeAgent};
use tokio::time::Instant;

/// Duration of one round: short enough to read its history.
const ROUND: Duration = Duration::from_mins(1);

/// Injects faults into three managers, their etcd and three real clusters while clients and an admin use them, and
/// checks every guarantee
#[derive(Debug, Parser)]
struct Args {
    /// Seed of the first round; random if absent
    #[arg(long)]
    seed: Option<u64>,
    /// How long; no round begins after that
    #[arg(long, default_value_t = 2)]
    minutes: u64,
    /// Number of restores of each kind, of one cluster from backups of its etcd, instead of faults for a time
    #[arg(long, conflicts_with = "minutes", value_parser = clap::value_parser!(u32).range(1..))]
    restores: Option<u32>,
    /// Number of kills of node agents, helpers, kubelets, container runtimes and the store, instead of faults for a time
    #[arg(long, conflicts_with_all = ["minutes", "restores"], value_parser = clap::value_parser!(u64).range(1..=100_000))]
    content: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    let running = async {
        match (args.content, args.restores) {
            (Some(kills), _) => content(seed, kills).await,
            (None, Some(count)) => restores(seed, count).await,
            (None, None) => rounds(seed, args.minutes).await,
        }
    };
    match e2e::harness::block_on(e2e::harness::unless_interrupted(running)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nchaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prepares the clusters of a fleet as member clusters; returns the kubeconfig for each by name.
async fn prepared(fleet: &Fleet) -> Result<BTreeMap<String, PathBuf>> {
    let mut kubeconfigs = BTreeMap::new();
    for cluster in fleet.clusters() {
        kubeconfigs.insert(cluster.name().to_owned(), prepare_member(cluster).await?);
    }
    Ok(kubeconfigs)
}

/// The ground for a run on a fleet that nobody else uses.
fn ground<'a>(fleet: &'a Fleet, kubeconfigs: &'a BTreeMap<String, PathBuf>) -> Ground<'a> {
    Ground {
        assets: fleet.assets(),
        dir: fleet.dir(),
        clusters: fleet.clusters().to_vec(),
        disturbable: fleet.clusters().to_vec(),
        kubeconfigs,
    }
}

async fn restores(seed: u64, count: u32) -> Result<()> {
    println!("chaos: seed {seed}");
    let fleet = Fleet::boot(FleetOptions::of(1).audited(Audit::Objects)).await?;
    let kubeconfigs = prepared(&fleet).await?;
    let stage = Stage::set(ground(&fleet, &kubeconfigs), &format!("restores-{seed}")).await?;
    println!("chaos: {}", Box::pin(e2e::chaos::restores::run(stage, seed, count)).await?);
    Ok(())
}

async fn content(seed: u64, kills: u64) -> Result<()> {
    if !available("chaos")? {
        bail!("content is kept on real nodes only");
    }
    println!("chaos: seed {seed}; {kills} kills");
    println!("chaos: seed {seed}: {}", Box::pin(e2e::chaos::content::run(seed, kills)).await?);
    Ok(())
}

async fn rounds(first: u64, minutes: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(minutes.saturating_mul(60));
    let fleet = Fleet::boot(FleetOptions::of(3).audited(Audit::Objects)).await?;
    let kubeconfigs = prepared(&fleet).await?;
    let agent = |cluster: &Arc<Cluster>| NodeAgent::start(&cluster.client(), Pace::default());
    let _agents: Vec<NodeAgent> = fleet.clusters().iter().map(agent).collect();
    for seed in first.. {
        println!("chaos: seed {seed}");
        let stage = Stage::set(ground(&fleet, &kubeconfigs), &format!("chaos-{seed}")).await?;
        println!("chaos: {}", e2e::chaos::run::run(stage, seed, ROUND).await?);
        if Instant::now() >= end {
            break;
        }
    }
    Ok(())
}
