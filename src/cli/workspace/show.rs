//! `spaceport workspace show`

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;
use tonic::Code;

use super::describe::{content, describe, ended, newest_backup};
use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::{ContentView, NewestBackup, WorkspaceView};
use domain::names::WorkspaceId;

/// `spaceport workspace show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// Show the owner's token too: a secret that lets its holder in
    #[arg(long)]
    owner_token: bool,
}

/// Prints one workspace.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: ShowArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    details(client, connection, &args.id, args.owner_token, terminal).await
}

/// Prints everything about a workspace; for an ended one, how it ended.
pub async fn details(
    client: &Client,
    connection: &ClientArgs,
    id: &WorkspaceId,
    owner_token: bool,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let answer = describe(client, id).await;
    if answer.as_ref().is_err_and(|status| status.code() == Code::NotFound)
        && let Some(ended) = ended(client, id).await
    {
        let newest = newest_backup(client, &ended.owner, &ended.meta_id).await;
        let ended = ended.with_backup(newest);
        return terminal.result(connection.output, &ended, || ended.details(Timestamp::now()));
    }
    let answer = answer.with_context(|| format!("failed to show {id}"))?;
    let status = answer.status.context("the server described the workspace without a status")?;
    let token = status.auth.as_ref().filter(|_| owner_token).map(|auth| auth.owner_token.clone());
    let metadata = status.metadata.as_ref();
    let (owner, meta_id) = metadata.map(|of| (of.owner.clone(), of.meta_id.clone())).unwrap_or_default();
    let newest = async {
        // A server of an earlier version names none.
        if owner.is_empty() { NewestBackup::NotAsked } else { newest_backup(client, &owner, &meta_id).await }
    };
    let (reports, newest) = futures::join!(content(client, id), newest);
    let content = ContentView::new(status.initializer_metrics.as_ref(), reports, newest);
    let view = WorkspaceView::from(status).described(&answer.last_activity, token).with_content(content);
    terminal.result(connection.output, &view, || view.details(Timestamp::now()))
}
