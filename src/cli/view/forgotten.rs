use jiff::Timestamp;
use serde::Serialize;

use super::diff::ComparedView;
use super::{age, counted};
use crate::table::{Table, plain, sentence, wide};
use proto::spaceport::v1::ForgetResponse;

/// What was given up of a cluster, and what is still recorded under its name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForgottenView {
    cluster: String,
    given_up: u32,
    left: u32,
    workspaces: Vec<ComparedView>,
    left_out: u32,
}

impl ForgottenView {
    /// Before any call.
    pub fn new(cluster: String) -> Self {
        Self { cluster, given_up: 0, left: 0, workspaces: Vec::new(), left_out: 0 }
    }

    /// Adds the response of one call.
    pub fn add(&mut self, answer: ForgetResponse) {
        self.given_up = self.given_up.saturating_add(answer.given_up);
        (self.left, self.left_out) = (answer.left, answer.left_out);
        self.workspaces = answer.workspaces.into_iter().map(ComparedView::from).collect();
    }

    /// Number of workspaces that were given up.
    pub fn given_up(&self) -> u32 {
        self.given_up
    }

    /// Whether nothing is recorded under the name.
    pub fn is_empty(&self) -> bool {
        self.workspaces.is_empty()
    }

    /// Counts in one line.
    pub fn summary(&self) -> String {
        let left_out = if self.left_out == 0 {
            String::new()
        } else {
            format!("; {} more are not shown", self.left_out)
        };
        match (self.given_up, self.left) {
            (0, 0) => format!("{}: no workspaces are recorded under this name", self.cluster),
            (0, left) => {
                let recorded = counted(left, "workspace");
                format!("{}: {recorded} recorded under this name{left_out}", self.cluster)
            }
            (given_up, left) => {
                format!("{}: {} given up, {left} left", self.cluster, counted(given_up, "workspace"))
            }
        }
    }

    /// One row per recorded workspace.
    pub fn table(&self, now: Timestamp) -> Table {
        let mut table = Table::new([
            plain("WORKSPACE"),
            wide("NAMESPACE"),
            wide("META ID"),
            plain("RECORDED"),
            sentence("OWNER"),
        ]);
        for one in &self.workspaces {
            let [id, namespace, owner, _] = one.heads();
            table.row([id, namespace, one.meta_id().to_owned(), age(one.at(), now), owner]);
        }
        table
    }
}
