//! `spaceport workspace logs`

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::connect::{Client, positive_duration};
use crate::cli::terminal::Terminal;
use crate::domain::names::WorkspaceId;
use crate::proto::spaceport::v1::LogsRequest;

/// `spaceport workspace logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// Go on with what is written from now on, until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Only what was written within this time, such as 5m
    #[arg(long, value_parser = positive_duration, value_name = "DURATION")]
    since: Option<Duration>,
    /// The log of the container that ran in the same pod before
    #[arg(long)]
    previous: bool,
}

/// Writes the log as it is.
pub async fn run(client: &Client, args: LogsArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let LogsArgs { id, follow, tail, since, previous } = args;
    let since = since.map(prost_types::Duration::try_from).transpose()?;
    let request = LogsRequest { id: id.to_string(), follow, tail, since, previous };
    let mut api = client.logs();
    let log = client.open(request, async |request| api.logs(request).await).await;
    let mut log = log.with_context(|| format!("failed to read the log of {id}"))?;
    while let Some(piece) = log.message().await.with_context(|| format!("the log of {id} broke off"))? {
        terminal.bytes(&piece.content)?;
    }
    Ok(())
}
