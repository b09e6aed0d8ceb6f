//! Files of results: one per scenario, so that an interrupted run can continue; and a Markdown table of all.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    name_of,
    scenarios::{Scale, Scenario},
    stage::{Conditions, Profile, program},
    table::{self, Recorder},
};

/// Results of one scale under one set of conditions.
#[derive(Clone)]
pub struct Results {
    dir: PathBuf,
    about: Value,
    program: u64,
}

impl Results {
    /// In `target/bench/<scale>/<conditions>`.
    pub fn of(scale: Scale, conditions: Conditions, profile: Profile) -> Result<Self> {
        let (path, built) = (program(profile)?, built(profile)?);
        let dir = folder(scale)?.join(name_of(&conditions));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let about = json!({
            "scale": name_of(&scale), "conditions": name_of(&conditions), "profile": name_of(&profile),
            "program": { "path": path, "built": built }, "cores": cores(),
        });
        Ok(Self { dir, about, program: built })
    }

    fn path(&self, group: &str, scenario: &str) -> PathBuf {
        self.dir.join(format!("{group}-{scenario}.json"))
    }

    /// Whether the current program was measured already, to the end.
    pub fn has(&self, group: &str, scenario: Scenario) -> bool {
        let file = read(&self.path(group, &name_of(&scenario)));
        file.is_some_and(|file| file["program"]["built"] == self.program && file["failed"].is_null())
    }

    /// Destination of the results of a group that begins now.
    pub fn of_group(&self, group: &'static str) -> Output {
        Output { results: self.clone(), group, begun: Instant::now(), load: load() }
    }
}

/// Destination of the results of a group.
#[derive(Clone)]
pub struct Output {
    results: Results,
    group: &'static str,
    begun: Instant,
    load: String,
}

impl Output {
    /// Prints the rows of a scenario and writes its file; `failed` says why it did not finish.
    pub fn keep(&self, record: &mut Recorder, scenario: Scenario, failed: Option<&str>) -> Result<()> {
        let name = name_of(&scenario);
        let rows = record.json(&name);
        if let Some(why) = failed {
            eprintln!("\n{name} FAILED: {why}");
        }
        table::print(&rows);
        let mut file = self.results.about.clone();
        file["time"] = json!(jiff::Timestamp::now().to_string());
        file["group"] = json!({ "name": self.group, "seconds": self.begun.elapsed().as_secs() });
        file["load"] = json!({ "before": self.load, "after": load() });
        file["failed"] = json!(failed);
        file["rows"] = rows;
        file["calls"] = record.calls_json(&name);
        let path = self.results.path(self.group, &name);
        fs::write(&path, serde_json::to_string_pretty(&file)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Writes all results of the current program at a scale, as one JSON file and as a Markdown table.
pub fn report(scale: Scale, profile: Profile) -> Result<()> {
    let (dir, built) = (folder(scale)?, built(profile)?);
    let (mut all, mut columns) = (Vec::new(), Vec::new());
    for conditions in Conditions::value_variants() {
        let mut files = fs::read_dir(dir.join(name_of(conditions)))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
            .unwrap_or_default();
        files.sort();
        let mut files: Vec<Value> = files.iter().filter_map(|path| read(path)).collect();
        files.retain(|file| file["program"]["built"] == built);
        let rows = files.iter().filter_map(|file| file["rows"].as_array()).flatten().cloned().collect();
        columns.push((name_of(conditions), rows));
        all.extend(files);
    }
    columns.retain(|(_, rows): &(_, Vec<Value>)| !rows.is_empty());
    let placement = placement();
    all.push(json!({ "scenario": "placement", "rows": placement }));
    match columns.first_mut() {
        Some((_, rows)) => rows.extend(placement),
        None => columns.push(("alone".to_owned(), placement)),
    }
    fs::write(dir.join("all.json"), serde_json::to_string_pretty(&all)?)?;
    let table = dir.join("table.md");
    let profiles: std::collections::BTreeSet<&str> =
        all.iter().filter_map(|file| file["profile"].as_str()).collect();
    let head = format!(
        "{} scale, builds {profiles:?}, {} cores, load now {}.\n\n",
        name_of(&scale),
        cores(),
        load()
    );
    fs::write(&table, head + &table::markdown(&columns))?;
    println!("\n{} and all.json beside it; on a busy machine compare ratios, not runs.", table.display());
    Ok(())
}

/// The last criterion results of placement, if there are any.
fn placement() -> Vec<Value> {
    let Ok(dir) = e2e::harness::assets::target_dir().map(|target| target.join("criterion/placement")) else {
        return Vec::new();
    };
    let rows = [10, 100, 1000].into_iter().filter_map(|clusters: u32| {
        let estimates = read(&dir.join(clusters.to_string()).join("new/estimates.json"))?;
        // Nanoseconds per decision; the slowest decision is the lowest rate.
        let rate = |of: &Value| of.as_f64().map(|nanoseconds| 1e9 / nanoseconds);
        let interval = &estimates["median"]["confidence_interval"];
        Some(json!({
            "scenario": "placement", "measure": format!("decisions over {clusters} clusters"), "unit": "1/s",
            "min": rate(&interval["upper_bound"]), "p50": rate(&estimates["median"]["point_estimate"]),
            "max": rate(&interval["lower_bound"]),
        }))
    });
    rows.collect()
}

/// When the program under test was built, in seconds since 1970.
fn built(profile: Profile) -> Result<u64> {
    Ok(fs::metadata(program(profile)?)?.modified()?.duration_since(UNIX_EPOCH)?.as_secs())
}

fn folder(scale: Scale) -> Result<PathBuf> {
    Ok(e2e::harness::assets::target_dir()?.join("bench").join(name_of(&scale)))
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
