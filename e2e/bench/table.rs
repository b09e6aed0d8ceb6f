//! Samples, what is made of them, and how it is shown.

use serde_json::{Value, json};

/// One measure of one scenario.
pub struct Row {
    scenario: &'static str,
    measure: String,
    unit: &'static str,
    samples: Vec<f64>,
    /// Median of the floor beside it.
    floor: Option<f64>,
}

impl Row {
    /// A measure without a floor.
    pub fn new(scenario: &'static str, measure: &str, unit: &'static str, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self { scenario, measure: measure.to_owned(), unit, samples, floor: None }
    }

    /// The same beside a floor.
    #[must_use]
    pub fn over(mut self, floor: &Self) -> Self {
        self.floor = Some(floor.rank(50));
        self
    }

    /// Its scenario.
    pub fn scenario(&self) -> &str {
        self.scenario
    }

    /// The smallest sample that so many percent do not exceed (nearest rank); 0 without samples.
    fn rank(&self, percent: usize) -> f64 {
        let at = (self.samples.len() * percent).div_ceil(100).saturating_sub(1);
        self.samples.get(at).copied().unwrap_or_default()
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.rank(50) / floor)
    }

    fn json(&self) -> Value {
        json!({
            "scenario": self.scenario, "measure": self.measure, "unit": self.unit, "n": self.samples.len(),
            "min": self.rank(0), "p50": self.rank(50), "p95": self.rank(95), "p99": self.rank(99),
            "max": self.rank(100), "ratioToFloor": self.ratio(),
        })
    }
}

/// Prints the rows as a table.
pub fn print(rows: &[Row]) {
    let heads = ["n", "min", "p50", "p95", "p99", "max", "x floor"];
    print!("\n{:8} {:44} {:5}", "scenario", "measure", "unit");
    for head in heads {
        print!(" {head:>9}");
    }
    println!();
    for row in rows {
        print!("{:8} {:44} {:5} {:>9}", row.scenario, row.measure, row.unit, row.samples.len());
        for percent in [0, 50, 95, 99, 100] {
            print!(" {:>9.2}", row.rank(percent));
        }
        println!(" {:>9}", row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")));
    }
}

/// The rows for a file.
pub fn to_json(rows: &[Row]) -> Value {
    rows.iter().map(Row::json).collect()
}
