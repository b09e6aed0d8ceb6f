//! The node agents of two simulated nodes, and workspaces whose status is written as controller and kubelet write it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use e2e::harness::spaceport::{NAMESPACE, SECRETS_NAMESPACE, prepare_namespaces};
use e2e::harness::{Cluster, Launch, Process, until};
use http::Request;
use k8s::resources::crds;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use prost::Message as _;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{EmptyInitializer, FromBackupInitializer, WorkspaceInitializer};
use serde_json::{Value, json};

use super::Took;
use super::memory::Watch;
use super::peers::sh;

const WORKSPACES: &str = "/apis/workspace.gitpod.io/v1/namespaces/workspaces/workspaces";
/// The longest operation: a million files.
const LONG: Duration = Duration::from_mins(15);
const GRACE: Duration = Duration::from_secs(30);
const MERGE: &str = "application/merge-patch+json";

/// Two agents with one store.
pub struct Product {
    client: Client,
    agents: Vec<Agent>,
    store: PathBuf,
}

struct Agent {
    node: String,
    process: Process,
    root: PathBuf,
}

impl Product {
    /// Starts it in a folder.
    pub async fn start(cluster: &Arc<Cluster>, work: &Path, program: &Path) -> Result<Self> {
        let client = cluster.client();
        for crd in crds() {
            cluster.apply_yaml(&serde_json::to_string(&crd)?).await?;
        }
        prepare_namespaces(cluster, NAMESPACE, SECRETS_NAMESPACE).await?;
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
        let (mut agents, store) = (Vec::new(), work.join("store"));
        for node in nodes.iter().take(2) {
            agents.push(Agent::start(cluster, &node.name_any(), work, &store, program).await?);
        }
        ensure!(agents.len() == 2, "fewer than two nodes");
        Ok(Self { client, agents, store })
    }

    /// Ends the agents.
    pub async fn stop(self) -> Result<()> {
        for agent in self.agents {
            agent.process.stop(GRACE).await?;
        }
        Ok(())
    }

    /// The folder of an instance.
    pub fn folder(&self, agent: usize, instance: &str) -> PathBuf {
        self.agents.get(agent).map(|agent| agent.root.join(instance)).unwrap_or_default()
    }

    fn agent(&self, at: usize) -> Result<&Agent> {
        self.agents.get(at).context("no such agent")
    }

    /// Starts a workspace on the node of an agent, empty or from its last backup, and waits until its content is ready.
    pub async fn begin(&self, at: usize, instance: &str, meta: &str, from_backup: bool) -> Result<Took> {
        let agent = self.agent(at)?;
        let spec = if from_backup {
            Spec::Backup(FromBackupInitializer::default())
        } else {
            Spec::Empty(EmptyInitializer {})
        };
        let initializer = WorkspaceInitializer { spec: Some(spec) }.encode_to_vec();
        let workspace = json!({
            "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "metadata": { "name": instance },
            "spec": {
                "ownership": { "owner": "joe", "workspaceID": meta }, "type": "Regular", "class": "c",
                "image": { "workspace": { "ref": "image" }, "ide": { "web": "", "supervisor": "" } },
                "initializer": base64::engine::general_purpose::STANDARD.encode(initializer),
                "workspaceLocation": "", "admission": { "level": "Owner" }, "ports": [],
            },
        });
        self.send(Request::post(WORKSPACES), "application/json", &workspace).await?;
        let watch = Watch::over_idle(agent.process.pid())?;
        let status = json!({ "podStarts": 1, "phase": "Creating", "runtime": { "nodeName": agent.node } });
        self.status(instance, &status).await?;
        self.wait(instance, "ContentReady").await?;
        let synced = sh("sync -f \"$0\"", &[&agent.root], &[])?;
        let memory = watch.end()?;
        // A restart on the same node writes nothing but names.
        Ok(Took { seconds: agent.seconds(instance, "initialize")? + synced.seconds, memory })
    }

    /// Stops a workspace, and waits until it is backed up and nothing is left to delete.
    pub async fn end(&self, at: usize, instance: &str) -> Result<Took> {
        let agent = self.agent(at)?;
        let watch = Watch::over_idle(agent.process.pid())?;
        self.stopping(instance, &[]).await?;
        self.wait(instance, "BackupComplete").await?;
        let memory = watch.end()?;
        let seconds = agent.seconds(instance, "backup")?;
        self.delete(agent, instance).await?;
        Ok(Took { seconds, memory })
    }

    /// Ends a workspace without a backup.
    pub async fn abort(&self, at: usize, instance: &str) -> Result<()> {
        let agent = self.agent(at)?;
        self.stopping(instance, &["Aborted"]).await?;
        until(LONG, "the folder to be gone", async || {
            ensure!(!agent.root.join(instance).exists(), "it is there");
            Ok(())
        })
        .await?;
        self.delete(agent, instance).await
    }

    /// Deletes what is stored of a workspace, and what its node kept.
    pub async fn forget(&self, meta: &str) -> Result<()> {
        let mut folders = vec![self.store.clone()];
        folders.extend(self.agents.iter().map(|agent| agent.root.join(".spaceport/kept/joe").join(meta)));
        for folder in folders {
            if folder.exists() {
                tokio::fs::remove_dir_all(&folder).await?;
                tokio::fs::create_dir_all(&folder).await?;
            }
        }
        Ok(())
    }

    /// Deletes the resource, and waits until the agent's trash is empty: no later step pays for it.
    async fn delete(&self, agent: &Agent, instance: &str) -> Result<()> {
        let request = Request::delete(format!("{WORKSPACES}/{instance}")).body(Vec::new())?;
        self.client.request::<Value>(request).await?;
        until(LONG, "the trash to be empty", async || {
            let left = fs::read_dir(agent.root.join(".spaceport/trash"))?.count();
            ensure!(left == 0, "{left} entries are left");
            Ok(())
        })
        .await
    }

    async fn stopping(&self, instance: &str, others: &[&str]) -> Result<()> {
        let mut conditions = self.conditions(instance).await?;
        let condition = |kind: &str, status: &str| {
            json!({ "type": kind, "status": status, "reason": "Benchmark", "message": "",
                "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string() })
        };
        conditions.push(condition("WorkspaceContainerRunning", "False"));
        conditions.extend(others.iter().map(|kind| condition(kind, "True")));
        self.status(instance, &json!({ "phase": "Stopping", "conditions": conditions })).await
    }

    async fn status(&self, instance: &str, status: &Value) -> Result<()> {
        let request = Request::patch(format!("{WORKSPACES}/{instance}/status"));
        self.send(request, MERGE, &json!({ "status": status })).await
    }

    async fn conditions(&self, instance: &str) -> Result<Vec<Value>> {
        let request = Request::get(format!("{WORKSPACES}/{instance}")).body(Vec::new())?;
        let workspace: Value = self.client.request(request).await?;
        Ok(workspace["status"]["conditions"].as_array().cloned().unwrap_or_default())
    }

    async fn wait(&self, instance: &str, kind: &str) -> Result<()> {
        until(LONG, kind, async || {
            let conditions = self.conditions(instance).await?;
            ensure!(
                conditions.iter().any(|one| one["type"] == kind && one["status"] == "True"),
                "{instance}: {conditions:?}"
            );
            Ok(())
        })
        .await
    }

    async fn send(&self, request: http::request::Builder, kind: &str, body: &Value) -> Result<()> {
        let request = request.header(http::header::CONTENT_TYPE, kind).body(serde_json::to_vec(body)?)?;
        self.client.request::<Value>(request).await.with_context(|| format!("write {body}")).map(drop)
    }
}

impl Agent {
    async fn start(cluster: &Cluster, node: &str, work: &Path, store: &Path, program: &Path) -> Result<Self> {
        let folder = work.join(format!("agent-{node}"));
        let root = folder.join("workspaces");
        fs::create_dir_all(&root)?;
        let file = folder.join("node.json");
        let configuration = json!({
            "node": {
                "name": node,
                "namespaces": [{ "namespace": NAMESPACE, "secretsNamespace": SECRETS_NAMESPACE }],
                "workspaceHostPath": root, "kubeconfig": cluster.kubeconfig(), "diskGuard": { "minFree": "0" },
            },
            "content": { "storage": { "kind": "local", "local": { "path": store } } },
            "health": { "addr": "127.0.0.1:0" }, "prometheus": { "addr": "" },
        });
        fs::write(&file, configuration.to_string())?;
        let config = file.display().to_string();
        let log = folder.join("agent.log");
        let launch = Launch::new(&format!("agent of {node}"), program, ["node", "--config", &config], &log);
        let process = Process::start(cluster.assets(), &launch).await?;
        Ok(Self { node: node.to_owned(), process, root })
    }

    /// How long the last operation of an instance took, as its log says.
    fn seconds(&self, instance: &str, kind: &str) -> Result<f64> {
        let log = fs::read_to_string(self.process.log())?;
        let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in lines {
            let fields = if line["fields"].is_object() { &line["fields"] } else { &line };
            if fields["message"] == "an operation is done"
                && fields["instance"] == instance
                && fields["kind"] == kind
            {
                return fields["seconds"].as_f64().context("no seconds");
            }
        }
        bail!("the agent of {} logged no {kind} of {instance}: {}", self.node, self.process.log_tail())
    }
}
