//! `spaceport workspace show`

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;

use crate::cli::connect::{Client, ClientArgs};
use crate::cli::terminal::Terminal;
use crate::cli::view::WorkspaceView;
use crate::domain::names::WorkspaceId;
use crate::proto::wsman::DescribeWorkspaceRequest;

/// `spaceport workspace show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// Show the owner's token too: a secret that lets its holder in
    #[arg(long)]
    owner_token: bool,
}

/// Shows one workspace.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: ShowArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    details(client, connection, &args.id, args.owner_token, terminal).await
}

/// Writes everything about a workspace.
pub async fn details(
    client: &Client,
    connection: &ClientArgs,
    id: &WorkspaceId,
    owner_token: bool,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut api = client.workspaces();
    let request = DescribeWorkspaceRequest { id: id.to_string() };
    let answer = client.call(request, async |request| api.describe_workspace(request).await).await;
    let answer = answer.with_context(|| format!("failed to show {id}"))?;
    let status = answer.status.context("the server described the workspace without a status")?;
    let token = status.auth.as_ref().filter(|_| owner_token).map(|auth| auth.owner_token.clone());
    let view = WorkspaceView::from(status).described(&answer.last_activity, token);
    terminal.result(connection.output, &view, || view.details(Timestamp::now()))
}
