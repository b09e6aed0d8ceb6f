use serde::Serialize;

use super::text;
use crate::cli::table::Table;
use crate::proto::spaceport::v1::check::Outcome;
use crate::proto::spaceport::v1::{Check, InstalledObject};

/// One thing that was looked at in a cluster.
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
    /// Whether it keeps the cluster from being a member.
    pub fn is_failed(&self) -> bool {
        self.outcome == Outcome::Failed.as_str_name().trim_start_matches("OUTCOME_")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line a check.
    pub fn table(checks: &[Self]) -> Table {
        let mut table = Table::new(["CHECK", "OUTCOME", "DETAIL", "REMEDY"]);
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

/// What became of one object.
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
    /// One line an object.
    pub fn table(objects: &[Self]) -> Table {
        let mut table = Table::new(["KIND", "NAMESPACE", "NAME", "OUTCOME"]);
        for object in objects {
            table.row([
                object.kind.clone(),
                object.namespace.clone().unwrap_or_default(),
                object.name.clone(),
                object.outcome.clone(),
            ]);
        }
        table
    }
}
