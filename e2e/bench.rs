//! How fast Spaceport is beside the floor of the same control planes: bare pods, in the same run. See docs/benchmarks.md.

#[path = "bench/follow.rs"]
mod follow;
#[path = "harness/mod.rs"]
mod harness;
#[path = "bench/results.rs"]
mod results;
#[path = "bench/scenarios/mod.rs"]
mod scenarios;
#[path = "bench/stage.rs"]
mod stage;
#[path = "bench/table.rs"]
mod table;
#[path = "bench/tracker.rs"]
mod tracker;
#[path = "bench/usage.rs"]
mod usage;
#[path = "bench/work.rs"]
mod work;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use results::Results;
use scenarios::{GROUPS, Group, Scale, Scenario};
use stage::{Conditions, Profile, Stage};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use work::Bench;

/// Measures Spaceport on real control planes on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// How much of it.
    #[arg(long, value_enum, default_value_t = Scale::Small)]
    scale: Scale,
    /// One scenario; all where none is named.
    #[arg(long, value_enum)]
    scenario: Option<Scenario>,
    /// Build of the manager under test.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Under what conditions, one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "floor")]
    conditions: Vec<Conditions>,
    /// Leave out what was measured already with the same program at the same scale.
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = harness::block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = Box::pin(run(&args)) => outcome,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    for conditions in &args.conditions {
        let results = Results::of(args.scale, *conditions, args.profile)?;
        for group in &GROUPS {
            let wanted: Vec<Scenario> = group
                .scenarios
                .iter()
                .filter(|scenario| args.scenario.is_none_or(|only| only == **scenario))
                .filter(|scenario| !(args.resume && results.has(group.name, &name_of(**scenario))))
                .copied()
                .collect();
            if !wanted.is_empty() {
                Box::pin(run_group(args, *conditions, group, &wanted, &results)).await?;
            }
        }
    }
    results::report(args.scale)
}

async fn run_group(
    args: &Args,
    conditions: Conditions,
    group: &Group,
    wanted: &[Scenario],
    results: &Results,
) -> Result<()> {
    let begun = Instant::now();
    let stage = Stage::boot(group.clusters, conditions, args.profile).await?;
    let mut bench = Bench::new(stage).await?;
    let outcome = Box::pin(scenarios::run(&mut bench, group, wanted, args.scale)).await;
    outcome.map_err(|error| error.context(format!("the manager logged: {}", bench.stage.log())))?;
    let seconds = begun.elapsed().as_secs_f64();
    for scenario in wanted {
        let name = name_of(*scenario);
        let rows = bench.record.json(&name);
        table::print(&rows);
        results.save(group.name, &name, rows, seconds)?;
    }
    eprintln!("{} took {seconds:.0} s", group.name);
    Ok(())
}

/// A scenario, scale or condition as the command line names it.
fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
