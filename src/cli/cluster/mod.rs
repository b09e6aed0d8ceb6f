//! `spaceport cluster …`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::connect::{Client, ClientArgs};
use super::failure::Usage;
use super::terminal::Terminal;
use super::view::{ClusterView, LeaderView};
use crate::domain::names::ClusterName;
use crate::domain::secret_ref::SecretRef;
use crate::proto::spaceport::v1::{
    Cluster, CordonRequest, DeregisterRequest, GetRequest, LeaderRequest, ListRequest, RegisterRequest,
    UncordonRequest,
};

mod adopt;
mod diff;
mod doctor;
mod drain;
mod explain;
mod fields;
mod file;
mod forget;
mod incarnation;
mod install;
mod kubeconfig;
mod maintenance;
mod update;
mod watch;

/// `spaceport cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Register the clusters of a cluster file
    Register(Box<RegisterArgs>),
    /// List the clusters with what is seen of them
    List {
        /// Go on with every change, a line each, until interrupted
        #[arg(short, long)]
        watch: bool,
    },
    /// Show one cluster
    Show {
        /// The cluster's name
        name: ClusterName,
    },
    /// Change what is wanted of a cluster, or how it is reached
    Update(Box<update::UpdateArgs>),
    /// Look at a cluster as registration does, and tell what is wrong
    Doctor(Box<doctor::DoctorArgs>),
    /// Put into a cluster what a member needs, with an admin's kubeconfig that is used once
    Install(install::InstallArgs),
    /// Keep new workspaces away from clusters; existing ones go on
    Cordon {
        /// The clusters' names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<ClusterName>,
    },
    /// Let new workspaces into clusters again
    Uncordon {
        /// The clusters' names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<ClusterName>,
    },
    /// Keep starts away and leave existing workspaces alone for a time
    #[command(subcommand)]
    Maintenance(maintenance::Switch),
    /// Empty a cluster of workspaces without losing content
    Drain(Box<drain::DrainArgs>),
    /// Show how a cluster and the records of it differ
    Diff(diff::DiffArgs),
    /// Take over workspaces that have no record
    Adopt(adopt::AdoptArgs),
    /// Delete resources of ours that have no record
    Discard(adopt::DiscardArgs),
    /// Tell where starts would be placed now, and why not elsewhere
    Explain(Box<explain::ExplainArgs>),
    /// Take a cluster out
    Deregister {
        /// The cluster's name
        name: ClusterName,
        /// Also while workspaces are placed there
        #[arg(long)]
        force: bool,
    },
    /// Give up the workspaces recorded under the name of a cluster that does not return
    Forget(forget::ForgetArgs),
    /// Tell which replica of the manager leads
    Leader,
    /// Incarnations of Spaceport's etcd
    #[command(subcommand)]
    Incarnation(incarnation::Verb),
}

#[derive(Debug, Args)]
struct RegisterArgs {
    /// Cluster file, YAML or JSON; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Kubeconfig file to take instead of the one that the cluster file names
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Secret of the manager's own cluster that holds the kubeconfig, instead of a file; the key is `kubeconfig` where
    /// none is named
    #[arg(long, value_name = "NAMESPACE/NAME[:KEY]", conflicts_with_all = ["kubeconfig", "install"])]
    kubeconfig_secret: Option<SecretRef>,
    /// Name to register the cluster under instead of the one in the cluster file
    #[arg(long)]
    name: Option<ClusterName>,
    /// Put there first what a member needs; the kubeconfig is an admin's then, used once and kept nowhere
    #[arg(long)]
    install: bool,
}

/// Runs a verb.
pub async fn run(args: ClusterArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let ClusterArgs { client: connection, verb } = args;
    // What is wrong with a file is said before any server is asked.
    match &verb {
        Verb::Register(args) => {
            let requests = read(args)?;
            let client = Client::connect(&connection).await?;
            let requests =
                if args.install { install::before(&client, requests, terminal).await? } else { requests };
            return register(&client, &connection, requests, terminal).await;
        }
        Verb::Update(args) => return update::run(args, &connection, terminal).await,
        Verb::Doctor(args) => return doctor::run(args, &connection, terminal).await,
        Verb::Install(args) => return install::run(args, &connection, terminal).await,
        _ => {}
    }
    let client = Client::connect(&connection).await?;
    match verb {
        Verb::Register(_) | Verb::Update(_) | Verb::Doctor(_) | Verb::Install(_) => Ok(()),
        Verb::List { watch: true } => watch::run(&client, &connection, terminal).await,
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
        Verb::Cordon { names } => set_intent(&client, &connection, names, true, terminal).await,
        Verb::Uncordon { names } => set_intent(&client, &connection, names, false, terminal).await,
        Verb::Maintenance(switch) => maintenance::run(&client, &connection, switch, terminal).await,
        Verb::Drain(args) => drain::run(&client, &connection, *args, terminal).await,
        Verb::Adopt(args) => adopt::adopt(&client, &connection, args, terminal).await,
        Verb::Discard(args) => adopt::discard(&client, &connection, args, terminal).await,
        Verb::Diff(args) => diff::run(&client, &connection, args, terminal).await,
        Verb::Explain(args) => explain::run(&client, &connection, *args, terminal).await,
        Verb::Deregister { name, force } => {
            let request = DeregisterRequest { name: name.to_string(), force };
            let mut api = client.clusters();
            let answer = client.call(request, async |request| api.deregister(request).await).await;
            answer.with_context(|| format!("failed to deregister {name}"))?;
            terminal.progress(&format!("deregistered {name}\n"));
            Ok(())
        }
        Verb::Forget(args) => forget::run(&client, &connection, args, terminal).await,
        Verb::Incarnation(verb) => incarnation::run(&client, &connection, verb, terminal).await,
        Verb::Leader => {
            let mut api = client.clusters();
            let leader = client.call(LeaderRequest {}, async |request| api.leader(request).await).await?;
            let leader = LeaderView::from(leader);
            terminal.result(connection.output, &leader, || leader.details())
        }
    }
}

fn read(args: &RegisterArgs) -> Result<Vec<RegisterRequest>> {
    let documents = file::read(&args.file)?;
    let login = file::Login::of(args.kubeconfig.as_deref(), args.kubeconfig_secret.as_ref());
    if documents.len() > 1 && (args.name.is_some() || login.is_some()) {
        let text = "--name, --kubeconfig and --kubeconfig-secret are for a file with one cluster".to_owned();
        return Err(Usage(text).into());
    }
    file::requests(documents, &args.file, args.name.as_ref(), login)
}

async fn register(
    client: &Client,
    connection: &ClientArgs,
    requests: Vec<RegisterRequest>,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut registered = Vec::new();
    for request in requests {
        let name = request.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
        let mut api = client.clusters();
        let answer = client.call(request, async |request| api.register(request).await).await;
        let answer = answer.with_context(|| format!("failed to register {name}"))?;
        terminal.progress(&format!("registered {name}\n"));
        registered.extend(answer.cluster.map(ClusterView::from));
    }
    terminal.result(connection.output, &registered, || ClusterView::table(&registered, Timestamp::now()))
}

async fn list(client: &Client) -> Result<Vec<ClusterView>> {
    let mut api = client.clusters();
    let answer = client.call(ListRequest {}, async |request| api.list(request).await).await?;
    Ok(answer.clusters.into_iter().map(ClusterView::from).collect())
}

/// Cordons or uncordons one after the other; the first refusal ends it.
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
