//! The node agent, `spaceport node`, on a real node: its rights, its login, its configuration and its process.
//!
//! Its token is bound to a pod of the node, as the token of a DaemonSet's pod is, so that the apiserver knows the node of
//! each request. One agent serves one namespace, so stories that share a node do not share an agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::assets::source_dir;
use super::cluster::Cluster;
use super::process::{Launch, Process, Signal, free_port};
use super::real_node::{NO_PROXY, REGISTRY, RealNode};
use super::spaceport::{self, get, overlay, program, renamed};

const READY: Duration = Duration::from_secs(40);
const GRACE: Duration = Duration::from_secs(20);
/// Longer than any suite.
const TOKEN_SECONDS: i64 = 6 * 3600;
/// Where the manifests of `deploy/node` put it.
const NAMESPACE: &str = "spaceport-system";
const ACCOUNT: &str = "spaceport-node";

/// What an agent serves.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    pub namespace: String,
    pub secrets_namespace: String,
    /// Folder of the workspaces on the node, below /var.
    pub host_path: String,
    /// The group `content` of its configuration.
    pub content: Value,
    /// Merged into its configuration.
    pub overrides: Value,
}

/// An agent that is installed, and mostly runs. Dropping it kills it.
pub struct RealAgent {
    cluster: Arc<Cluster>,
    options: AgentOptions,
    dir: PathBuf,
    health: String,
    process: Mutex<Option<Arc<Process>>>,
}

impl RealAgent {
    /// Gives it rights and a login. Its files are in `dir`.
    pub async fn install(cluster: &Arc<Cluster>, dir: &Path, options: AgentOptions) -> Result<Self> {
        let node = cluster.real_node()?;
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let namespaces = (options.namespace.as_str(), options.secrets_namespace.as_str());
        for file in ["rbac.yaml", "policy.yaml"] {
            let path = source_dir().join("../deploy/node").join(file);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            cluster.apply_yaml(&renamed(&text, namespaces)).await?;
        }
        // The harness labels all nodes; the agent is to do this itself.
        let label = format!("gitpod.io/ws-daemon_ready_ns_{}", options.namespace);
        let patch = Patch::Merge(json!({ "metadata": { "labels": { label: null } } }));
        Api::<Node>::all(cluster.client())
            .patch(node.name(), &PatchParams::default(), &patch)
            .await
            .context("cannot remove the node's label")?;
        let token = token(cluster, node, &options.namespace).await?;
        let text = spaceport::kubeconfig(&node.api().url("https"), cluster.ca_pem(), &token)?;
        let kubeconfig = dir.join("agent.kubeconfig");
        fs::write(&kubeconfig, text).with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        let health = format!("{}:{}", node.address(), free_port()?);
        let agent = Self {
            cluster: Arc::clone(cluster),
            options,
            dir: dir.to_owned(),
            health,
            process: Mutex::default(),
        };
        agent.write_config()?;
        Ok(agent)
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> Result<()> {
        self.spawn().await?;
        let process = self.process()?;
        process.ready(READY, async || get(&format!("http://{}/readyz", self.health)).await.map(drop)).await
    }

    /// Starts it without waiting.
    pub async fn spawn(&self) -> Result<()> {
        ensure!(!self.is_running(), "it runs");
        let config = self.config().display().to_string();
        let args = ["node", "--config", &config, "--json-log=false"];
        let launch = Launch::new(&self.name(), &program()?, args, &self.log());
        let mut launch = Launch { ends_by: Signal::Kill, ..launch };
        launch.env.push((NO_PROXY.0.to_owned(), NO_PROXY.1.to_owned()));
        let launch = self.cluster.real_node()?.inside(launch);
        let process = Process::start(self.cluster.assets(), &launch).await?;
        *self.process.lock() = Some(Arc::new(process));
        Ok(())
    }

    /// Kills it, as the kernel does when memory is short.
    pub async fn kill(&self) -> Result<()> {
        self.process()?.kill().await?;
        Ok(())
    }

    /// Asks it to end; returns its exit status.
    pub async fn stop(&self) -> Result<i32> {
        self.process()?.stop(GRACE).await
    }

    pub fn is_running(&self) -> bool {
        self.process.lock().as_ref().is_some_and(|process| process.is_running())
    }

    /// Its process since the last start.
    pub fn process(&self) -> Result<Arc<Process>> {
        self.process.lock().clone().context("the agent was not started")
    }

    /// Changes its configuration for the next start.
    pub fn configure(&mut self, overrides: &Value) -> Result<()> {
        overlay(&mut self.options.overrides, overrides);
        self.write_config()
    }

    pub async fn metrics(&self) -> Result<String> {
        get(&format!("http://{}/metrics", self.health)).await
    }

    /// Folder of the workspaces, as the node has it.
    pub fn host_path(&self) -> &str {
        &self.options.host_path
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Where a folder below the workspaces' one is on this machine.
    pub fn path(&self, below: &str) -> Result<PathBuf> {
        Ok(self.cluster.real_node()?.path(&format!("{}/{below}", self.options.host_path)))
    }

    /// Log of all its runs.
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Folder of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn name(&self) -> String {
        format!("node agent of {}", self.cluster.name())
    }

    fn config(&self) -> PathBuf {
        self.dir.join("agent.json")
    }

    fn write_config(&self) -> Result<()> {
        let options = &self.options;
        let mut config = json!({
            "node": {
                "name": self.cluster.real_node()?.name(),
                "namespaces": [{
                    "namespace": options.namespace, "secretsNamespace": options.secrets_namespace,
                }],
                "workspaceHostPath": options.host_path,
                "kubeconfig": self.dir.join("agent.kubeconfig"),
                // The disk is that of the machine that runs the tests.
                "diskGuard": { "minFree": "0" },
            },
            "content": options.content,
            "health": { "addr": self.health },
            "prometheus": { "addr": self.health },
        });
        overlay(&mut config, &options.overrides);
        let text = serde_json::to_string_pretty(&config).context("cannot write the configuration")?;
        fs::write(self.config(), text).with_context(|| format!("cannot write {}", self.config().display()))
    }
}

/// A token that is bound to a pod of the node.
async fn token(cluster: &Cluster, node: &RealNode, name: &str) -> Result<String> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": format!("{ACCOUNT}-{name}"), "labels": { "app": ACCOUNT } },
        "spec": {
            "serviceAccountName": ACCOUNT, "nodeName": node.name(), "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "agent", "image": format!("{REGISTRY}/agent:1") }],
        },
    }))?;
    let pods = Api::<Pod>::namespaced(cluster.client(), NAMESPACE);
    let pod = pods.create(&PostParams::default(), &pod).await.context("cannot create the agent's pod")?;
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    };
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            bound_object_ref: Some(bound),
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let accounts = Api::<ServiceAccount>::namespaced(cluster.client(), NAMESPACE);
    let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
    let status = answer.context("no token of the agent's account")?.status;
    status.and_then(|status| status.token).context("an answer without a token")
}
