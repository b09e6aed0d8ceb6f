//! `spaceport workspace start`

use std::cell::Cell;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tonic::Status;

use super::progress::Progress;
use super::request::RequestArgs;
use super::wait::{Goal, Wait};
use crate::connect::{Client, ClientArgs};
use crate::failure::{leaves_open, passes};
use crate::interrupt::Interrupt;
use crate::subscription::Subscription;
use crate::terminal::Terminal;
use crate::value_parsers::positive_duration;
use crate::view::StartedView;
use proto::wsman::{MetadataFilter, StartWorkspaceRequest};

/// `spaceport workspace start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub request: RequestArgs,
    #[command(flatten)]
    pub waiting: WaitArgs,
}

/// Whether to wait for the outcome.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Wait for the outcome and show the phases
    #[arg(long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = positive_duration)]
    pub wait_timeout: Duration,
}

/// Starts, and waits if requested.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    request: StartWorkspaceRequest,
    waiting: &WaitArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let call = || {
        let (mut api, request) = (client.workspaces(), request.clone());
        async move { client.call(request, async |request| api.start_workspace(request).await).await }
    };
    let (answer, phase) = if waiting.wait {
        let meta_id = request.metadata.as_ref().map(|metadata| metadata.meta_id.clone()).unwrap_or_default();
        let filter = MetadataFilter { meta_id, ..Default::default() };
        // Before the start, so that no phase is missed.
        let subscription = Subscription::open(connection, client, filter).await?;
        let progress = Progress::new(terminal.redraws, "");
        let mut wait = Wait::new(&request.id, Goal::Running, waiting.wait_timeout, subscription, progress);
        let acknowledged = Cell::new(false);
        let work = async {
            let answer =
                wait.during(call(), terminal).await.map_err(|status| explain(status, &request.id))?;
            acknowledged.set(true);
            Ok((answer, Some(wait.finish(terminal).await?.phase)))
        };
        let goes_on = || {
            let id = &request.id;
            if acknowledged.get() {
                format!("workspace {id} {}", Goal::Running.goes_on(id))
            } else {
                may_start(id)
            }
        };
        Interrupt::listen()?.unless(work, goes_on).await?
    } else {
        (call().await.map_err(|status| explain(status, &request.id))?, None)
    };
    for warning in &answer.warnings {
        terminal.progress(&format!("warning: {warning}\n"));
    }
    let started = StartedView::new(&request, answer, phase);
    terminal.result(connection.output, &started, || started.details())
}

/// Adds what is known after a failure: no response does not mean rejected.
fn explain(status: Status, id: &str) -> anyhow::Error {
    let context = if leaves_open(&status) {
        may_start(id)
    } else if passes(&status) {
        format!("workspace {id} was not started; repeat the command")
    } else {
        format!("failed to start workspace {id}")
    };
    anyhow::Error::from(status).context(context)
}

fn may_start(id: &str) -> String {
    format!("workspace {id} may or may not start; see `spaceport workspace show {id}`")
}
