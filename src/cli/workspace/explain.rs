//! `spaceport workspace explain`

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::DecisionView;
use domain::names::WorkspaceId;
use proto::spaceport::v1::ExplainWorkspaceRequest;

/// Prints why a workspace was placed where it is.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    id: WorkspaceId,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut api = client.clusters();
    let request = ExplainWorkspaceRequest { id: id.to_string() };
    let answer = client.call(request, async |request| api.explain_workspace(request).await).await;
    let answer = answer.with_context(|| format!("failed to explain {id}"))?;
    let decision = answer.decision.context("the server sent no decision")?;
    let view = DecisionView::from(decision);
    terminal.result(connection.output, &view, || view.page(Timestamp::now()))
}
