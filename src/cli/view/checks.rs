use serde::Serialize;

use super::text;
use crate::table::{Table, note, plain, sentence};
use proto::spaceport::v1::check::Outcome;
use proto::spaceport::v1::{Check, InstalledObject};

/// One check of a cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    name: String,
    outcome: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl From<Check> for CheckView {
    fn from(check: Check) -> Self {
        let outcome = check.outcome().as_str_name().trim_start_matches("OUTCOME_").to_owned();
        Self { name: check.name, outcome, detail: check.detail, remedy: text(&check.remedy) }
    }
}

impl CheckView {
    /// Whether it keeps the cluster from being registered.
    pub fn is_failed(&self) -> bool {
        self.outcome == Outcome::Failed.as_str_name().trim_start_matches("OUTCOME_")
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// One row per check, with its remedy below.
    pub fn table(checks: &[Self]) -> Table {
        let mut table = Table::new([plain("CHECK"), plain("OUTCOME"), sentence("DETAIL"), note("REMEDY")]);
        for check in checks {
            table.row([
                check.name.clone(),
                check.outcome.clone(),
                check.detail.clone(),
                check.remedy.clone().unwrap_or_default(),
            ]);
        }
        table
    }
}

/// One object of an installation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstalledView {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    outcome: String,
}

impl From<InstalledObject> for InstalledView {
    fn from(object: InstalledObject) -> Self {
        let outcome = object.outcome().as_str_name().trim_start_matches("OUTCOME_").to_owned();
        Self { kind: object.kind, namespace: text(&object.namespace), name: object.name, outcome }
    }
}

impl InstalledView {
    /// One row per object: what was done, or would be done.
    pub fn table(objects: &[Self], is_plan: bool) -> Table {
        // One column, so that the longest names of this installation fit 80 columns.
        let mut table = Table::new([plain("OBJECT"), plain("OUTCOME")]);
        for object in objects {
            let namespace = object.namespace.iter().map(|namespace| format!("{namespace}/"));
            let name: String = namespace.chain([object.name.clone()]).collect();
            let outcome = match (is_plan, object.outcome.as_str()) {
                (true, "CREATED") => "WOULD CREATE",
                (true, "CHANGED") => "WOULD CHANGE",
                (_, outcome) => outcome,
            };
            table.row([format!("{} {name}", object.kind), outcome.to_owned()]);
        }
        table
    }
}
