//! What a run uses: clusters, managers, a client of each, and bare pods.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};
use proto::wsman::workspace_manager_client::WorkspaceManagerClient;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::transport::{Channel, Endpoint};

use super::{
    follow::{follow_pods, follow_workspaces},
    tracker::Tracker,
    usage::{Meter, Spent},
};
use e2e::harness::{
    Audit, Cluster, Fleet, FleetOptions, Launch, NodeAgent, Part, Process,
    assets::target_dir,
    etcd::EtcdOptions,
    node_agent::Pace,
    process::{free_port, with_free_ports},
    spaceport::{Installation, NAMESPACE, Replica, get, prepare_member, run},
};

/// Namespace of the bare pods.
pub const FLOOR: &str = "floor";
const READY: Duration = Duration::from_mins(1);
const GRACE: Duration = Duration::from_secs(30);

/// A client of the workspace API.
pub type Client = WorkspaceManagerClient<Channel>;

/// Conditions of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Conditions {
    /// One manager, plaintext on loopback, etcd without TLS and fsync, no fence.
    Floor,
    /// Spaceport's defaults: TLS, fence, etcd with fsync, a standby.
    Defaults,
}

/// Build profile of the manager under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Quick to build, slow to run.
    Dev,
    /// As it ships.
    Release,
}

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub clusters: usize,
    pub conditions: Conditions,
    /// Build of the managers.
    pub profile: Profile,
    /// Whether a cluster that responds again is available after 2 s, instead of at least 30 s.
    pub takes_back_at_once: bool,
}

/// The running parts of a benchmark.
pub struct Stage {
    /// The workspace API of each manager; the first one leads.
    pub clients: Vec<Client>,
    pub replicas: Vec<Replica>,
    /// The clusters' programs and Spaceport's etcd.
    pub fleet: Fleet,
    /// Workspaces, from the first manager's stream.
    pub workspaces: Arc<Tracker>,
    /// Bare pods, from the clusters' watches.
    pub pods: Arc<Tracker>,
    installation: Installation,
    setup: Setup,
    tasks: Vec<JoinHandle<()>>,
    agents: Vec<NodeAgent>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Stage {
    /// Boots everything.
    pub async fn boot(setup: Setup) -> Result<Self> {
        let conditions = setup.conditions;
        let mut options = FleetOptions::of(setup.clusters).audited(Audit::Requests);
        options.etcd = match conditions {
            Conditions::Floor => EtcdOptions::default(),
            Conditions::Defaults => EtcdOptions { fsync: true, ..options.etcd },
        };
        let fleet = Fleet::boot(options).await?;
        let dir = fleet.dir().join("spaceport");
        let installation = Installation::new(fleet.assets(), &dir, fleet.etcd())?;
        let mut stage = Self {
            clients: Vec::new(),
            replicas: Vec::new(),
            workspaces: Tracker::new(),
            pods: Tracker::new(),
            installation,
            setup,
            tasks: Vec::new(),
            agents: Vec::new(),
            fleet,
        };
        stage.add_manager("manager").await?;
        if conditions == Conditions::Defaults {
            stage.add_manager("standby").await?;
        }
        for cluster in stage.fleet.clusters().to_vec() {
            let fenced = prepare_member(&cluster).await?;
            // Without the fence the login needs all rights itself.
            let fence_off = conditions == Conditions::Floor;
            let kubeconfig = if fence_off { cluster.kubeconfig() } else { fenced };
            stage.register(&cluster, &kubeconfig, fence_off).await?;
            stage.agents.push(NodeAgent::start(&cluster.client(), Pace::default()));
        }
        let follow = follow_workspaces(stage.client(), Arc::clone(&stage.workspaces));
        stage.tasks.push(tokio::spawn(follow));
        for cluster in stage.fleet.clusters() {
            cluster.prepare_namespace(FLOOR).await?;
            let follow = follow_pods(cluster.client(), Arc::clone(&stage.pods));
            stage.tasks.push(tokio::spawn(follow));
        }
        Ok(stage)
    }

    /// A client of the leading manager.
    pub fn client(&self) -> Client {
        self.clients[0].clone()
    }

    /// Another connection to the leading manager.
    pub async fn channel(&self) -> Result<Channel> {
        connect(&self.installation, &self.replicas[0], self.setup.conditions).await
    }

    pub fn cluster(&self, number: usize) -> Result<&Arc<Cluster>> {
        self.fleet.clusters().get(number).context("no such cluster")
    }

    /// The end of the manager's log.
    pub fn log(&self) -> String {
        self.replicas.first().map(|replica| replica.process.log_tail()).unwrap_or_default()
    }

    /// Metrics of the leading manager.
    pub async fn metrics(&self) -> Result<String> {
        get(&format!("{}/metrics", self.replicas[0].health)).await
    }

    /// Whether the manager's metrics report this health of a cluster.
    pub async fn is(&self, cluster: &str, health: &str) -> Result<bool> {
        let gauge = format!("spaceport_cluster_health{{cluster=\"{cluster}\",health=\"{health}\"}} 1");
        Ok(self.metrics().await?.contains(&gauge))
    }

    /// Begins to measure all processes.
    pub fn meter(&self) -> Result<Meter> {
        let logs = self.fleet.clusters().iter().filter_map(|cluster| cluster.audit_log());
        Meter::begin(&self.processes(), logs.collect())
    }

    /// Usage since then, without requests on objects whose name has `but`.
    pub fn spent(&self, meter: &Meter, but: Option<&str>) -> Result<Spent> {
        meter.end(&self.processes(), but)
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let parts = [
            (Part::Etcd, "etcd of members"),
            (Part::ApiServer, "apiserver"),
            (Part::Scheduler, "scheduler"),
            (Part::ControllerManager, "controller-manager"),
            (Part::Kwok, "kwok"),
        ];
        let mut all = vec![("bench and stand-in".to_owned(), std::process::id())];
        let running = self.replicas.iter().enumerate().filter(|(_, replica)| replica.process.is_running());
        for (at, replica) in running {
            let name = if at == 0 { "manager" } else { "standby" };
            all.push((name.to_owned(), replica.process.pid()));
        }
        all.extend(self.fleet.etcd().process().map(|it| ("etcd of Spaceport".to_owned(), it.pid())));
        for cluster in self.fleet.clusters() {
            let of = |(part, name): (Part, &str)| Some((name.to_owned(), cluster.process(part)?.pid()));
            all.extend(parts.into_iter().filter_map(of));
        }
        all
    }

    /// Starts another manager and waits until it is ready.
    pub async fn add_manager(&mut self, name: &str) -> Result<()> {
        let replica = with_free_ports(async || {
            let (rpc, health) = (free_port()?, free_port()?);
            let mut over = json!({ "federation": {} });
            if self.setup.takes_back_at_once {
                over["federation"]["health"] = json!({ "recoverAfter": "2s", "holdDownMax": "2s" });
            }
            let mut scheme = "https";
            if self.setup.conditions == Conditions::Floor {
                scheme = "http";
                over["rpcServer"] = json!({ "plaintext": true, "tls": null });
                over["federation"]["peerTls"] = Value::Null;
                over["federation"]["advertiseAddr"] = json!(format!("http://127.0.0.1:{rpc}"));
            }
            self.installation.overrides = over;
            self.installation.write_config(name, rpc, health)?;
            let process = self.process(name).await?;
            let replica = Replica {
                name: name.to_owned(),
                endpoint: format!("{scheme}://127.0.0.1:{rpc}"),
                health: format!("http://127.0.0.1:{health}"),
                process,
            };
            ready(&replica).await?;
            Ok(replica)
        })
        .await?;
        let channel = connect(&self.installation, &replica, self.setup.conditions).await?;
        self.clients.push(Client::new(channel).max_decoding_message_size(usize::MAX));
        self.replicas.push(replica);
        Ok(())
    }

    /// Restarts a manager at the same addresses; it need not be ready yet.
    pub async fn start_again(&mut self, number: usize) -> Result<()> {
        let process = self.process(&self.replicas[number].name).await?;
        self.replicas[number].process = process;
        Ok(())
    }

    /// Waits until a manager is ready.
    pub async fn ready(&self, number: usize) -> Result<()> {
        ready(&self.replicas[number]).await
    }

    /// Ends a manager cleanly.
    pub async fn stop(&self, number: usize) -> Result<()> {
        self.replicas[number].process.stop(GRACE).await.map(drop)
    }

    /// Swaps the managers, so that the second, which leads, is the first.
    pub fn swap(&mut self) {
        self.replicas.swap(0, 1);
        self.clients.swap(0, 1);
    }

    async fn process(&self, name: &str) -> Result<Process> {
        let dir = self.installation.dir();
        let (config, log) = (dir.join(format!("{name}.json")), dir.join(format!("{name}.log")));
        let args = ["manager", "--config", &config.to_string_lossy(), "--json-log=false"];
        Process::start(self.fleet.assets(), &Launch::new(name, &program(self.setup.profile)?, args, &log))
            .await
    }

    async fn register(&self, cluster: &Cluster, kubeconfig: &Path, fence_off: bool) -> Result<()> {
        let file = self.installation.cluster_file(cluster.name(), cluster.region(), kubeconfig)?;
        if fence_off {
            let mut text: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
            text["fence"] = json!("off");
            fs::write(&file, text.to_string())?;
        }
        let mut command = tokio::process::Command::new(program(self.setup.profile)?);
        command.args(["cluster", "register", "-f"]).arg(file).kill_on_drop(true);
        let replica = &self.replicas[0];
        match self.setup.conditions {
            Conditions::Floor => command.env("SPACEPORT_ENDPOINT", &replica.endpoint),
            Conditions::Defaults => command.envs(self.installation.cli_env(&[replica])),
        };
        let output = run(command).await?;
        ensure!(output.code == 0, "cannot register {}: {}", cluster.name(), output.stderr);
        let give_up = Instant::now() + READY;
        while !self.is(cluster.name(), "Available").await? {
            ensure!(Instant::now() < give_up, "{} does not become available", cluster.name());
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// A bare pod with the requests of the workspace's pod `like`: same containers, labels and annotations, but no
    /// finalizer, and none of the labels by which the manager selects its pods.
    pub async fn pod_like(&self, like: &str) -> Result<Value> {
        let pods: Api<Pod> = Api::namespaced(self.cluster(0)?.client(), NAMESPACE);
        let pod = pods.get(like).await.with_context(|| format!("no pod {like}"))?;
        let mut labels: BTreeMap<String, String> = pod.labels().clone();
        labels.retain(|key, _| !key.starts_with("gitpod.io/managed-by"));
        let mut spec = serde_json::to_value(&pod.spec)?;
        spec["nodeName"] = Value::Null;
        Ok(json!({ "metadata": { "labels": labels, "annotations": pod.annotations() }, "spec": spec }))
    }
}

async fn ready(replica: &Replica) -> Result<()> {
    let url = format!("{}/readyz", replica.health);
    replica.process.ready(READY, async || get(&url).await.map(drop)).await
}

/// The program under test.
pub fn program(profile: Profile) -> Result<PathBuf> {
    let (folder, flag) = match profile {
        Profile::Dev => ("debug", ""),
        Profile::Release => ("release", " --release"),
    };
    let path = target_dir()?.join(folder).join("spaceport");
    ensure!(path.is_file(), "{} is not there: cargo build{flag} --bin spaceport", path.display());
    Ok(path)
}

async fn connect(installation: &Installation, replica: &Replica, conditions: Conditions) -> Result<Channel> {
    match conditions {
        Conditions::Defaults => installation.client_channel(replica).await,
        Conditions::Floor => {
            let endpoint = Endpoint::from_shared(replica.endpoint.clone())?;
            endpoint.connect().await.context("cannot connect to the manager")
        }
    }
}
