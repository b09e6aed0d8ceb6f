//! `spaceport workspace …`

use anyhow::Result;
use clap::{Args, Subcommand};

use super::connect::{Client, ClientArgs};
use super::terminal::Terminal;
use domain::names::WorkspaceId;

mod backups;
mod copy;
mod describe;
mod explain;
mod filter;
mod forward;
mod holders;
mod list;
mod logs;
mod port;
mod progress;
mod request;
mod session;
mod shell;
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
    /// List the backups and snapshots of a workspace
    Backups(backups::BackupsArgs),
    /// Show why a workspace was placed where it is; for admins
    Explain {
        /// The workspace's instance id
        id: WorkspaceId,
    },
    /// Watch the changes of workspaces
    Watch(watch::WatchArgs),
    /// Print the log of a workspace's container
    Logs(logs::LogsArgs),
    /// Run a shell or a command in a workspace
    Shell(shell::ShellArgs),
    /// Forward local ports to ports in a workspace
    Forward(forward::ForwardArgs),
    /// Copy files and folders to or from a workspace
    Cp(copy::CopyArgs),
    /// Take a snapshot of a running workspace
    Snapshot(snapshot::SnapshotArgs),
    /// Set the timeouts of a workspace
    Timeout(timeout::TimeoutArgs),
    /// Expose ports of a workspace
    #[command(subcommand)]
    Port(port::PortVerb),
}

/// Runs a `spaceport workspace` verb.
pub async fn run(args: WorkspaceArgs, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let WorkspaceArgs { verb } = args;
    if let Verb::Start(args) = verb {
        // Report problems of the request before connecting.
        let request = request::build(&args.request, connection.patience())?;
        let client = Client::connect(connection).await?;
        return start::run(&client, connection, request, &args.waiting, terminal).await;
    }
    let client = Client::connect(connection).await?;
    match verb {
        Verb::Start(_) => Ok(()),
        Verb::Stop(args) => stop::run(&client, connection, args, terminal).await,
        Verb::List(args) => list::run(&client, connection, args, terminal).await,
        Verb::Show(args) => show::run(&client, connection, args, terminal).await,
        Verb::Backups(args) => backups::run(&client, connection, args, terminal).await,
        Verb::Explain { id } => explain::run(&client, connection, id, terminal).await,
        Verb::Watch(args) => watch::run(&client, connection, args, terminal).await,
        Verb::Logs(args) => logs::run(&client, connection, args, terminal).await,
        Verb::Shell(args) => shell::run(&client, args).await,
        Verb::Forward(args) => forward::run(&client, connection, args, terminal).await,
        Verb::Cp(args) => copy::run(&client, args, terminal).await,
        Verb::Snapshot(args) => snapshot::run(&client, connection, args, terminal).await,
        Verb::Timeout(args) => timeout::run(&client, connection, args, terminal).await,
        Verb::Port(verb) => port::run(&client, connection, verb, terminal).await,
    }
}
