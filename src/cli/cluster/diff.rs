//! `spaceport cluster diff`

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;

use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::DiffView;
use domain::names::ClusterName;
use proto::spaceport::v1::DiffRequest;

/// `spaceport cluster diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The cluster's name
    name: ClusterName,
    /// Also list workspaces that agree with their records, and all records of ended ones
    #[arg(long)]
    all: bool,
}

/// Prints the differences between a cluster and its records.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: DiffArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let name = args.name.to_string();
    let request = DiffRequest { name: name.clone(), all: args.all };
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.diff(request).await).await;
    let answer = answer.with_context(|| format!("failed to compare {name} with its records"))?;
    let view = DiffView::new(name, answer);
    if connection.output.is_table() {
        terminal.sentence(connection.output, &view.summary())?;
        if view.is_empty() {
            return Ok(());
        }
    }
    terminal.result(connection.output, &view, || view.table(Timestamp::now()))
}
