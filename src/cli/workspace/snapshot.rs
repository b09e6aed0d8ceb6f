//! `spaceport workspace snapshot`

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::cli::connect::{Client, ClientArgs, positive_duration};
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::domain::names::WorkspaceId;
use crate::proto::wsman::TakeSnapshotRequest;

/// `spaceport workspace snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// Wait until the snapshot is complete, and not only until its place is known
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = positive_duration)]
    wait_timeout: Duration,
}

#[derive(Debug, Serialize)]
struct SnapshotView {
    id: String,
    url: String,
    complete: bool,
}

/// Takes a snapshot of a running workspace.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: SnapshotArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let request = TakeSnapshotRequest { id: args.id.to_string(), return_immediately: !args.wait };
    let client = if args.wait { client.patient(args.wait_timeout) } else { client.clone() };
    let mut api = client.workspaces();
    let answer = client.call(request, async |request| api.take_snapshot(request).await).await;
    let answer = answer.with_context(|| format!("failed to take a snapshot of {}", args.id))?;
    let view = SnapshotView { id: args.id.to_string(), url: answer.url, complete: args.wait };
    terminal.result(connection.output, &view, || {
        let mut table = Table::new(["ID", "SNAPSHOT", "COMPLETE"]);
        let complete = if view.complete { "yes" } else { "not yet" };
        table.row([view.id.clone(), view.url.clone(), complete.to_owned()]);
        table
    })
}
