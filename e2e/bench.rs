//! How fast Spaceport is beside the floor of the same control planes: bare pods, in the same run. See docs/benchmarks.md.

#[path = "harness/mod.rs"]
mod harness;
#[path = "bench/scenarios.rs"]
mod scenarios;
#[path = "bench/stage.rs"]
mod stage;
#[path = "bench/table.rs"]
mod table;
#[path = "bench/tracker.rs"]
mod tracker;
#[path = "bench/usage.rs"]
mod usage;

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use scenarios::Bench;
use serde_json::{Value, json};
use stage::{Conditions, Profile, Stage};
use tokio::signal::unix::{SignalKind, signal};

/// Measures Spaceport on a real control plane on this machine.
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
    /// Under what conditions.
    #[arg(long, value_enum, default_value_t = Conditions::Floor)]
    conditions: Conditions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scale {
    /// 20 one at a time, bursts of 50.
    Small,
    /// 50 one at a time, bursts of 1,000.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// One workspace at a time.
    One,
    /// Many starts at once.
    Burst,
    /// Many stops at once, after a burst.
    Stop,
    /// GetWorkspaces, after a burst.
    List,
    /// API calls of a lifecycle.
    Calls,
}

/// Times a burst is repeated, in turn with its floor.
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = harness::block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = run(&args) => outcome,
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
    let stage = Stage::boot(args.conditions, args.profile).await?;
    let load_before = load();
    let outcome = Box::pin(measure(args, &stage)).await;
    let rows = outcome.map_err(|error| error.context(format!("the manager logged: {}", stage.log())))?;
    table::print(&rows);
    let load = [load_before, load()];
    println!(
        "\n{:?} scale, {:?} conditions, {:?} build, {} cores; load before and after {load:?}.",
        args.scale,
        args.conditions,
        args.profile,
        cores(),
    );
    println!("On a machine that does other things, too, these figures are noisy: compare ratios, not runs.");
    save(args, &rows, &load)
}

async fn measure(args: &Args, stage: &Stage) -> Result<Vec<table::Row>> {
    let (few, many) = match args.scale {
        Scale::Small => (20, 50),
        Scale::Full => (50, 1000),
    };
    let wanted = |scenarios: &[Scenario]| args.scenario.is_none_or(|wanted| scenarios.contains(&wanted));
    let mut bench = Bench::new(stage).await?;
    if wanted(&[Scenario::One]) {
        bench.one_at_a_time(few).await?;
    }
    if wanted(&[Scenario::Calls]) {
        bench.calls().await?;
    }
    if wanted(&[Scenario::Burst, Scenario::Stop, Scenario::List]) {
        bench.crowd(many, ROUNDS).await?;
    }
    let mut rows = bench.rows;
    if let Some(name) = args.scenario.and_then(|scenario| scenario.to_possible_value()) {
        rows.retain(|row| row.scenario() == name.get_name());
    }
    Ok(rows)
}

fn save(args: &Args, rows: &[table::Row], load: &[String; 2]) -> Result<()> {
    let dir = harness::assets::target_dir()?.join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
    let path = dir.join(format!("{now}.json"));
    let name = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
    let result: Value = json!({
        "time": now,
        "scale": name(args.scale.to_possible_value()),
        "scenario": args.scenario.and_then(|scenario| name(scenario.to_possible_value())),
        "profile": name(args.profile.to_possible_value()),
        "conditions": name(args.conditions.to_possible_value()),
        "cores": cores(),
        "loadBeforeAndAfter": load,
        "rows": table::to_json(rows),
    });
    fs::write(&path, serde_json::to_string_pretty(&result)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
