//! What a run stands on: one cluster, a manager, a client of it, and bare pods beside.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use spaceport::proto::wsman::{
    SubscribeRequest, WorkspacePhase, workspace_manager_client::WorkspaceManagerClient,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::transport::{Channel, Endpoint};

use super::tracker::{Moment, Tracker};
use crate::harness::{
    Cluster, Fleet, FleetOptions, Launch, NodeAgent, Process,
    assets::target_dir,
    etcd::EtcdOptions,
    node_agent::Pace,
    process::{free_port, with_free_ports},
    spaceport::{Installation, Replica, get, prepare_member},
};

const CLUSTER: &str = "eu-1";
/// Namespace of the bare pods.
pub const FLOOR: &str = "floor";
const READY: Duration = Duration::from_secs(40);

/// A client of the workspace API.
pub type Client = WorkspaceManagerClient<Channel>;

/// Under what conditions is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Conditions {
    /// One manager, plaintext on loopback, etcd without TLS and fsync.
    Floor,
    /// As Spaceport is by default: TLS, etcd with fsync, a standby.
    Defaults,
}

/// How the manager under test is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Quick to build, slow to run.
    Dev,
    /// As it ships.
    Release,
}

/// What runs during a benchmark.
pub struct Stage {
    /// The workspace API of the manager.
    pub client: Client,
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Workspaces, as the manager's stream tells.
    pub workspaces: Arc<Tracker>,
    /// Bare pods, as the cluster's watch tells.
    pub pods: Arc<Tracker>,
    replicas: Vec<Replica>,
    tasks: Vec<JoinHandle<()>>,
    _agent: NodeAgent,
    _fleet: Fleet,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Stage {
    /// Boots it all.
    pub async fn boot(conditions: Conditions, profile: Profile) -> Result<Self> {
        let mut options = FleetOptions::of(1);
        options.etcd = match conditions {
            Conditions::Floor => EtcdOptions::default(),
            Conditions::Defaults => EtcdOptions { fsync: true, ..options.etcd },
        };
        let fleet = Fleet::boot(options).await?;
        let cluster = Arc::clone(fleet.cluster(CLUSTER)?);
        let kubeconfig = prepare_member(&cluster).await?;
        cluster.prepare_namespace(FLOOR).await?;
        let agent = NodeAgent::start(&cluster.client(), Pace::default());
        let dir = fleet.dir().join("spaceport");
        let mut installation = Installation::new(fleet.assets(), &dir, fleet.etcd())?;
        let names: &[&str] = match conditions {
            Conditions::Floor => &["manager"],
            Conditions::Defaults => &["manager", "standby"],
        };
        let mut replicas = Vec::new();
        for name in names {
            replicas.push(start_manager(&fleet, &mut installation, name, conditions, profile).await?);
        }
        let file = installation.cluster_file(CLUSTER, cluster.region(), &kubeconfig)?;
        let replica = replicas.first().context("no manager runs")?;
        register(&installation, replica, conditions, profile, &file).await?;
        let client = connect(&installation, replica, conditions).await?;
        let (workspaces, pods) = (Tracker::new(), Tracker::new());
        let tasks = vec![
            tokio::spawn(follow_workspaces(client.clone(), Arc::clone(&workspaces))),
            tokio::spawn(follow_pods(cluster.client(), Arc::clone(&pods))),
        ];
        Ok(Self { client, cluster, workspaces, pods, replicas, tasks, _agent: agent, _fleet: fleet })
    }

    /// The process of the leading manager.
    pub fn manager(&self) -> Result<u32> {
        Ok(self.replicas.first().context("no manager runs")?.process.pid())
    }

    /// The end of the manager's log.
    pub fn log(&self) -> String {
        self.replicas.first().map(|replica| replica.process.log_tail()).unwrap_or_default()
    }

    /// A bare pod that asks for the same as the workspace's pod `like` did: same containers, labels and annotations;
    /// no finalizer, and none of the labels by which the manager finds its own.
    pub async fn pod_like(&self, like: &str) -> Result<Value> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), crate::harness::spaceport::NAMESPACE);
        let pod = pods.get(like).await.with_context(|| format!("no pod {like}"))?;
        let mut labels: BTreeMap<String, String> = pod.labels().clone();
        labels.retain(|key, _| !key.starts_with("gitpod.io/managed-by"));
        let mut spec = serde_json::to_value(&pod.spec)?;
        spec["nodeName"] = Value::Null;
        Ok(json!({ "metadata": { "labels": labels, "annotations": pod.annotations() }, "spec": spec }))
    }
}

fn program(profile: Profile) -> Result<PathBuf> {
    let (folder, flag) = match profile {
        Profile::Dev => ("debug", ""),
        Profile::Release => ("release", " --release"),
    };
    let path = target_dir()?.join(folder).join("spaceport");
    ensure!(path.is_file(), "{} is not there: cargo build{flag} --bin spaceport", path.display());
    Ok(path)
}

async fn start_manager(
    fleet: &Fleet,
    installation: &mut Installation,
    name: &str,
    conditions: Conditions,
    profile: Profile,
) -> Result<Replica> {
    let program = program(profile)?;
    with_free_ports(async || {
        let (rpc, health) = (free_port()?, free_port()?);
        let mut scheme = "https";
        if conditions == Conditions::Floor {
            scheme = "http";
            installation.overrides = json!({
                "rpcServer": { "plaintext": true, "tls": null },
                "federation": { "peerTls": null, "advertiseAddr": format!("http://127.0.0.1:{rpc}") },
            });
        }
        let config = installation.write_config(name, rpc, health)?;
        let log = installation.dir().join(format!("{name}.log"));
        let args = ["manager", "--config", &config.to_string_lossy(), "--json-log=false"];
        let process = Process::start(fleet.assets(), &Launch::new(name, &program, args, &log)).await?;
        let health = format!("http://127.0.0.1:{health}");
        process.ready(READY, async || get(&format!("{health}/readyz")).await.map(drop)).await?;
        Ok(Replica {
            name: name.to_owned(),
            endpoint: format!("{scheme}://127.0.0.1:{rpc}"),
            health,
            process,
        })
    })
    .await
}

async fn register(
    installation: &Installation,
    replica: &Replica,
    conditions: Conditions,
    profile: Profile,
    file: &std::path::Path,
) -> Result<()> {
    let mut command = tokio::process::Command::new(program(profile)?);
    command.args(["cluster", "register", "-f"]).arg(file).kill_on_drop(true);
    match conditions {
        Conditions::Floor => command.env("SPACEPORT_ENDPOINT", &replica.endpoint),
        Conditions::Defaults => command.envs(installation.cli_env(&[replica])),
    };
    let output = crate::harness::spaceport::run(command).await?;
    ensure!(output.code == 0, "cannot register the cluster: {}", output.stderr);
    let gauge = format!("spaceport_cluster_health{{cluster=\"{CLUSTER}\",health=\"Available\"}} 1");
    let give_up = Instant::now() + READY;
    while !get(&format!("{}/metrics", replica.health)).await?.contains(&gauge) {
        ensure!(Instant::now() < give_up, "the cluster does not become available");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn connect(installation: &Installation, replica: &Replica, conditions: Conditions) -> Result<Client> {
    let client = match conditions {
        Conditions::Defaults => installation.workspaces(replica).await?,
        Conditions::Floor => {
            let endpoint = Endpoint::from_shared(replica.endpoint.clone())?;
            Client::new(endpoint.connect().await.context("cannot connect to the manager")?)
        }
    };
    Ok(client.max_decoding_message_size(usize::MAX))
}

async fn follow_workspaces(mut client: Client, tracker: Arc<Tracker>) {
    loop {
        let request = SubscribeRequest { replay: true, ..SubscribeRequest::default() };
        if let Ok(answer) = client.subscribe(request).await {
            let mut updates = answer.into_inner();
            while let Ok(Some(update)) = updates.message().await {
                let Some(status) = update.status else { continue };
                match status.phase() {
                    WorkspacePhase::Running => tracker.note(&status.id, Moment::Running),
                    WorkspacePhase::Stopped => tracker.note(&status.id, Moment::Gone),
                    _ => {}
                }
            }
        }
        eprintln!("the stream of workspaces ended; subscribing again");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn follow_pods(client: kube::Client, tracker: Arc<Tracker>) {
    let pods = Api::<Pod>::namespaced(client, FLOOR);
    let mut events = watcher::watcher(pods, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                if phase == Some("Running") {
                    tracker.note(&pod.name_any(), Moment::Running);
                }
            }
            Ok(watcher::Event::Delete(pod)) => tracker.note(&pod.name_any(), Moment::Gone),
            _ => {}
        }
    }
}
