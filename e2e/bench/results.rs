//! The files of results: one a scenario, so that a run can go on where it was cut off; a Markdown table of all.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::{
    name_of,
    scenarios::Scale,
    stage::{Conditions, Profile, program},
    table,
};

/// Results of one scale under one set of conditions.
pub struct Results {
    dir: PathBuf,
    about: Value,
    program: u64,
}

impl Results {
    /// In `target/bench/<scale>/<conditions>`.
    pub fn of(scale: Scale, conditions: Conditions, profile: Profile) -> Result<Self> {
        let path = program(profile)?;
        let built = fs::metadata(&path)?.modified()?.duration_since(UNIX_EPOCH)?.as_secs();
        let dir = folder(scale)?.join(name_of(conditions));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let about = json!({
            "scale": name_of(scale), "conditions": name_of(conditions), "profile": name_of(profile),
            "program": { "path": path, "built": built }, "cores": cores(),
        });
        Ok(Self { dir, about, program: built })
    }

    fn path(&self, group: &str, scenario: &str) -> PathBuf {
        self.dir.join(format!("{group}-{scenario}.json"))
    }

    /// Whether the present program was measured already.
    pub fn has(&self, group: &str, scenario: &str) -> bool {
        read(&self.path(group, scenario)).is_some_and(|file| file["program"]["built"] == self.program)
    }

    /// Keeps the rows of a scenario.
    pub fn save(&self, group: &str, scenario: &str, rows: Value, seconds: f64) -> Result<()> {
        let mut file = self.about.clone();
        file["time"] = json!(jiff::Timestamp::now().to_string());
        file["group"] = json!({ "name": group, "seconds": seconds });
        file["load"] = json!(load());
        file["rows"] = rows;
        let path = self.path(group, scenario);
        fs::write(&path, serde_json::to_string_pretty(&file)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Writes all results of a scale as one JSON file and as a Markdown table.
pub fn report(scale: Scale) -> Result<()> {
    let dir = folder(scale)?;
    let (mut all, mut columns) = (Vec::new(), Vec::new());
    for conditions in Conditions::value_variants() {
        let mut files = fs::read_dir(dir.join(name_of(*conditions)))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
            .unwrap_or_default();
        files.sort();
        let files: Vec<Value> = files.iter().filter_map(|path| read(path)).collect();
        let rows = files.iter().filter_map(|file| file["rows"].as_array()).flatten().cloned().collect();
        columns.push((name_of(*conditions), rows));
        all.extend(files);
    }
    columns.retain(|(_, rows): &(_, Vec<Value>)| !rows.is_empty());
    fs::write(dir.join("all.json"), serde_json::to_string_pretty(&all)?)?;
    let table = dir.join("table.md");
    let profiles: std::collections::BTreeSet<&str> =
        all.iter().filter_map(|file| file["profile"].as_str()).collect();
    let head =
        format!("{} scale, builds {profiles:?}, {} cores, load now {}.\n\n", name_of(scale), cores(), load());
    fs::write(&table, head + &table::markdown(&columns))?;
    println!("\n{} and all.json beside it; on a busy machine compare ratios, not runs.", table.display());
    Ok(())
}

fn folder(scale: Scale) -> Result<PathBuf> {
    Ok(crate::harness::assets::target_dir()?.join("bench").join(name_of(scale)))
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
