use serde::Serialize;

use super::diff::ComparedView;
use crate::cli::table::Table;
use crate::proto::spaceport::v1::HandledWorkspace;
use crate::proto::spaceport::v1::handled_workspace::Outcome;

/// What became, or would become, of a workspace.
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
    /// Its id.
    pub fn id(&self) -> &str {
        self.workspace.id()
    }

    /// Whether it has an outcome.
    pub fn is(&self, outcome: Outcome) -> bool {
        self.outcome == outcome.as_str_name().trim_start_matches("OUTCOME_")
    }

    /// One line a workspace.
    pub fn table(all: &[Self]) -> Table {
        let mut table = Table::new(["WORKSPACE", "NAMESPACE", "OWNER", "STANDING", "OUTCOME", "DETAIL"]);
        for one in all {
            let detail = match (one.takes_over, one.moves, one.reason.is_empty()) {
                (true, ..) => format!("taken over; {}", one.workspace.detail()),
                (_, true, _) => format!("its record moves here; {}", one.workspace.detail()),
                (_, _, true) => one.workspace.detail(),
                (_, _, false) => one.reason.clone(),
            };
            let [id, namespace, owner, standing] = one.workspace.heads();
            table.row([id, namespace, owner, standing, one.outcome.clone(), detail]);
        }
        table
    }
}
