//! `spaceport workspace snapshot`

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tonic::Status;

use crate::connect::{Client, ClientArgs};
use crate::failure::leaves_open;
use crate::interrupt::Interrupt;
use crate::terminal::Terminal;
use crate::value_parsers::positive_duration;
use crate::view::SnapshotView;
use domain::names::WorkspaceId;
use proto::wsman::TakeSnapshotRequest;

/// `spaceport workspace snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// Wait until the snapshot is complete, not only until its URL is known
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = positive_duration)]
    wait_timeout: Duration,
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
    let call = async {
        let answer = client.call(request, async |request| api.take_snapshot(request).await).await;
        answer.map_err(|status| explain(status, &args.id))
    };
    let answer = Interrupt::listen()?.unless(call, || goes_on(&args.id)).await?;
    let view = SnapshotView { id: args.id.to_string(), url: answer.url, complete: args.wait };
    terminal.result(connection.output, &view, || view.table())
}

/// The snapshot is a resource of its cluster and continues after the wait.
fn goes_on(id: &WorkspaceId) -> String {
    format!(
        "a snapshot of {id} that was begun goes on; its URL is in the Snapshot resource of its cluster, and `spaceport \
         workspace snapshot {id}` takes another"
    )
}

/// Adds what is known after a failure: no response does not mean rejected.
fn explain(status: Status, id: &WorkspaceId) -> anyhow::Error {
    let context =
        if leaves_open(&status) { goes_on(id) } else { format!("failed to take a snapshot of {id}") };
    anyhow::Error::from(status).context(context)
}
