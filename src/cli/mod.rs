//! The verbs: what an admin or a user types. A client of the gRPC API like any other; it knows no other room but
//! the domain and the wire types.
//!
//! Results go to standard output, progress and failures to standard error. Exit codes: 0 done, 1 refused or failed,
//! 2 a wrong command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use terminal::Terminal;

mod cluster;
mod connect;
mod failure;
mod status;
mod subscription;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod view;
mod workspace;

/// Cloud development workspaces on many Kubernetes clusters
#[derive(Debug, Parser)]
#[command(name = "spaceport", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can be.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the manager
    Manager(ManagerArgs),
    /// Print the CustomResourceDefinitions that member clusters need
    Crd,
    /// The verbs.
    #[command(flatten)]
    Client(ClientCommand),
}

/// The verbs that talk to a manager.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Register, show and withdraw member clusters
    Cluster(cluster::ClusterArgs),
    /// Show the whole installation on one page
    Status(status::StatusArgs),
    /// Start, stop and watch workspaces
    Workspace(workspace::WorkspaceArgs),
}

/// How to run the manager.
#[derive(Debug, Args)]
pub struct ManagerArgs {
    /// Configuration file, JSON or YAML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Write logs as JSON
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub json_log: bool,
    /// Log more
    #[arg(long)]
    pub verbose: bool,
}

/// Runs a verb on the process' own outputs.
pub fn run(command: ClientCommand) -> ExitCode {
    on_terminal(|terminal| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("failed to start the runtime")?.block_on(dispatch(command, terminal))
    })
}

/// Prints a text that was made without a server.
pub fn print(text: anyhow::Result<String>) -> ExitCode {
    on_terminal(|terminal| terminal.line(text?.trim_end()))
}

fn on_terminal(work: impl FnOnce(&mut Terminal<'_>) -> anyhow::Result<()>) -> ExitCode {
    let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
    let mut terminal = Terminal { out, err, redraws: Terminal::stderr_redraws() };
    let Err(error) = work(&mut terminal) else { return ExitCode::SUCCESS };
    let (code, text) = failure::report(&error);
    terminal.progress(&text);
    ExitCode::from(code)
}

async fn dispatch(command: ClientCommand, terminal: &mut Terminal<'_>) -> anyhow::Result<()> {
    match command {
        ClientCommand::Cluster(args) => cluster::run(args, terminal).await,
        ClientCommand::Status(args) => status::run(args, terminal).await,
        ClientCommand::Workspace(args) => workspace::run(args, terminal).await,
    }
}
