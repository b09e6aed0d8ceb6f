//! `spaceport workspace …`

use anyhow::Result;
use clap::{Args, Subcommand};
use tonic::{Code, Status};

use super::connect::{Client, ClientArgs};
use super::terminal::Terminal;
use super::value_parsers::zero_or_more;
use domain::duration::GoDuration;
use domain::names::{MetaId, OwnerId, WorkspaceId};
use proto::wsman::{DescribeWorkspaceRequest, DescribeWorkspaceResponse, MetadataFilter};

mod explain;
mod list;
mod logs;
mod port;
mod progress;
mod request;
mod show;
mod snapshot;
mod start;
mod stop;
mod timeout;
mod wait;
mod watch;

/// `spaceport workspace`.
#[derive(Debug, Args)]
pub struct WorkspaceArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a workspace
    Start(Box<start::StartArgs>),
    /// Stop workspaces; their content is backed up first
    Stop(stop::StopArgs),
    /// List workspaces
    List(list::ListArgs),
    /// Show one workspace
    Show(show::ShowArgs),
    /// Show why a workspace was placed where it is; for admins
    Explain {
        /// The workspace's instance id
        id: WorkspaceId,
    },
    /// Watch the changes of workspaces
    Watch(watch::WatchArgs),
    /// Print the log of a workspace's container
    Logs(logs::LogsArgs),
    /// Take a snapshot of a running workspace
    Snapshot(snapshot::SnapshotArgs),
    /// Set the timeouts of a workspace
    Timeout(timeout::TimeoutArgs),
    /// Expose ports of a workspace
    #[command(subcommand)]
    Port(port::PortVerb),
}

/// Which workspaces; absent filters match everything.
#[derive(Debug, Args)]
struct FilterArgs {
    /// Only workspaces of this owner
    #[arg(long)]
    owner: Option<OwnerId>,
    /// Only runs of this workspace
    #[arg(long)]
    meta_id: Option<MetaId>,
    /// Only workspaces with this annotation; repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = pair)]
    annotations: Vec<(String, String)>,
}

impl From<FilterArgs> for MetadataFilter {
    fn from(args: FilterArgs) -> Self {
        Self {
            owner: args.owner.map(String::from).unwrap_or_default(),
            meta_id: args.meta_id.map(String::from).unwrap_or_default(),
            annotations: args.annotations.into_iter().collect(),
        }
    }
}

/// Runs a `spaceport workspace` verb.
pub async fn run(args: WorkspaceArgs, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let WorkspaceArgs { verb } = args;
    if let Verb::Start(args) = verb {
        // Report problems of the request before connecting.
        let request = request::build(&args.request)?;
        let client = Client::connect(connection).await?;
        return start::run(&client, connection, request, &args.waiting, terminal).await;
    }
    let client = Client::connect(connection).await?;
    match verb {
        Verb::Start(_) => Ok(()),
        Verb::Stop(args) => stop::run(&client, connection, args, terminal).await,
        Verb::List(args) => list::run(&client, connection, args, terminal).await,
        Verb::Show(args) => show::run(&client, connection, args, terminal).await,
        Verb::Explain { id } => explain::run(&client, connection, id, terminal).await,
        Verb::Watch(args) => watch::run(&client, connection, args, terminal).await,
        Verb::Logs(args) => logs::run(&client, connection, args, terminal).await,
        Verb::Snapshot(args) => snapshot::run(&client, connection, args, terminal).await,
        Verb::Timeout(args) => timeout::run(&client, connection, args, terminal).await,
        Verb::Port(verb) => port::run(&client, connection, verb, terminal).await,
    }
}

/// A limit after which a workspace stops. The API takes 0 as "at once".
fn limit(text: &str) -> Result<GoDuration, String> {
    match zero_or_more(text)? {
        GoDuration::ZERO => {
            Err("must be above zero: a workspace with a limit of 0 stops as soon as it runs. Without the flag the manager's \
                 configured limit holds"
                .to_owned())
        }
        limit => Ok(limit),
    }
}

/// Calls DescribeWorkspace.
async fn describe(client: &Client, id: &WorkspaceId) -> Result<DescribeWorkspaceResponse, Status> {
    let mut api = client.workspaces();
    let request = DescribeWorkspaceRequest { id: id.to_string() };
    client.call(request, async |request| api.describe_workspace(request).await).await
}

/// Whether it is open what the server did: no response does not mean rejected.
fn leaves_open(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled | Code::Unknown)
}

/// `KEY=VALUE`; the value may be empty and may hold further `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}
