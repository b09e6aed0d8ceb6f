//! `spaceport workspace logs`

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tonic::{Code, Status, Streaming};

use crate::connect::{Client, ClientArgs, again};
use crate::failure::describe;
use crate::terminal::Terminal;
use crate::value_parsers::{at_least, positive_duration};
use domain::names::WorkspaceId;
use proto::spaceport::v1::{LogsRequest, LogsResponse};

/// `spaceport workspace logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// Follow the log until the container ends, across restarts of the manager
    #[arg(short, long)]
    follow: bool,
    /// Only this many of the last lines
    #[arg(long, value_name = "LINES", value_parser = at_least(0_u32))]
    tail: Option<u32>,
    /// Only lines newer than this, such as 5m
    #[arg(long, value_parser = positive_duration, value_name = "DURATION")]
    since: Option<Duration>,
    /// The log of the previous container of the pod
    #[arg(long)]
    previous: bool,
}

/// Prints the log unchanged. With `--follow` it resumes at whichever address responds when the connection breaks.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: LogsArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let LogsArgs { id, follow, tail, since, previous } = args;
    let since = since.map(prost_types::Duration::try_from).transpose()?;
    let resume_token = String::new();
    let mut request = LogsRequest { id: id.to_string(), follow, tail, since, previous, resume_token };
    let log = open(client, &request).await;
    let mut log = log.with_context(|| format!("failed to read the log of {id}"))?;
    let broke_off = || format!("reading the log of {id} was interrupted");
    loop {
        match log.message().await {
            Ok(Some(piece)) => {
                terminal.bytes(&piece.content)?;
                if !piece.resume_token.is_empty() {
                    request.resume_token = piece.resume_token;
                }
            }
            Ok(None) => return Ok(()),
            Err(status) if !follow || is_final(&status) => return Err(status).with_context(broke_off),
            Err(status) => {
                terminal.progress(&format!("{}: {}; resuming\n", broke_off(), describe(&status)));
                let resumed = again(connection, is_final, async |client| open(client, &request).await);
                log = resumed.await.with_context(broke_off)?;
            }
        }
    }
}

async fn open(client: &Client, request: &LogsRequest) -> Result<Streaming<LogsResponse>, Status> {
    let mut api = client.logs();
    client.open(request.clone(), async |request| api.logs(request).await).await
}

/// Whether a retry would get the same error.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}
