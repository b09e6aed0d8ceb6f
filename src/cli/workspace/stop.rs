//! `spaceport workspace stop`

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tonic::Status;

use super::progress::Progress;
use super::start::WaitArgs;
use super::wait::{Goal, Wait, failure_of};
use crate::cli::connect::{Client, ClientArgs};
use crate::cli::failure::report;
use crate::cli::subscription::Subscription;
use crate::cli::terminal::Terminal;
use crate::domain::names::WorkspaceId;
use crate::proto::wsman::{
    DescribeWorkspaceRequest, MetadataFilter, StopWorkspacePolicy, StopWorkspaceRequest,
};

/// `spaceport workspace stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The workspaces' instance ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<WorkspaceId>,
    /// How much time the workspace is given; `abort` saves nothing
    #[arg(long, value_enum, default_value_t)]
    policy: Policy,
    #[command(flatten)]
    waiting: WaitArgs,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Policy {
    #[default]
    Normally,
    Immediately,
    Abort,
}

impl From<Policy> for StopWorkspacePolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Normally => Self::Normally,
            Policy::Immediately => Self::Immediately,
            Policy::Abort => Self::Abort,
        }
    }
}

/// Asks all of them to stop, and only then waits: they stop at the same time. A failure does not keep the others.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: StopArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut failures = Vec::new();
    let mut waits = Vec::new();
    for id in &args.ids {
        match ask(client, connection, id, &args, terminal).await {
            Ok(wait) => waits.extend(wait),
            Err(error) => failures.push(error.context(format!("failed to stop {id}"))),
        }
    }
    for wait in waits {
        match wait.finish(terminal).await {
            Ok(status) => {
                let failure = failure_of(&status).map(|failure| format!(": {failure}")).unwrap_or_default();
                terminal.progress(&format!("stopped {}{failure}\n", status.id));
            }
            Err(error) => failures.push(error),
        }
    }
    match (failures.pop(), args.ids.len()) {
        (None, _) => Ok(()),
        (Some(only), 1) => Err(only),
        (Some(last), all) => {
            let failed = failures.len() + 1;
            for error in failures.iter().chain([&last]) {
                terminal.progress(&report(error).1);
            }
            bail!("{failed} of {all} workspaces did not stop")
        }
    }
}

async fn ask(
    client: &Client,
    connection: &ClientArgs,
    id: &WorkspaceId,
    args: &StopArgs,
    terminal: &mut Terminal<'_>,
) -> Result<Option<Wait>> {
    let subscription = if args.waiting.wait {
        let filter = MetadataFilter { meta_id: meta_id_of(client, id).await?, ..Default::default() };
        // Before the stop, so that its end is not missed.
        Some(Subscription::open(connection, client, filter).await?)
    } else {
        None
    };
    let policy = StopWorkspacePolicy::from(args.policy).into();
    let request = StopWorkspaceRequest { id: id.to_string(), policy };
    let mut api = client.workspaces();
    client.call(request, async |request| api.stop_workspace(request).await).await?;
    let Some(subscription) = subscription else {
        terminal.progress(&format!("stopping {id}\n"));
        return Ok(None);
    };
    let name = if args.ids.len() > 1 { id.as_str() } else { "" };
    let progress = Progress::new(terminal.redraws, name);
    Ok(Some(Wait::new(id.as_str(), Goal::Stopped, args.waiting.wait_timeout, subscription, progress)))
}

async fn meta_id_of(client: &Client, id: &WorkspaceId) -> Result<String> {
    let mut api = client.workspaces();
    let request = DescribeWorkspaceRequest { id: id.to_string() };
    let answer: Result<_, Status> =
        client.call(request, async |request| api.describe_workspace(request).await).await;
    let metadata = answer?.status.and_then(|status| status.metadata);
    metadata.map(|metadata| metadata.meta_id).context("the server described it without its meta id")
}
