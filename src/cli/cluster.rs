//! `spaceport cluster …`

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::connect::{Client, ClientArgs};
use super::terminal::Terminal;
use super::view::{ClusterView, LeaderView};
use domain::names::ClusterName;
use proto::spaceport::v1::{
    Cluster, CordonRequest, DeregisterRequest, GetRequest, LeaderRequest, ListRequest, UncordonRequest,
};

mod adopt;
mod diff;
mod doctor;
mod drain;
mod explain;
pub(super) mod fields;
mod file;
mod forget;
mod incarnation;
mod install;
mod kubeconfig;
mod maintenance;
mod plugin;
mod register;
mod rotate_secret;
mod update;
mod watch;

/// `spaceport cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Register the clusters of a cluster file
    Register(Box<register::RegisterArgs>),
    /// List the clusters with their health
    List {
        /// Watch: a line for each change, until interrupted
        #[arg(short, long)]
        watch: bool,
    },
    /// Show one cluster
    Show {
        /// The cluster's name
        name: ClusterName,
    },
    /// Change the settings of a cluster, or its kubeconfig
    Update(Box<update::UpdateArgs>),
    /// Check a cluster as registration does, and report problems with remedies
    Doctor(Box<doctor::DoctorArgs>),
    /// Install into a cluster what a member cluster needs, with an admin's kubeconfig
    Install(install::InstallArgs),
    /// Place no new workspaces on clusters; existing ones keep running
    Cordon {
        /// The clusters' names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<ClusterName>,
    },
    /// Place new workspaces on clusters again
    Uncordon {
        /// The clusters' names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<ClusterName>,
    },
    /// Put a cluster under maintenance for a time, or end it
    #[command(subcommand)]
    Maintenance(maintenance::Switch),
    /// Empty a cluster of workspaces without losing content
    Drain(Box<drain::DrainArgs>),
    /// Show where a cluster and its records differ
    Diff(diff::DiffArgs),
    /// Take over workspaces that have no record
    Adopt(adopt::AdoptArgs),
    /// Delete resources of this installation that have no record
    Discard(adopt::DiscardArgs),
    /// Show where starts would be placed now, and why not elsewhere
    Explain(Box<explain::ExplainArgs>),
    /// Deregister a cluster
    Deregister {
        /// The cluster's name
        name: ClusterName,
        /// Also while workspaces are placed there
        #[arg(long)]
        force: bool,
    },
    /// Give up the workspaces recorded under the name of a cluster that does not return
    Forget(forget::ForgetArgs),
    /// Show which replica of the manager leads
    Leader,
    /// Incarnations of Spaceport's etcd
    #[command(subcommand)]
    Incarnation(incarnation::Verb),
    /// Derive owner tokens of new workspaces from a new secret; existing ones keep theirs
    RotateSecret(rotate_secret::RotateSecretArgs),
}

/// Runs a `spaceport cluster` verb.
pub async fn run(args: ClusterArgs, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let ClusterArgs { verb } = args;
    // Report problems of the file before connecting.
    match &verb {
        Verb::Register(args) => return register::run(args, connection, terminal).await,
        Verb::Update(args) => return update::run(args, connection, terminal).await,
        Verb::Doctor(args) => return doctor::run(args, connection, terminal).await,
        Verb::Install(args) => return install::run(args, connection, terminal).await,
        _ => {}
    }
    let client = Client::connect(connection).await?;
    match verb {
        Verb::Register(_) | Verb::Update(_) | Verb::Doctor(_) | Verb::Install(_) => Ok(()),
        Verb::List { watch: true } => watch::run(&client, connection, terminal).await,
        Verb::List { watch: false } => {
            let clusters = list(&client).await?;
            terminal.result(connection.output, &clusters, || ClusterView::table(&clusters, Timestamp::now()))
        }
        Verb::Show { name } => {
            let request = GetRequest { name: name.to_string() };
            let mut api = client.clusters();
            let answer = client.call(request, async |request| api.get(request).await).await?;
            let cluster = ClusterView::from(answer.cluster.unwrap_or_default());
            terminal.result(connection.output, &cluster, || cluster.details(Timestamp::now()))
        }
        Verb::Cordon { names } => set_intent(&client, connection, names, true, terminal).await,
        Verb::Uncordon { names } => set_intent(&client, connection, names, false, terminal).await,
        Verb::Maintenance(switch) => maintenance::run(&client, connection, switch, terminal).await,
        Verb::Drain(args) => drain::run(&client, connection, *args, terminal).await,
        Verb::Adopt(args) => adopt::adopt(&client, connection, args, terminal).await,
        Verb::Discard(args) => adopt::discard(&client, connection, args, terminal).await,
        Verb::Diff(args) => diff::run(&client, connection, args, terminal).await,
        Verb::Explain(args) => explain::run(&client, connection, *args, terminal).await,
        Verb::Deregister { name, force } => {
            let request = DeregisterRequest { name: name.to_string(), force };
            let mut api = client.clusters();
            let answer = client.call(request, async |request| api.deregister(request).await).await;
            answer.with_context(|| format!("failed to deregister {name}"))?;
            terminal.progress(&format!("deregistered {name}\n"));
            Ok(())
        }
        Verb::Forget(args) => forget::run(&client, connection, args, terminal).await,
        Verb::Incarnation(verb) => incarnation::run(&client, connection, verb, terminal).await,
        Verb::RotateSecret(args) => rotate_secret::run(&client, connection, args, terminal).await,
        Verb::Leader => {
            let mut api = client.clusters();
            let leader = client.call(LeaderRequest {}, async |request| api.leader(request).await).await?;
            let leader = LeaderView::from(leader);
            terminal.result(connection.output, &leader, || leader.details(Timestamp::now()))
        }
    }
}

async fn list(client: &Client) -> Result<Vec<ClusterView>> {
    let mut api = client.clusters();
    let answer = client.call(ListRequest {}, async |request| api.list(request).await).await?;
    Ok(answer.clusters.into_iter().map(ClusterView::from).collect())
}

/// Cordons or uncordons the clusters in order; stops at the first failure.
async fn set_intent(
    client: &Client,
    connection: &ClientArgs,
    names: Vec<ClusterName>,
    cordoned: bool,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut changed = Vec::new();
    for name in names {
        let verb = if cordoned { "cordon" } else { "uncordon" };
        let answer = intent_of(client, name.to_string(), cordoned).await;
        let cluster = answer.with_context(|| format!("failed to {verb} {name}"))?;
        terminal.progress(&format!("{verb}ed {name}\n"));
        changed.extend(cluster.map(ClusterView::from));
    }
    terminal.result(connection.output, &changed, || ClusterView::table(&changed, Timestamp::now()))
}

async fn intent_of(client: &Client, name: String, cordoned: bool) -> Result<Option<Cluster>, tonic::Status> {
    let mut api = client.clusters();
    Ok(if cordoned {
        client.call(CordonRequest { name }, async |request| api.cordon(request).await).await?.cluster
    } else {
        client.call(UncordonRequest { name }, async |request| api.uncordon(request).await).await?.cluster
    })
}
