//! `spaceport workspace stop`

use anyhow::{Context, Error, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use futures::future::join_all;
use tokio::time::Instant;
use tonic::codegen::Bytes;
use tonic::{Code, Status};

use super::describe::{backup_failure, describe, ended};
use super::holders::{LONGEST, holders};
use super::progress::Progress;
use super::start::WaitArgs;
use super::wait::{Goal, Wait, failure_of};
use crate::connect::{Client, ClientArgs};
use crate::failure::report;
use crate::interrupt::{Interrupt, Interrupted};
use crate::subscription::Subscription;
use crate::table::clean;
use crate::terminal::Terminal;
use domain::names::WorkspaceId;
use proto::wsman::{MetadataFilter, StopWorkspacePolicy, StopWorkspaceRequest, WorkspaceStatus};

/// `spaceport workspace stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The workspaces' instance ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<WorkspaceId>,
    /// Grace period: `immediately` is short, `abort` saves nothing
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

/// Stops all, then waits: they stop at the same time. A failure does not skip the rest.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: StopArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let began = Instant::now();
    let mut failures = Vec::new();
    let mut waits = Vec::new();
    for id in &args.ids {
        match ask(client, connection, id, &args, terminal).await {
            Ok(wait) => waits.extend(wait.map(|wait| (id, wait))),
            Err(error) => failures.push(error.context(format!("failed to stop {id}"))),
        }
    }
    let mut interrupt = Interrupt::listen()?;
    let goes_on = || {
        let ids = args.ids.iter().map(WorkspaceId::as_str).collect::<Vec<_>>().join(" ");
        format!("the workspaces continue to stop: `spaceport workspace stop {ids} --wait` waits again")
    };
    let mut left = Vec::new();
    for (id, wait) in waits {
        match interrupt.unless(wait.finish(terminal), goes_on).await {
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Ok(status) => {
                let unsaved =
                    interrupt.unless(async { Ok(backup_failure(client, id).await) }, goes_on).await?;
                let failure = failure_of(&status).filter(|_| unsaved.is_none());
                let failure = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
                terminal.progress(&format!("stopped {}{failure}\n", status.id));
                failures.extend(unsaved.map(|why| anyhow!("{id} stopped, but its backup failed: {why}")));
                if status.held.is_empty() {
                    left.push(id);
                } else {
                    show_held(status, terminal);
                }
            }
            Err(error) => failures.push(error),
        }
    }
    // Who holds a resource is known only after its workspace has stopped.
    let now = Instant::now();
    let deadline = (began + args.waiting.wait_timeout).min(now + connection.timeout.min(LONGEST));
    let held = join_all(left.into_iter().map(|id| holders(client, id, deadline)));
    let held = interrupt.unless(async { Ok(held.await) }, goes_on).await?;
    held.into_iter().flatten().for_each(|status| show_held(status, terminal));
    conclude(failures, &args, connection, terminal)
}

fn show_held(status: WorkspaceStatus, terminal: &mut Terminal<'_>) {
    let meta = status.metadata.map(|metadata| metadata.meta_id).unwrap_or_default();
    let held = format!("meta id {meta} stays taken: {}", status.held);
    terminal.progress(&format!("{}\n", clean(&held)));
}

/// The only failure; several are printed and counted.
fn conclude(
    mut failures: Vec<Error>,
    args: &StopArgs,
    connection: &ClientArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    match (failures.pop(), args.ids.len()) {
        (None, _) => Ok(()),
        (Some(only), 1) => Err(only),
        (Some(last), all) => {
            let failed = failures.len() + 1;
            for error in failures.iter().chain([&last]) {
                let text = report(error, connection.output, terminal.err_width).1;
                terminal.progress(&text);
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
    let before = match describe(client, id).await {
        Err(status) if status.code() == Code::NotFound => None,
        described => Some(described?.status.unwrap_or_default()),
    };
    let mut subscription = match &before {
        // Before the stop, so that its end is not missed.
        Some(status) if args.waiting.wait => Some(subscribe(client, connection, status).await?),
        _ => None,
    };
    let policy = StopWorkspacePolicy::from(args.policy).into();
    let request = StopWorkspaceRequest { id: id.to_string(), policy };
    let mut api = client.workspaces();
    if let Err(status) = client.call(request, async |request| api.stop_workspace(request).await).await {
        return Err(refusal(client, id, status).await.into());
    }
    if before.is_none() {
        // The API accepts a stop of an unknown id. Ask again, because the replica may have lagged behind.
        let status = match describe(client, id).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            Err(status) => return Err(refusal(client, id, status).await.into()),
        };
        if args.waiting.wait {
            subscription = Some(subscribe(client, connection, &status).await?);
        }
    }
    let Some(subscription) = subscription else {
        terminal.progress(&format!("stopping {id}\n"));
        return Ok(None);
    };
    let name = if args.ids.len() > 1 { id.as_str() } else { "" };
    let progress = Progress::new(terminal.redraws, name);
    Ok(Some(Wait::new(id.as_str(), Goal::Stopped, args.waiting.wait_timeout, subscription, progress)))
}

/// Reports a workspace that has ended as such, and not as one that does not exist.
async fn refusal(client: &Client, id: &WorkspaceId, status: Status) -> Status {
    if status.code() != Code::NotFound {
        return status;
    }
    match ended(client, id).await {
        Some(ended) => {
            let details = Bytes::copy_from_slice(status.details());
            Status::with_details(status.code(), ended.sentence(), details)
        }
        None => status,
    }
}

async fn subscribe(
    client: &Client,
    connection: &ClientArgs,
    status: &WorkspaceStatus,
) -> Result<Subscription> {
    let metadata = status.metadata.as_ref().context("the server described it without its meta id")?;
    let filter = MetadataFilter { meta_id: metadata.meta_id.clone(), ..Default::default() };
    Subscription::open(connection, client, filter).await
}
