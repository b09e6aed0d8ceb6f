//! `spaceport workspace timeout`

use anyhow::{Context, Result};
use clap::Args;

use super::show;
use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::value_parsers::{limit, zero_or_more};
use domain::duration::GoDuration;
use domain::names::WorkspaceId;
use proto::wsman::{SetTimeoutRequest, TimeoutType};

/// `spaceport workspace timeout`.
#[derive(Debug, Args)]
#[command(override_usage = "spaceport workspace timeout [OPTIONS] --after <DURATION> <ID>
       spaceport workspace timeout [OPTIONS] --closed <DURATION> <ID>")]
pub struct TimeoutArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Limits {
    /// Stop after this long without activity; resets the limit after closing unless --closed is given too
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    after: Option<GoDuration>,
    /// Stop this long after the last editor was closed; 0 never
    #[arg(long, value_name = "DURATION", value_parser = zero_or_more)]
    closed: Option<GoDuration>,
}

/// Sets the given limits, and prints the workspace.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: TimeoutArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let Limits { after, closed } = args.limits;
    // In this order, because the first resets the second.
    let limits = [(after, TimeoutType::WorkspaceTimeout), (closed, TimeoutType::ClosedTimeout)];
    for (limit, kind) in limits {
        let Some(limit) = limit else { continue };
        let request =
            SetTimeoutRequest { id: args.id.to_string(), duration: limit.to_string(), r#type: kind.into() };
        let mut api = client.workspaces();
        let answer = client.call(request, async |request| api.set_timeout(request).await).await;
        answer.with_context(|| format!("failed to set the timeout of {}", args.id))?;
    }
    show::details(client, connection, &args.id, false, terminal).await
}
