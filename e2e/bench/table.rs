//! Samples, statistics, and tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::usage::Call;

/// One measure of one scenario.
pub struct Row {
    scenario: String,
    measure: String,
    unit: String,
    samples: Vec<f64>,
    /// Measure of the same scenario that is its floor.
    floor: Option<String>,
}

/// Everything measured so far, in order of first samples.
#[derive(Default)]
pub struct Recorder {
    rows: Vec<Row>,
    calls: Vec<(String, Value)>,
}

impl Recorder {
    /// Adds a sample.
    pub fn note(&mut self, scenario: &str, measure: &str, unit: &str, sample: f64) {
        let known = self.rows.iter_mut().find(|row| row.scenario == scenario && row.measure == measure);
        if let Some(row) = known {
            row.samples.push(sample);
            return;
        }
        self.rows.push(Row {
            scenario: scenario.to_owned(),
            measure: measure.to_owned(),
            unit: unit.to_owned(),
            samples: vec![sample],
            floor: None,
        });
    }

    /// Sets the floor of a measure.
    pub fn floor(&mut self, scenario: &str, measure: &str, floor: &str) {
        let known = self.rows.iter_mut().find(|row| row.scenario == scenario && row.measure == measure);
        if let Some(row) = known {
            row.floor = Some(floor.to_owned());
        }
    }

    /// Adds the API calls of a block `of` of a scenario, by sender, verb and resource.
    pub fn calls(&mut self, scenario: &str, of: &str, calls: &BTreeMap<Call, f64>) {
        for ((sender, what), count) in calls {
            let of = of.trim_start_matches([',', ' ']);
            let call = json!({ "of": of, "client": sender, "call": what, "count": count });
            self.calls.push((scenario.to_owned(), call));
        }
    }

    /// The API calls of a scenario, for a file.
    pub fn calls_json(&self, scenario: &str) -> Value {
        self.calls.iter().filter(|(of, _)| of == scenario).map(|(_, call)| call.clone()).collect()
    }

    /// The rows of a scenario, for a file.
    pub fn json(&mut self, scenario: &str) -> Value {
        for row in &mut self.rows {
            row.samples.sort_by(f64::total_cmp);
        }
        self.rows.iter().filter(|row| row.scenario == scenario).map(|row| self.row(row)).collect()
    }

    fn row(&self, row: &Row) -> Value {
        let floor = row.floor.as_ref().and_then(|floor| {
            let of = self.rows.iter().find(|other| other.scenario == row.scenario && other.measure == *floor);
            of.map(|of| rank(&of.samples, 50)).filter(|floor| *floor > 0.0)
        });
        json!({
            "scenario": row.scenario, "measure": row.measure, "unit": row.unit, "n": row.samples.len(),
            "min": rank(&row.samples, 0), "p50": rank(&row.samples, 50), "p95": rank(&row.samples, 95),
            "p99": rank(&row.samples, 99), "max": rank(&row.samples, 100),
            "ratioToFloor": floor.map(|floor| rank(&row.samples, 50) / floor),
        })
    }
}

/// Percentile of sorted samples by nearest rank; 0 without samples.
pub fn rank(samples: &[f64], percent: usize) -> f64 {
    let at = (samples.len() * percent).div_ceil(100).saturating_sub(1);
    samples.get(at).copied().unwrap_or_default()
}

const SHOWN: [&str; 5] = ["min", "p50", "p95", "p99", "max"];

/// Prints rows of [`Recorder::json`].
pub fn print(rows: &Value) {
    print!("\n{:12} {:54} {:5} {:>6}", "scenario", "measure", "unit", "n");
    for head in SHOWN.iter().chain(&["x floor"]) {
        print!(" {head:>9}");
    }
    println!();
    for row in rows.as_array().into_iter().flatten() {
        print!(
            "{:12} {:54} {:5} {:>6}",
            text(row, "scenario"),
            text(row, "measure"),
            text(row, "unit"),
            row["n"].as_u64().unwrap_or_default()
        );
        for head in SHOWN {
            print!(" {:>9.2}", row[head].as_f64().unwrap_or_default());
        }
        println!(" {:>9}", ratio(row));
    }
}

/// A Markdown table from files of scenarios: one line per measure, conditions side by side. Memory of the managers
/// only.
pub fn markdown(conditions: &[(String, Vec<Value>)]) -> String {
    let mut table = "| Scenario | Measure | Unit |".to_owned();
    let mut rule = "|---|---|---|".to_owned();
    for (name, _) in conditions {
        for head in ["p50", "p99", "max", "x floor"] {
            table.extend([" ", name, ": ", head, " |"]);
            rule += "--:|";
        }
    }
    table = format!("{table}\n{rule}\n");
    let key = |row: &Value| (text(row, "scenario"), text(row, "measure"));
    let mut keys: Vec<(String, String, String)> = Vec::new();
    for row in conditions.iter().flat_map(|(_, rows)| rows) {
        let (scenario, measure) = key(row);
        let of_manager = ["manager", "standby"].iter().any(|program| measure.contains(program));
        if measure.starts_with("memory of") && !of_manager {
            continue;
        }
        if !keys.iter().any(|(known, other, _)| *known == scenario && *other == measure) {
            keys.push((scenario, measure, text(row, "unit")));
        }
    }
    for (scenario, measure, unit) in keys {
        table.extend(["| `", &scenario, "` | ", &measure, " | ", &unit, " |"]);
        for (_, rows) in conditions {
            let row = rows.iter().find(|row| key(row) == (scenario.clone(), measure.clone()));
            for head in ["p50", "p99", "max"] {
                let shown = row.and_then(|row| row[head].as_f64()).map(|value| format!("{value:.2}"));
                table.extend([" ", &shown.unwrap_or_default(), " |"]);
            }
            table.extend([" ", &row.map(ratio).unwrap_or_default(), " |"]);
        }
        table.push('\n');
    }
    table
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}

fn ratio(row: &Value) -> String {
    row["ratioToFloor"].as_f64().map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "a rank picks a sample, it does not compute one")]
    fn percentiles_are_by_nearest_rank() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(
            [0, 50, 95, 99, 100].map(|percent| rank(&samples, percent)),
            [1.0, 100.0, 190.0, 198.0, 200.0]
        );
        assert_eq!(rank(&samples[..3], 99), 3.0);
        assert_eq!(rank(&[], 50), 0.0);
    }

    #[test]
    fn a_measure_has_the_ratio_of_its_median_to_the_floors_in_file_and_table() {
        let mut record = Recorder::default();
        for (ours, floor) in [(9.0, 2.0), (6.0, 3.0), (1.0, 4.0)] {
            record.note("burst", "ours", "ms", ours);
            record.note("burst", "bare", "ms", floor);
        }
        record.floor("burst", "ours", "bare");
        let rows = record.json("burst");
        assert_eq!(rows[0]["ratioToFloor"], 2.0);
        assert!(rows[1]["ratioToFloor"].is_null());
        let rows = rows.as_array().cloned().unwrap_or_default();
        let table = markdown(&[("floor".to_owned(), rows)]);
        assert!(table.contains("| `burst` | ours | ms | 6.00 | 9.00 | 9.00 | 2.00 |"), "{table}");
    }
}
