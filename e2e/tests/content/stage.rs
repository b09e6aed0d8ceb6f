//! The stage of the stories about content: two clusters with a real node each, which all of them share, and for each story
//! an S3 server, a git server, a manager, and an agent on each node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use proto::wsman::{
    MetadataFilter, StartWorkspaceRequest, SubscribeRequest, WorkspacePhase, WorkspaceStatus, WorkspaceType,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::story::{Client, SOON, Shared, Story, request, start, stop, until};
use e2e::harness::real_node::{available, manager_settings};
use e2e::harness::spaceport::{Output, prepare_member};
use e2e::harness::{
    AgentOptions, Cluster, Fleet, FleetOptions, GitServer, Listing, RealAgent, S3Options, S3Proxy, S3Request,
    S3Server, block_on,
};

/// Name and region of the clusters.
pub const CLUSTERS: [(&str, &str); 2] = [("metal-1", "metal"), ("forge-1", "forge")];
pub const BUCKET: &str = "content";
pub const OWNER: &str = "jane";
/// Class whose workspaces have a storage of 24 MiB, where the agent limits it.
pub const LIMITED: &str = "g1-limited";
/// Login of the git server.
pub const USER: &str = "jane";
pub const PASSWORD: &str = "planted-p4ssw0rd/+=";

async fn shared() -> Result<&'static Shared> {
    static SHARED: OnceLock<OnceCell<Shared>> = OnceLock::new();
    SHARED.get_or_init(OnceCell::new).get_or_try_init(boot).await
}

async fn boot() -> Result<Shared> {
    let fleet = Fleet::boot(FleetOptions::of_real_nodes(&CLUSTERS)).await?;
    let mut kubeconfigs = BTreeMap::new();
    for cluster in fleet.clusters() {
        kubeconfigs.insert(cluster.name().to_owned(), prepare_member(cluster).await?);
    }
    Ok(Shared::new(fleet, kubeconfigs, Vec::new()))
}

/// Everything of one story.
pub struct Stage {
    /// One for each of [`CLUSTERS`].
    pub agents: Vec<RealAgent>,
    pub story: Story,
    pub client: Client,
    pub git: GitServer,
    /// Between the agents and the S3 server.
    pub store: S3Proxy,
    pub server: S3Server,
}

/// Runs a story, unless this machine cannot have real nodes.
pub fn stage(name: &str, tell: impl AsyncFnOnce(&mut Stage) -> Result<()>) -> Result<()> {
    if !available(name)? {
        return Ok(());
    }
    block_on(async {
        let mut stage = Stage::open(name).await?;
        let outcome = Box::pin(tell(&mut stage)).await;
        outcome.map_err(|error| stage.explained(error))?;
        for agent in &stage.agents {
            let code = agent.stop().await?;
            ensure!(code == 0, "{} ended with {code}", agent.cluster().name());
        }
        Ok(())
    })
}

impl Stage {
    async fn open(name: &str) -> Result<Self> {
        let shared = shared().await?;
        let mut story = Story::open(shared, name).await?;
        let host_path = format!("/var/gitpod/{name}");
        let mut settings = manager_settings();
        settings["manager"]["workspaceHostPath"] = json!(host_path);
        settings["manager"]["workspaceClass"] = json!({ LIMITED: { "container": {
            "requests": { "cpu": "1m", "memory": "16Mi" },
            "limits": { "cpu": { "min": "1", "burst": "2" }, "memory": "1Gi", "storage": "24Mi" },
        } } });
        let dir = story.installation.dir().to_owned();
        let server = S3Server::start(story.fleet.assets(), &dir.join("s3"), S3Options::default()).await?;
        server.create_bucket(BUCKET)?;
        let here = shared.fleet.clusters().first().context("no cluster")?.real_node()?.host_address();
        let store = S3Proxy::at(here, &server.address()).await?;
        let git = GitServer::start(here, Some((USER, PASSWORD))).await?;
        let content = server.content_settings(&dir, &store, BUCKET)?;
        settings["content"] = json!({ "storage": content["storage"] });
        story.installation.overrides = settings;
        story.replicas.push(story.installation.start("manager-0").await?);
        let mut agents = Vec::new();
        for ((cluster, region), found) in CLUSTERS.into_iter().zip(shared.fleet.clusters()) {
            // Two agents do not share a folder, and the policy for pods has to know it.
            let note =
                json!({ "metadata": { "annotations": { "spaceport.dev/workspace-host-path": host_path } } });
            Api::<Namespace>::all(found.client())
                .patch(&story.namespace, &PatchParams::default(), &Patch::Merge(note))
                .await?;
            let options = AgentOptions {
                namespace: story.namespace.clone(),
                secrets_namespace: story.secrets_namespace.clone(),
                host_path: host_path.clone(),
                content: content.clone(),
                // Often, so that it would be noticed if it removed what it must not.
                overrides: json!({ "node": { "housekeeping": { "interval": "2s" } } }),
            };
            let agent = RealAgent::install(found, &dir.join(format!("agent-{cluster}")), options).await?;
            agent.start().await?;
            agents.push(agent);
            let kubeconfig = shared.kubeconfigs.get(cluster).context("no kubeconfig")?;
            story.register_as(cluster, region, kubeconfig).await?;
        }
        let client = story.client().await?;
        Ok(Self { agents, story, client, git, store, server })
    }

    /// The agent of one of [`CLUSTERS`].
    pub fn agent(&self, at: usize) -> Result<&RealAgent> {
        self.agents.get(at).context("no such agent")
    }

    /// Starts a workspace, once the one before it with the same long-lived id is gone.
    pub async fn begin(&mut self, life: &Life) -> Result<()> {
        until("the workspace before to be gone", async || {
            start(&mut self.client, life.request()).await.map(drop)
        })
        .await
    }

    /// Starts a workspace and waits until it runs.
    pub async fn run(&mut self, life: &Life) -> Result<WorkspaceStatus> {
        self.begin(life).await?;
        let up = self.reach(&life.id, |status| status.phase() == WorkspacePhase::Running).await?;
        ensure!(up.cluster == CLUSTERS[life.cluster].0, "{} is on {}", life.id, up.cluster);
        Ok(up)
    }

    /// Starts a workspace that must fail; returns why.
    pub async fn fails(&mut self, life: &Life) -> Result<String> {
        self.begin(life).await?;
        let down = self.reach(&life.id, |status| status.phase() == WorkspacePhase::Stopped).await?;
        let failed = down.conditions.map(|conditions| conditions.failed).unwrap_or_default();
        ensure!(!failed.is_empty(), "{} did not fail", life.id);
        Ok(failed)
    }

    /// Stops a workspace; returns its last status.
    pub async fn stop(&mut self, id: &str) -> Result<WorkspaceStatus> {
        stop(&mut self.client, id).await?;
        self.stopped(id).await
    }

    /// Waits until a workspace is stopped; returns its last status.
    pub async fn stopped(&mut self, id: &str) -> Result<WorkspaceStatus> {
        self.reach(id, |status| status.phase() == WorkspacePhase::Stopped).await
    }

    /// Waits for a status of a workspace.
    pub async fn reach(
        &mut self,
        id: &str,
        wanted: impl Fn(&WorkspaceStatus) -> bool,
    ) -> Result<WorkspaceStatus> {
        let filter = MetadataFilter { owner: OWNER.to_owned(), ..MetadataFilter::default() };
        let subscribe =
            SubscribeRequest { must_match: Some(filter), replay: true, ..SubscribeRequest::default() };
        let mut stream = self.client.subscribe(subscribe).await?.into_inner();
        let mut last = None;
        let reading = async {
            while let Some(update) = stream.message().await? {
                let Some(status) = update.status.filter(|status| status.id == id) else { continue };
                let reached = wanted(&status);
                last = Some(status);
                if reached {
                    return Ok(());
                }
            }
            bail!("the stream ended")
        };
        let outcome =
            timeout(SOON, reading).await.map_err(|_| anyhow!("it took too long")).and_then(|done| done);
        let shown = last.as_ref().map(|status| (status.phase(), &status.conditions, &status.message));
        outcome.with_context(|| format!("{id} is not as wanted: {shown:?}"))?;
        last.context("nothing was seen")
    }

    /// Runs a script in a workspace's container; returns its output.
    pub async fn exec(&self, life: &Life, script: &str) -> Result<String> {
        let output = self.try_exec(life, script).await?;
        ensure!(output.code == 0, "{script:?} in {}: {}{}", life.id, output.stdout, output.stderr);
        Ok(output.stdout)
    }

    async fn try_exec(&self, life: &Life, script: &str) -> Result<Output> {
        let namespace = format!("--namespace={}", self.story.namespace);
        let pod = format!("ws-{}", life.id);
        let args = [&namespace, "exec", &pod, "--container=workspace", "--", "sh", "-c", script];
        self.cluster(life.cluster)?.kubectl(&args).await
    }

    /// All files of a workspace, as its container sees them.
    pub async fn list(&self, life: &Life) -> Result<Listing> {
        Ok(Listing::read(&self.exec(life, "filetree list /workspace").await?))
    }

    /// One of [`CLUSTERS`].
    pub fn cluster(&self, at: usize) -> Result<&'static Arc<Cluster>> {
        let fleet: &'static Fleet = self.story.fleet;
        fleet.clusters().get(at).context("no such cluster")
    }

    /// Keys and sizes of the objects of a workspace below a prefix, such as `archives/`, in order.
    pub fn objects(&self, meta: &str, prefix: &str) -> Vec<(String, u64)> {
        let folder = format!("{OWNER}/workspaces/{meta}/{prefix}");
        let root = self.server.object(BUCKET, &folder);
        let mut found = BTreeMap::new();
        collect(&root, &root, &mut found);
        found.into_iter().collect()
    }

    /// Heads of a workspace, the oldest first.
    pub fn heads(&self, meta: &str) -> Result<Vec<Value>> {
        let read = |(name, _): &(String, u64)| {
            let file = self.server.object(BUCKET, &format!("{OWNER}/workspaces/{meta}/heads/{name}"));
            Ok(serde_json::from_slice(&std::fs::read(file)?)?)
        };
        self.objects(meta, "heads").iter().map(read).collect()
    }

    /// Requests at the store since there were `mark`, whose key has a part.
    pub fn requests(&self, mark: usize, part: &str) -> Vec<S3Request> {
        self.store.seen().into_iter().skip(mark).filter(|request| request.key.contains(part)).collect()
    }

    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let error = self.story.with_log(error);
        self.agents.iter().fold(error, |error, agent| match agent.process() {
            Ok(process) => {
                error.context(format!("{} logged: {}", agent.cluster().name(), process.log_tail()))
            }
            Err(_) => error,
        })
    }
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, u64>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, meta): (PathBuf, _) = (entry.path(), entry.metadata());
        match meta {
            Ok(meta) if meta.is_dir() => collect(root, &path, found),
            Ok(meta) => {
                let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                found.insert(name, meta.len());
            }
            Err(_) => {}
        }
    }
}

/// A start of a workspace: one instance.
#[derive(Clone, Debug)]
pub struct Life {
    pub id: String,
    pub meta: String,
    /// Index of [`CLUSTERS`].
    pub cluster: usize,
    initializer: Option<proto::contentservice::WorkspaceInitializer>,
    kind: WorkspaceType,
    tasks: Option<String>,
    is_limited: bool,
}

impl Life {
    /// With empty content, on the first cluster.
    pub fn new(id: &str, meta: &str) -> Self {
        Self {
            id: id.to_owned(),
            meta: meta.to_owned(),
            cluster: 0,
            initializer: None,
            kind: WorkspaceType::Regular,
            tasks: None,
            is_limited: false,
        }
    }

    #[must_use]
    pub fn on(mut self, cluster: usize) -> Self {
        self.cluster = cluster;
        self
    }

    #[must_use]
    pub fn with(mut self, initializer: proto::contentservice::WorkspaceInitializer) -> Self {
        self.initializer = Some(initializer);
        self
    }

    /// Of class [`LIMITED`].
    #[must_use]
    pub fn limited(mut self) -> Self {
        self.is_limited = true;
        self
    }

    /// As a prebuild that runs a script.
    #[must_use]
    pub fn prebuild(mut self, script: &str) -> Self {
        (self.kind, self.tasks) = (WorkspaceType::Prebuild, Some(script.to_owned()));
        self
    }

    pub fn request(&self) -> StartWorkspaceRequest {
        let mut request = request(&self.id, &[CLUSTERS[self.cluster].1]);
        request.r#type = self.kind.into();
        if let Some(metadata) = &mut request.metadata {
            metadata.meta_id.clone_from(&self.meta);
        }
        if let Some(spec) = &mut request.spec {
            if self.is_limited {
                LIMITED.clone_into(&mut spec.class);
            }
            if self.initializer.is_some() {
                spec.initializer.clone_from(&self.initializer);
            }
            let variable = |script: &String| proto::wsman::EnvironmentVariable {
                name: "GITPOD_TASKS".to_owned(),
                value: script.clone(),
                secret: None,
            };
            spec.envvars = self.tasks.iter().map(variable).collect();
        }
        request
    }
}
