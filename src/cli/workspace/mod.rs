//! `spaceport workspace …`

use anyhow::Result;
use clap::{Args, Subcommand};

use super::connect::{Client, ClientArgs};
use super::terminal::Terminal;
use crate::domain::names::{MetaId, OwnerId, WorkspaceId};
use crate::proto::wsman::MetadataFilter;

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
    #[command(flatten)]
    client: ClientArgs,
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
    /// Tell why a workspace was placed where it is; for admins
    Explain {
        /// The workspace's instance id
        id: WorkspaceId,
    },
    /// Follow the changes of workspaces
    Watch(watch::WatchArgs),
    /// Read what a workspace's container wrote
    Logs(logs::LogsArgs),
    /// Take a snapshot of a running workspace
    Snapshot(snapshot::SnapshotArgs),
    /// Set after how long a workspace stops by itself
    Timeout(timeout::TimeoutArgs),
    /// Serve ports of a workspace
    #[command(subcommand)]
    Port(port::PortVerb),
}

/// Which workspaces; what is absent matches everything.
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

/// Runs a verb.
pub async fn run(args: WorkspaceArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let WorkspaceArgs { client: connection, verb } = args;
    if let Verb::Start(args) = verb {
        // What is wrong with the request is said before any server is asked.
        let request = request::build(&args.request)?;
        let client = Client::connect(&connection).await?;
        return start::run(&client, &connection, request, &args.waiting, terminal).await;
    }
    let client = Client::connect(&connection).await?;
    match verb {
        Verb::Start(_) => Ok(()),
        Verb::Stop(args) => stop::run(&client, &connection, args, terminal).await,
        Verb::List(args) => list::run(&client, &connection, args, terminal).await,
        Verb::Show(args) => show::run(&client, &connection, args, terminal).await,
        Verb::Explain { id } => explain::run(&client, &connection, id, terminal).await,
        Verb::Watch(args) => watch::run(&client, &connection, args, terminal).await,
        Verb::Logs(args) => logs::run(&client, &connection, args, terminal).await,
        Verb::Snapshot(args) => snapshot::run(&client, &connection, args, terminal).await,
        Verb::Timeout(args) => timeout::run(&client, &connection, args, terminal).await,
        Verb::Port(verb) => port::run(&client, &connection, verb, terminal).await,
    }
}

/// `KEY=VALUE`; the value may be empty and may hold further `=`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}
