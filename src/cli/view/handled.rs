use serde::Serialize;

use super::diff::ComparedView;
use crate::table::{Table, plain, sentence, wide};
use proto::spaceport::v1::HandledWorkspace;
use proto::spaceport::v1::handled_workspace::Outcome;

/// Outcome of an adoption or a discard for one workspace, or its plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HandledView {
    #[serde(flatten)]
    workspace: ComparedView,
    outcome: String,
    takes_over: bool,
    moves: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl From<HandledWorkspace> for HandledView {
    fn from(one: HandledWorkspace) -> Self {
        Self {
            outcome: one.outcome().as_str_name().trim_start_matches("OUTCOME_").to_owned(),
            workspace: ComparedView::from(one.workspace.unwrap_or_default()),
            takes_over: one.takes_over,
            moves: one.moves,
            reason: one.reason,
        }
    }
}

impl HandledView {
    pub fn id(&self) -> &str {
        self.workspace.id()
    }

    pub fn is(&self, outcome: Outcome) -> bool {
        self.outcome == outcome.as_str_name().trim_start_matches("OUTCOME_")
    }

    /// One row per workspace: what was done, or would be done.
    pub fn table(all: &[Self], is_plan: bool) -> Table {
        let mut table = Table::new([
            plain("WORKSPACE"),
            wide("NAMESPACE"),
            wide("OWNER"),
            plain("STANDING"),
            plain("OUTCOME"),
            sentence("DETAIL"),
        ]);
        for one in all {
            let [id, namespace, owner, standing] = one.workspace.heads();
            table.row([id, namespace, owner, standing, one.outcome(is_plan), one.detail()]);
        }
        table
    }

    fn outcome(&self, is_plan: bool) -> String {
        let outcome = match (is_plan, self.outcome.as_str()) {
            (_, "PLANNED") => "WOULD ADOPT",
            (true, "REFUSED") => "WOULD REFUSE",
            (_, outcome) => outcome,
        };
        outcome.to_owned()
    }

    fn detail(&self) -> String {
        let change = match (self.is(Outcome::Planned), self.takes_over, self.moves) {
            (true, true, _) => "would be taken over",
            (false, true, _) => "was taken over",
            (true, _, true) => "its record would move here",
            (false, _, true) => "its record moved here",
            _ => "",
        };
        let detail = self.workspace.detail();
        match (change, detail.as_str()) {
            ("", _) if !self.reason.is_empty() => self.reason.clone(),
            ("", _) => detail,
            (_, "") => change.to_owned(),
            _ => format!("{change}; {detail}"),
        }
    }
}
