//! The command line as clap parses it: modes of the program, verbs and global flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::flags::Flags;
use super::{cluster, completion, config, version, workspace};

/// Cloud development workspaces on many Kubernetes clusters
#[derive(Debug, Parser)]
#[command(name = "spaceport", version, propagate_version = true)]
pub struct Cli {
    /// Connection and output flags.
    #[command(flatten)]
    pub flags: Flags,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Modes of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the manager
    Manager(ServerArgs),
    /// Run the node agent
    Node(ServerArgs),
    /// Print the CustomResourceDefinitions that member clusters need
    Crd,
    /// Print a script that completes verbs and flags in a shell
    Completion(completion::CompletionArgs),
    /// A verb of a client.
    #[command(flatten)]
    Client(ClientCommand),
}

/// The verbs that talk to a manager.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Register, show and deregister member clusters
    Cluster(cluster::ClusterArgs),
    /// Keep addresses and certificates of installations under names
    Config(config::ConfigArgs),
    /// Show the whole installation on one page
    Status,
    /// Print the version of this program, and of the server
    Version(version::VersionArgs),
    /// Start, stop and watch workspaces
    Workspace(workspace::WorkspaceArgs),
}

/// How to run the manager or the node agent.
#[derive(Debug, Args)]
pub struct ServerArgs {
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
