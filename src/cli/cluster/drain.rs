//! `spaceport cluster drain …`

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, Streaming};

use crate::connect::{Client, ClientArgs};
use crate::interrupt::Interrupt;
use crate::table::{clean, wrapped};
use crate::terminal::Terminal;
use crate::value_parsers::{duration_up_to, whole};
use crate::view::DrainView;
use domain::drain::{LONGEST, LONGEST_TEXT};
use domain::names::{ClusterName, WorkspaceId};
use proto::spaceport::v1::change_drain_request::Change;
use proto::spaceport::v1::drain::State;
use proto::spaceport::v1::{
    ChangeDrainRequest, Drain, GetDrainRequest, StartDrainRequest, WatchDrainRequest, WatchDrainResponse,
};

/// How long to keep trying to reconnect.
const RECONNECT_WITHIN: Duration = Duration::from_mins(1);
/// Delay between two tries to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// `spaceport cluster drain`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DrainArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    start: Option<StartArgs>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Begin a drain, or change its options; the same as `drain NAME`
    Start(StartArgs),
    /// Show a drain and each of its workspaces
    Show {
        /// The cluster's name
        name: ClusterName,
    },
    /// Wait until a drain has ended
    Wait {
        /// The cluster's name
        name: ClusterName,
    },
    /// Pause a drain: stop no more workspaces, and still keep new ones away
    Pause {
        /// The cluster's name
        name: ClusterName,
    },
    /// Resume a paused drain
    Resume {
        /// The cluster's name
        name: ClusterName,
    },
    /// Cancel a drain: new workspaces are placed there again; stops under way are completed
    Cancel {
        /// The cluster's name
        name: ClusterName,
    },
    /// Accept that workspaces ended without a backup, so that the drain can end
    Accept {
        /// The cluster's name
        name: ClusterName,
        /// The workspaces' instance ids
        #[arg(required = true, value_name = "ID")]
        workspaces: Vec<WorkspaceId>,
    },
}

/// `spaceport cluster drain NAME`.
#[derive(Debug, Args)]
struct StartArgs {
    /// The cluster's name
    name: ClusterName,
    /// Stop workspaces after this time even if they are in use, such as 2h, at most a year; never when absent
    #[arg(long, value_parser = duration_up_to(LONGEST, LONGEST_TEXT), value_name = "DURATION")]
    deadline: Option<Duration>,
    /// Inactivity after which a workspace is stopped, at most a year; its own timeouts when absent
    #[arg(long, value_parser = duration_up_to(LONGEST, LONGEST_TEXT), value_name = "DURATION")]
    idle: Option<Duration>,
    /// Stops per minute, such as 30/min
    #[arg(long, value_parser = rate, value_name = "N/min", default_value = "30/min")]
    rate: u32,
    /// Stops at the same time
    #[arg(long, value_parser = whole(1..=200_u32), value_name = "N", default_value_t = 10)]
    concurrent: u32,
    /// Drain even if no other cluster has capacity for the workspaces
    #[arg(long, visible_alias = "force")]
    accept_no_room: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until the drain has ended
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/min").unwrap_or(text).parse::<u32>();
    number
        .ok()
        .filter(|rate| (1..=600).contains(rate))
        .ok_or_else(|| "must be from 1/min to 600/min".to_owned())
}

/// Starts, shows or changes a drain.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: DrainArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let (name, change, workspaces) = match (args.verb, args.start) {
        (Some(Verb::Start(start)), _) | (None, Some(start)) => {
            return begin(client, connection, start, terminal).await;
        }
        (None, None) => bail!("no cluster is named"),
        (Some(Verb::Show { name }), _) => return show(client, connection, &name, terminal).await,
        (Some(Verb::Wait { name }), _) => return wait(client, connection, &name, terminal).await,
        (Some(Verb::Pause { name }), _) => (name, Change::Pause, Vec::new()),
        (Some(Verb::Resume { name }), _) => (name, Change::Resume, Vec::new()),
        (Some(Verb::Cancel { name }), _) => (name, Change::Cancel, Vec::new()),
        (Some(Verb::Accept { name, workspaces }), _) => (name, Change::Accept, workspaces),
    };
    let workspaces = workspaces.iter().map(ToString::to_string).collect();
    let request = ChangeDrainRequest { name: name.to_string(), change: change.into(), workspaces };
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.change_drain(request).await).await;
    let answer = answer.with_context(|| format!("failed to change the drain of {name}"))?;
    result(connection, answer.drain, terminal)
}

async fn begin(
    client: &Client,
    connection: &ClientArgs,
    args: StartArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let wire =
        |duration: Option<Duration>| duration.and_then(|given| prost_types::Duration::try_from(given).ok());
    let request = StartDrainRequest {
        name: args.name.to_string(),
        deadline: wire(args.deadline),
        idle: wire(args.idle),
        rate_per_minute: args.rate,
        max_concurrent: args.concurrent,
        accept_no_room: args.accept_no_room,
        dry_run: args.dry_run,
    };
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.start_drain(request).await).await;
    let answer = answer.with_context(|| format!("failed to drain {}", args.name))?;
    if args.wait {
        return wait(client, connection, &args.name, terminal).await;
    }
    result(connection, answer.drain, terminal)?;
    if args.dry_run {
        terminal.progress(
            "nothing was changed; without --dry-run the drain would begin. It starts nothing: TARGET is where the next start \
             of a workspace would go\n",
        );
    }
    Ok(())
}

async fn show(
    client: &Client,
    connection: &ClientArgs,
    name: &ClusterName,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut api = client.clusters();
    let request = GetDrainRequest { name: name.to_string() };
    let answer = client.call(request, async |request| api.get_drain(request).await).await;
    result(connection, answer.with_context(|| format!("failed to show the drain of {name}"))?.drain, terminal)
}

fn result(connection: &ClientArgs, drain: Option<Drain>, terminal: &mut Terminal<'_>) -> Result<()> {
    let view = DrainView::from(drain.context("the server described no drain")?);
    terminal.result(connection.output, &view, || view.page(Timestamp::now()))
}

/// Follows a drain to its end, or to Ctrl-C, which does not cancel the drain.
async fn wait(
    client: &Client,
    connection: &ClientArgs,
    name: &ClusterName,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let goes_on = || {
        format!(
            "the drain of {name} goes on: follow it with `spaceport cluster drain wait {name}`, end it with `spaceport \
             cluster drain cancel {name}`"
        )
    };
    Interrupt::listen()?.unless(follow(client, connection, name, terminal), goes_on).await
}

/// Follows a drain to its end, across changes of the leader and lost connections.
async fn follow(
    client: &Client,
    connection: &ClientArgs,
    name: &ClusterName,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut stream =
        open(client, name).await.with_context(|| format!("failed to watch the drain of {name}"))?;
    let mut shown = Shown::default();
    loop {
        let drain = match stream.message().await {
            Ok(Some(answer)) => answer.drain.context("the server described no drain")?,
            Ok(None) => {
                stream = open_again(connection, name).await?;
                continue;
            }
            Err(status) if is_passing(&status) => {
                stream = open_again(connection, name).await?;
                continue;
            }
            Err(status) => return Err(status).context("failed to follow the drain; it continues"),
        };
        shown.update(&DrainView::from(drain.clone()), connection, terminal);
        if matches!(drain.state(), State::Drained | State::Cancelled) {
            if terminal.redraws {
                terminal.progress("\n");
            }
            if drain.state() == State::Cancelled {
                bail!("the drain of {name} was cancelled");
            }
            return result(connection, Some(drain), terminal);
        }
    }
}

/// What was last printed about a drain.
#[derive(Default)]
struct Shown {
    progress: String,
    reason: String,
}

impl Shown {
    /// Redraws the progress on a terminal; elsewhere prints changes. A new reason gets its own line.
    fn update(&mut self, view: &DrainView, connection: &ClientArgs, terminal: &mut Terminal<'_>) {
        let layout = terminal.layout(connection.output);
        let clear = if terminal.redraws { "\r\u{1b}[2K" } else { "" };
        let reason = wrapped(&clean(view.reason()), layout);
        if reason != self.reason && !reason.is_empty() {
            terminal.progress(&format!("{clear}{reason}\n"));
        }
        let progress = view.progress(Timestamp::now(), layout);
        if terminal.redraws {
            terminal.progress(&format!("{clear}{}", progress.lines().next().unwrap_or_default()));
        } else if progress != self.progress {
            terminal.progress(&format!("{progress}\n"));
        }
        (self.progress, self.reason) = (progress, reason);
    }
}

fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
}

async fn open(client: &Client, name: &ClusterName) -> Result<Streaming<WatchDrainResponse>, Status> {
    let mut api = client.clusters();
    let request = WatchDrainRequest { name: name.to_string() };
    client.open(request, async |request| api.watch_drain(request).await).await
}

async fn open_again(connection: &ClientArgs, name: &ClusterName) -> Result<Streaming<WatchDrainResponse>> {
    let give_up = Instant::now() + RECONNECT_WITHIN;
    loop {
        let opened = async { Ok(open(&Client::connect(connection).await?, name).await?) };
        match opened.await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > give_up => {
                let error: anyhow::Error = error;
                return Err(error.context("no manager responds; the drain continues"));
            }
            Err(_) => sleep(RECONNECT_PAUSE).await,
        }
    }
}
