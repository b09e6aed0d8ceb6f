//! One Kubernetes cluster: etcd, apiserver, scheduler, controller-manager, and simulated nodes.

mod backup;
mod parts;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions::is_pod_running, wait::await_condition},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::timeout;

use super::{
    apply,
    assets::Assets,
    control_plane::{Audit, Layout, kubeconfig, stage_files},
    etcd::{Etcd, EtcdOptions},
    nodes::{self, NodeSize},
    pki::{self, Authority},
    process::{Launch, Process, Signal, free_port, fresh_dir, with_free_ports},
    real_node::{Member, NodePart, RealNode, RealNodeOptions, Subnet},
    spaceport::{self, Output},
};

pub use backup::{Versions, Writers};
pub use parts::Part;
use parts::{AROUND, start_apiserver};

const CLUSTER_READY: Duration = Duration::from_mins(2);
/// User agent of the harness's own clients.
pub const USER_AGENT: &str = "spaceport-e2e";

/// Options of a cluster to boot.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub name: String,
    /// Its region, for registration only.
    pub region: String,
    /// Number of simulated nodes.
    pub nodes: usize,
    /// Capacity of each node.
    pub node_size: NodeSize,
    /// Content of the apiserver's audit log, see [`Cluster::audit_log`].
    pub audit: Audit,
    /// How long the apiserver keeps serving, not ready, after it is asked to end.
    pub shutdown_delay: Duration,
    /// A real node `<name>-real` beside the simulated ones. Needs root ([`real_node::available`]).
    pub real_node: Option<RealNodeOptions>,
}

impl ClusterOptions {
    /// A cluster of three nodes with practically unlimited capacity. The region is the name without its number.
    pub fn named(name: &str) -> Self {
        let region = name.rsplit_once('-').map_or(name, |(region, _)| region).to_owned();
        Self {
            name: name.to_owned(),
            region,
            nodes: 3,
            node_size: NodeSize::default(),
            audit: Audit::Off,
            shutdown_delay: Duration::ZERO,
            real_node: None,
        }
    }
}

/// A running cluster. Dropping it kills its programs.
pub struct Cluster {
    options: ClusterOptions,
    assets: Arc<Assets>,
    layout: Layout,
    authority: Authority,
    client: Client,
    real_node: Option<RealNode>,
    running: Mutex<Vec<(Part, Arc<Process>)>>,
    etcd: Etcd,
}

impl Cluster {
    /// Boots a cluster with its files in `dir`. Returns once a pod has run on it, which needs all of its programs.
    pub async fn boot(assets: &Arc<Assets>, dir: &Path, options: ClusterOptions) -> Result<Self> {
        let name = options.name.clone();
        Box::pin(Self::boot_unnamed(assets, dir, options))
            .await
            .with_context(|| format!("cluster {name} does not boot"))
    }

    async fn boot_unnamed(assets: &Arc<Assets>, dir: &Path, options: ClusterOptions) -> Result<Self> {
        fresh_dir(dir)?;
        let etcd_name = format!("etcd-of-{}", options.name);
        let etcd = Etcd::start_new(assets, &dir.join("etcd"), &etcd_name, EtcdOptions::default()).await?;
        let name = options.name.clone();
        let (kubelet_port, etcd_endpoint) = (free_port()?, etcd.endpoint());
        let dir = dir.to_path_buf();
        let mut layout = Layout {
            name,
            dir,
            port: 0,
            kubelet_port,
            etcd: etcd_endpoint,
            audit: options.audit,
            shutdown_delay: options.shutdown_delay,
            real_node: options.real_node.is_some(),
        };
        let subnet = options.real_node.is_some().then(Subnet::claim).transpose()?;
        layout.write_logs().context("cannot write logs")?;
        let (authority, token) = prepare_files(&layout, subnet.as_ref())?;
        let mut booted = None;
        with_free_ports(async || {
            layout.port = free_port()?;
            let user = format!("token: {token}");
            write(
                &layout.kubeconfig(),
                &kubeconfig(&layout.name, &api_url(layout.port), authority.ca_pem(), &user),
            )?;
            let client = client_of(&layout.kubeconfig()).await?;
            let process = start_apiserver(assets, &layout, &client).await?;
            booted = Some((client, process));
            Ok(())
        })
        .await?;
        let (client, apiserver) = booted.context("the apiserver vanished")?;
        let running = Mutex::new(vec![(Part::ApiServer, apiserver)]);
        let assets = Arc::clone(assets);
        let mut cluster = Self { options, assets, layout, authority, client, real_node: None, running, etcd };
        for part in AROUND {
            cluster.start(part).await?;
        }
        cluster.add_nodes(0..cluster.options.nodes).await?;
        if let Some(subnet) = subnet {
            cluster.add_real_node(subnet).await?;
        }
        Box::pin(cluster.prove()).await?;
        Ok(cluster)
    }

    pub fn name(&self) -> &str {
        &self.options.name
    }

    pub fn region(&self) -> &str {
        &self.options.region
    }

    /// The programs, to start more processes with.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Kubeconfig file with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// URL of the apiserver.
    pub fn api(&self) -> String {
        api_url(self.layout.port)
    }

    /// Folder with its files and logs.
    pub fn dir(&self) -> &Path {
        &self.layout.dir
    }

    /// The apiserver's audit log, if [`ClusterOptions::audit`] enables it.
    pub fn audit_log(&self) -> Option<PathBuf> {
        (self.layout.audit != Audit::Off).then(|| self.layout.audit_log())
    }

    /// Log file that simulated kubelets serve for every container.
    pub fn container_log(&self) -> PathBuf {
        self.layout.container_log()
    }

    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// A certificate for a server that acts as the apiserver.
    pub fn serving(&self, name: &str) -> Result<pki::Identity> {
        self.authority.server(name)
    }

    /// CA that signed the apiserver's certificate.
    pub fn ca_pem(&self) -> &str {
        self.authority.ca_pem()
    }

    /// Creates a kubeconfig that authenticates as `user` of `groups` by client certificate, without any RBAC rights.
    pub fn user_kubeconfig(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let identity = self.authority.client(user, groups)?;
        let body = format!(
            "client-certificate: \"{}\", client-key: \"{}\"",
            identity.cert.display(),
            identity.key.display()
        );
        let path = self.layout.dir.join(format!("{}.kubeconfig", user.replace([':', '/'], "_")));
        write(&path, &kubeconfig(self.name(), &self.api(), self.authority.ca_pem(), &body))?;
        Ok(path)
    }

    /// Applies YAML of any objects; returns once new kinds are served.
    pub async fn apply_yaml(&self, text: &str) -> Result<()> {
        apply::apply_text(&self.client, text).await
    }

    /// Applies a YAML file of any objects; returns once new kinds are served.
    pub async fn apply_file(&self, path: &Path) -> Result<()> {
        apply::apply_file(&self.client, path).await
    }

    /// Creates a workspace namespace with service account `workspace`, and labels every node as serving it.
    pub async fn prepare_namespace(&self, namespace: &str) -> Result<()> {
        nodes::prepare_namespace(&self.client, namespace).await
    }

    /// Adds the nodes with these numbers (the first ones start at 0) and waits until they are ready.
    pub async fn add_nodes(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let prefix = format!("{}-node", self.name());
        nodes::create(&self.client, &prefix, numbers.clone(), &self.options.node_size).await?;
        for i in numbers {
            self.node_ready(&format!("{prefix}-{i}")).await?;
        }
        Ok(())
    }

    async fn node_ready(&self, node: &str) -> Result<()> {
        let ready = |node: Option<&Node>| node.is_some_and(nodes::is_ready);
        self.eventually(node, await_condition(Api::<Node>::all(self.client()), node, ready)).await?;
        Ok(())
    }

    async fn add_real_node(&mut self, subnet: Subnet) -> Result<()> {
        let options = self.options.real_node.clone().unwrap_or_default();
        let name = format!("{}-real", self.name());
        let dir = self.layout.dir.join(&name);
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, self.layout.port));
        let member = Member { name, dir, api, authority: &self.authority };
        let node = RealNode::start(&self.assets, member, subnet, &options).await?;
        let node = self.real_node.insert(node);
        let (name, kubelet) = (node.name().to_owned(), node.process(NodePart::Kubelet));
        let ready = self.node_ready(&name).await;
        ready.with_context(|| kubelet.map_or_else(String::new, |kubelet| kubelet.log_tail()))
    }

    /// Its real node, if [`ClusterOptions::real_node`] asks for one.
    pub fn real_node(&self) -> Result<&RealNode> {
        self.real_node.as_ref().with_context(|| format!("{} has no real node", self.name()))
    }

    /// Runs kubectl with all rights.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::new(self.assets.program("kubectl"));
        command.arg(format!("--kubeconfig={}", self.kubeconfig().display())).args(args).kill_on_drop(true);
        // Otherwise it keeps what it learnt in ~/.kube.
        command.env("KUBECACHEDIR", self.layout.dir.join("kubectl")).env("NO_PROXY", "*");
        spaceport::run(command).await
    }

    /// Runs a pod: the controller-manager creates its service account, the scheduler binds it, KWOK runs it.
    async fn prove(&self) -> Result<()> {
        let account = |found: Option<&ServiceAccount>| found.is_some();
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), "default");
        self.eventually("service account default", await_condition(accounts, "default", account)).await?;
        if self.options.nodes == 0 {
            return Ok(());
        }
        let pods = Api::<Pod>::namespaced(self.client(), "default");
        let pod = serde_json::from_value(json!({
            "metadata": { "name": "boot" },
            "spec": { "containers": [{ "name": "boot", "image": "none" }] },
        }))?;
        pods.create(&PostParams::default(), &pod).await.context("cannot create a pod")?;
        let running = Box::pin(await_condition(pods.clone(), "boot", is_pod_running()));
        self.eventually("pod boot", running).await?;
        pods.delete("boot", &DeleteParams { grace_period_seconds: Some(0), ..Default::default() }).await?;
        Ok(())
    }

    /// Awaits `change`; on a timeout the error shows the state of the cluster's programs.
    async fn eventually<T, E>(&self, what: &str, change: impl Future<Output = Result<T, E>>) -> Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        if let Ok(outcome) = timeout(CLUSTER_READY, Box::pin(change)).await {
            return outcome.with_context(|| format!("cannot watch {what}"));
        }
        let mut error = anyhow!("{what} is not ready after {CLUSTER_READY:?}");
        for (part, process) in AROUND.iter().filter_map(|part| Some((part, self.process(*part)?))) {
            let running = process.is_running();
            error = anyhow!("{error}\n{part:?} (running: {running}); {}", process.log_tail());
        }
        Err(error)
    }
}

/// A client from a kubeconfig file.
pub async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("bad {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    // Audit logs distinguish the harness from a manager with the same login by it.
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    Client::try_from(config).context("cannot make a client")
}

/// Certificates, keys and the administrator's token.
fn prepare_files(layout: &Layout, subnet: Option<&Subnet>) -> Result<(Authority, String)> {
    let authority = Authority::create(&layout.pki(), &format!("{} authority", layout.name))?;
    let addresses: Vec<String> = subnet.iter().map(|subnet| subnet.host().to_string()).collect();
    authority.server_at("apiserver", &addresses)?;
    if layout.real_node {
        authority.client("apiserver-kubelet-client", &["system:masters"])?;
        authority.server("kwok")?;
    }
    pki::key_pair(&layout.pki(), "service-accounts")?;
    let token = uuid::Uuid::new_v4().to_string();
    layout.write_audit_policy().context("cannot write the audit policy")?;
    write(&layout.tokens(), &format!("{token},admin,admin,\"system:masters\"\n"))?;
    Ok((authority, token))
}

fn api_url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
