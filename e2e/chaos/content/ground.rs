//! What the users of a run share: two clusters with a real node each, an agent on each node, its way to one S3 server, a git
//! server, and a manager.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use proto::wsman::workspace_manager_client::WorkspaceManagerClient;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::ledger::Ledger;
use crate::harness::real_node::manager_settings;
use crate::harness::spaceport::{Installation, NAMESPACE, Replica, SECRETS_NAMESPACE, get, prepare_member};
use crate::harness::{
    AgentOptions, Cluster, Fleet, FleetOptions, GitServer, RealAgent, S3Options, S3Proxy, S3Server, until,
};

/// Name and region of the clusters.
pub const CLUSTERS: [(&str, &str); 2] = [("metal-1", "metal"), ("forge-1", "forge")];
pub const BUCKET: &str = "content";
/// Repository that some workspaces begin with.
pub const REPOSITORY: &str = "project";
/// Login of the git server.
pub const LOGIN: (&str, &str) = ("jane", "planted-p4ssw0rd");
const HOST_PATH: &str = "/var/gitpod/workspaces-mk2";
/// Kills of an agent during one step of a workspace. With the fifth, an agent takes the operation for what kills it.
const KILLS_MAX: u32 = 4;
/// Timeout of one step on a busy machine.
pub const SOON: Duration = Duration::from_mins(2);

/// A cluster with its node, its agent, and the agent's way to the store.
pub struct Site {
    pub cluster: Arc<Cluster>,
    pub agent: RealAgent,
    pub store: S3Proxy,
    /// Until when its store served less than it has; in the future while it does.
    pub lied: Mutex<Option<Instant>>,
}

/// What a user does with a workspace at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    Starting,
    Running,
    TakingSnapshot,
    Stopping,
}

/// An instance that a user has.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    pub site: usize,
    pub doing: Doing,
    /// Kills of its node's agent since it does that.
    pub kills: u32,
}

/// Dropping it ends everything: programs before the machines that they run on.
pub struct Ground {
    pub sites: Vec<Site>,
    pub git: GitServer,
    pub server: S3Server,
    pub client: WorkspaceManagerClient<Channel>,
    pub live: Mutex<BTreeMap<String, Live>>,
    /// Instances that were ended without a backup.
    pub aborted: Mutex<BTreeSet<String>>,
    pub ledger: Mutex<Ledger>,
    _manager: Replica,
    installation: Installation,
    fleet: Fleet,
}

impl Ground {
    pub async fn boot() -> Result<Self> {
        let fleet = Fleet::boot(FleetOptions::of_real_nodes(&CLUSTERS)).await?;
        let dir = fleet.dir().join("content");
        let mut installation = Installation::new(fleet.assets(), &dir, fleet.etcd())?;
        installation.overrides = manager_settings();
        let manager = installation.start("manager-0").await?;
        let server = S3Server::start(fleet.assets(), &dir.join("s3"), S3Options::default()).await?;
        server.create_bucket(BUCKET)?;
        let here = fleet.clusters().first().context("no cluster")?.real_node()?.host_address();
        let git = GitServer::start(here, Some(LOGIN)).await?;
        git.create(REPOSITORY).await?;
        git.commit(REPOSITORY, "main", &[("README.md", "hello\n"), ("src/main.go", "package main\n")])
            .await?;
        let mut sites = Vec::new();
        for cluster in fleet.clusters() {
            let kubeconfig = prepare_member(cluster).await?;
            let store = S3Proxy::at(here, &server.address()).await?;
            let content = server.content_settings(&dir, &store, BUCKET)?;
            let agent = RealAgent::install(
                cluster,
                &dir.join(format!("agent-{}", cluster.name())),
                agent_options(content),
            )
            .await?;
            agent.start().await?;
            let file = installation.cluster_file(cluster.name(), cluster.region(), &kubeconfig)?;
            let done = installation
                .cli(&[&manager], &["cluster", "register", "-f", &file.to_string_lossy()])
                .await?;
            ensure!(done.code == 0, "cannot register {}: {}", cluster.name(), done.stderr);
            sites.push(Site { cluster: Arc::clone(cluster), agent, store, lied: Mutex::default() });
        }
        available(&manager).await?;
        let client = installation.workspaces(&manager).await?;
        let (live, aborted, ledger) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self { sites, git, server, client, live, aborted, ledger, _manager: manager, installation, fleet })
    }

    pub fn site(&self, at: usize) -> Result<&Site> {
        self.sites.get(at).context("no such cluster")
    }

    /// Index of a cluster.
    pub fn site_of(&self, cluster: &str) -> Result<usize> {
        self.sites.iter().position(|site| site.cluster.name() == cluster).context("no such cluster")
    }

    /// Notes what a user does with an instance; `None`: it is over.
    pub fn note(&self, instance: &str, doing: Option<(usize, Doing)>) {
        let mut live = self.live.lock();
        match doing {
            Some((site, doing)) => live.insert(instance.to_owned(), Live { site, doing, kills: 0 }),
            None => live.remove(instance),
        };
    }

    /// Counts a kill of an agent for all instances of its site. `false`, and nothing is counted: one of them had all that its
    /// agent takes before it gives up an operation.
    pub fn may_kill_agent(&self, site: usize) -> bool {
        let mut live = self.live.lock();
        let here = || live.values().filter(|live| live.site == site);
        if here().any(|live| live.kills >= KILLS_MAX) {
            return false;
        }
        live.values_mut().filter(|live| live.site == site).for_each(|live| live.kills += 1);
        true
    }

    /// Copies the logs of manager, agents and store into a folder that stays.
    pub fn keep_logs(&self, to: &std::path::Path) -> Result<PathBuf> {
        std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        let mut logs = vec![
            ("manager.log".to_owned(), self.installation.dir().join("manager-0.log")),
            ("store.log".to_owned(), self.installation.dir().join("s3/log")),
        ];
        for site in &self.sites {
            let (name, dir) = (site.cluster.name(), site.cluster.real_node()?.dir());
            logs.push((format!("agent-{name}.log"), site.agent.log()));
            logs.extend(
                ["kubelet", "containerd"]
                    .map(|part| (format!("{part}-{name}.log"), dir.join(format!("{part}.log")))),
            );
        }
        for (name, log) in logs {
            // A program that never ran has none.
            let _ = std::fs::copy(log, to.join(name));
        }
        Ok(to.to_path_buf())
    }

    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }
}

/// With short delays between attempts, so that a run has many of them.
fn agent_options(content: Value) -> AgentOptions {
    AgentOptions {
        namespace: NAMESPACE.to_owned(),
        secrets_namespace: SECRETS_NAMESPACE.to_owned(),
        host_path: HOST_PATH.to_owned(),
        content,
        overrides: json!({ "node": {
            "housekeeping": { "interval": "2s" },
            "backupRetry": { "first": "300ms", "most": "2s" },
        } }),
    }
}

async fn available(manager: &Replica) -> Result<()> {
    until(SOON, "the clusters to be available", async || {
        let metrics = get(&format!("{}/metrics", manager.health)).await?;
        for (name, _) in CLUSTERS {
            let gauge = format!("spaceport_cluster_health{{cluster=\"{name}\",health=\"Available\"}} 1");
            ensure!(metrics.contains(&gauge), "{name} is not");
            let gauge = format!("spaceport_cluster_condition{{cluster=\"{name}\",condition=\"Synced\"}} 1");
            ensure!(metrics.contains(&gauge), "{name} is not synced");
        }
        Ok(())
    })
    .await
}
