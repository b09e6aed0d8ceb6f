//! Benchmarks: Spaceport compared with the floor of the same control planes, bare pods, in the same run. See
//! docs/benchmarks.md.

mod content;
mod follow;
mod results;
mod scenarios;
mod stage;
mod table;
mod tracker;
mod usage;
mod work;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Parser, ValueEnum};
use results::Results;
use scenarios::{GROUPS, Group, Scale, Scenario, Sizes};
use stage::{Conditions, Profile, Setup, Stage};
use tokio::time::{Instant, timeout};
use work::Bench;

/// Measures Spaceport on real control planes on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// Sizes of the scenarios.
    #[arg(long, value_enum, default_value_t = Scale::Small)]
    scale: Scale,
    /// Only these scenarios; all if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Build of the manager under test.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Conditions, one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "floor")]
    conditions: Vec<Conditions>,
    /// Skip what was measured already with the same program at the same scale.
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match e2e::harness::block_on(e2e::harness::unless_interrupted(Box::pin(run(&args)))) {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false) | None) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; returns whether nothing failed.
async fn run(args: &Args) -> Result<bool> {
    let mut failed = Vec::new();
    for conditions in &args.conditions {
        let results = Results::of(args.scale, *conditions, args.profile)?;
        for group in &GROUPS {
            let mut wanted = group.scenarios.to_vec();
            wanted.retain(|scenario| args.scenario.is_empty() || args.scenario.contains(scenario));
            wanted.retain(|scenario| !(args.resume && results.has(group.name, *scenario)));
            let of_group = Box::pin(run_group(args, *conditions, group, wanted, &results)).await;
            let place = |scenario| format!("{} on {} ({})", scenario, group.name, name_of(conditions));
            failed.extend(of_group.into_iter().map(|scenario| place(name_of(&scenario))));
        }
    }
    // Only where it is asked for: it installs programs, and takes long.
    if args.scenario.contains(&Scenario::Content) {
        let results = Results::of(args.scale, Conditions::Floor, args.profile)?;
        let output = results.of_group("content");
        if let Err(error) = Box::pin(content::run(args.scale, args.profile, &output)).await {
            eprintln!("\ncontent: {error:#}");
            failed.push(name_of(&Scenario::Content));
        }
    }
    results::report(args.scale, args.profile)?;
    if !failed.is_empty() {
        eprintln!("\nFAILED: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

/// Runs scenarios of a group and returns those that failed. After a failure the rest runs on a new stage.
async fn run_group(
    args: &Args,
    conditions: Conditions,
    group: &Group,
    mut wanted: Vec<Scenario>,
    results: &Results,
) -> Vec<Scenario> {
    let (sizes, mut failed) = (args.scale.sizes(), Vec::new());
    while !wanted.is_empty() {
        let begun = Instant::now();
        eprintln!("\n{} ({}): {}", group.name, name_of(&conditions), names_of(&wanted));
        let (finished, culprits) = match boot(args, conditions, group, results).await {
            Ok(mut bench) => match attempt(&mut bench, group, &wanted, &sizes).await {
                Ok(()) => (bench.finished, Vec::new()),
                Err(culprits) => (bench.finished, culprits),
            },
            Err(error) => {
                eprintln!("\n{} has no stage: {error:#}", group.name);
                (Vec::new(), wanted.clone())
            }
        };
        wanted.retain(|scenario| !finished.contains(scenario) && !culprits.contains(scenario));
        failed.extend(culprits);
        eprintln!("\n{} ({}) took {} s", group.name, name_of(&conditions), begun.elapsed().as_secs());
    }
    failed
}

async fn boot(args: &Args, conditions: Conditions, group: &Group, results: &Results) -> Result<Bench> {
    let output = results.of_group(group.name);
    let setup = Setup {
        clusters: group.clusters,
        conditions,
        profile: args.profile,
        // Each round needs the cluster available again.
        takes_back_at_once: group.scenarios.contains(&Scenario::BadCluster),
    };
    let stage = Box::pin(Stage::boot(setup)).await?;
    Box::pin(Bench::new(stage, output)).await
}

/// Runs scenarios until one fails: returns that one, or all remaining ones if the failure belongs to none of them.
async fn attempt(
    bench: &mut Bench,
    group: &Group,
    wanted: &[Scenario],
    sizes: &Sizes,
) -> Result<(), Vec<Scenario>> {
    let outcome = timeout(sizes.limit, scenarios::run(bench, group, wanted, sizes)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("{} took more than {:?}", group.name, sizes.limit)));
    let Err(error) = outcome else { return Ok(()) };
    let left = wanted.iter().copied().filter(|scenario| !bench.finished.contains(scenario));
    let culprits: Vec<Scenario> = match bench.doing {
        // Each needs the other.
        Some(Scenario::Burst | Scenario::Stop) => {
            left.filter(|scenario| matches!(scenario, Scenario::Burst | Scenario::Stop)).collect()
        }
        Some(scenario) => vec![scenario],
        None => left.collect(),
    };
    for scenario in &culprits {
        if let Err(error) = bench.failed(*scenario, &error) {
            eprintln!("{error:#}");
        }
    }
    eprintln!("the manager logged: {}", bench.stage.log());
    Err(culprits)
}

fn names_of(scenarios: &[Scenario]) -> String {
    scenarios.iter().map(name_of).collect::<Vec<_>>().join(", ")
}

/// A scenario, scale or condition as the command line names it.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
