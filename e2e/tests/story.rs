//! Shared by the stories: the fleet, and an installation of Spaceport for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use k8s::resources::Workspace;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use parking_lot::Mutex;
use proto::contentservice::{
    EmptyInitializer, GitConfig, GitInitializer, WorkspaceInitializer, workspace_initializer,
};
use proto::wsman::{
    DescribeWorkspaceRequest, EnvironmentVariable, MetadataFilter, Placement, StartWorkspaceRequest,
    StartWorkspaceResponse, StartWorkspaceSpec, StopWorkspaceRequest, SubscribeRequest, SubscribeResponse,
    WorkspaceMetadata, WorkspacePhase, WorkspaceStatus, workspace_manager_client::WorkspaceManagerClient,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use e2e::harness::node_agent::Pace;
use e2e::harness::spaceport::{Installation, Replica, prepare_member, prepare_namespaces};
use e2e::harness::{Audit, Cluster, Fleet, FleetOptions, NodeAgent, Proxy};

/// Timeout of one step on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);
/// The shared clusters and their regions.
pub const CLUSTERS: [(&str, &str); 3] = [("eu-1", "europe"), ("us-1", "north-america"), ("ap-1", "asia")];

/// A client of the workspace API.
pub type Client = WorkspaceManagerClient<Channel>;

/// Clusters that stories share.
pub struct Shared {
    /// The clusters.
    pub fleet: Fleet,
    /// Kubeconfigs of user `spaceport`, by cluster.
    pub kubeconfigs: BTreeMap<String, PathBuf>,
    _agents: Vec<NodeAgent>,
}

impl Shared {
    /// The node agents, if they are simulated, run as long as the clusters.
    pub fn new(fleet: Fleet, kubeconfigs: BTreeMap<String, PathBuf>, agents: Vec<NodeAgent>) -> Self {
        Self { fleet, kubeconfigs, _agents: agents }
    }
}

async fn shared() -> Result<&'static Shared> {
    static SHARED: OnceLock<OnceCell<Shared>> = OnceLock::new();
    SHARED.get_or_init(OnceCell::new).get_or_try_init(boot).await
}

/// The shared fleet, with audit logs, and kubeconfigs of user `spaceport` by cluster.
pub async fn fleet() -> Result<(&'static Fleet, &'static BTreeMap<String, PathBuf>)> {
    let shared = shared().await?;
    Ok((&shared.fleet, &shared.kubeconfigs))
}

async fn boot() -> Result<Shared> {
    let mut options = FleetOptions::of(CLUSTERS.len()).audited(Audit::Objects);
    for (cluster, (name, region)) in options.clusters.iter_mut().zip(CLUSTERS) {
        (cluster.name, cluster.region) = (name.to_owned(), region.to_owned());
    }
    let fleet = Fleet::boot(options).await?;
    let (mut kubeconfigs, mut agents) = (BTreeMap::new(), Vec::new());
    for cluster in fleet.clusters() {
        kubeconfigs.insert(cluster.name().to_owned(), prepare_member(cluster).await?);
        agents.push(NodeAgent::start(&cluster.client(), Pace::default()));
    }
    Ok(Shared::new(fleet, kubeconfigs, agents))
}

/// An installation of Spaceport on the shared fleet.
pub struct Story {
    /// The shared clusters.
    pub fleet: &'static Fleet,
    /// Kubeconfigs of user `spaceport`, by cluster.
    pub kubeconfigs: &'static BTreeMap<String, PathBuf>,
    /// Certificates, configuration, CLI.
    pub installation: Installation,
    /// Its managers.
    pub replicas: Vec<Replica>,
    /// Its workspace namespace in every cluster.
    pub namespace: String,
    /// Its secrets namespace.
    pub secrets_namespace: String,
}

/// Runs a story with `managers` replicas, and the named clusters registered and available.
pub fn story(
    name: &str,
    managers: usize,
    clusters: &[&str],
    tell: impl AsyncFnOnce(&mut Story) -> Result<()>,
) -> Result<()> {
    e2e::harness::block_on(async {
        let mut story = Story::open(shared().await?, name).await?;
        let outcome = async {
            for n in 0..managers {
                let replica = story.installation.start(&format!("manager-{n}")).await?;
                story.replicas.push(replica);
            }
            for cluster in clusters {
                story.register(cluster).await?;
            }
            tell(&mut story).await
        };
        let outcome = outcome.await;
        outcome.map_err(|error| story.with_log(error))
    })
}

impl Story {
    /// On the given clusters, without managers.
    pub async fn open(shared: &'static Shared, name: &str) -> Result<Self> {
        static NAMES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        // It names a namespace and a prefix in etcd.
        ensure!(NAMES.lock().insert(name.to_owned()), "another story is named {name}, too");
        let (namespace, secrets_namespace) = (name.to_owned(), format!("{name}-secrets"));
        for cluster in shared.fleet.clusters() {
            prepare_namespaces(cluster, &namespace, &secrets_namespace).await?;
        }
        let installation = Installation::apart(
            shared.fleet.assets(),
            &shared.fleet.dir().join(name),
            shared.fleet.etcd(),
            &format!("/spaceport/{name}/"),
            (&namespace, &secrets_namespace),
        )?;
        Ok(Self {
            fleet: &shared.fleet,
            kubeconfigs: &shared.kubeconfigs,
            installation,
            replicas: Vec::new(),
            namespace,
            secrets_namespace,
        })
    }

    /// With the end of the last manager's log.
    pub fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        match self.replicas.last() {
            Some(replica) => {
                error.context(format!("{} logged: {}", replica.name, replica.process.log_tail()))
            }
            None => error,
        }
    }

    /// Registers a shared cluster through the CLI and waits until it accepts workspaces.
    pub async fn register(&self, cluster: &str) -> Result<()> {
        let kubeconfig = self.kubeconfigs.get(cluster).context("no such cluster")?;
        self.register_as(cluster, region_of(cluster)?, kubeconfig).await
    }

    /// Registers a shared cluster with the address of a proxy in front of it.
    pub async fn register_through(&self, cluster: &str, proxy: &Proxy) -> Result<()> {
        let original = self.kubeconfigs.get(cluster).context("no such cluster")?;
        let through = self.installation.dir().join(format!("{cluster}-through.kubeconfig"));
        let kubeconfig = proxy.kubeconfig(original, &through)?;
        self.register_as(cluster, region_of(cluster)?, &kubeconfig).await
    }

    /// Registers a cluster by its kubeconfig and waits until every replica reports it as available.
    pub async fn register_as(&self, cluster: &str, region: &str, kubeconfig: &Path) -> Result<()> {
        let output = self.try_to_register(cluster, region, kubeconfig).await?;
        ensure!(output.code == 0, "cannot register {cluster}: {}", output.stderr);
        self.available(cluster).await
    }

    /// Registers a cluster by its kubeconfig; returns output and exit code.
    pub async fn try_to_register(
        &self,
        cluster: &str,
        region: &str,
        kubeconfig: &Path,
    ) -> Result<e2e::harness::spaceport::Output> {
        let file = self.installation.cluster_file(cluster, region, kubeconfig)?;
        self.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await
    }

    /// Waits until every replica reports the cluster as available.
    pub async fn available(&self, cluster: &str) -> Result<()> {
        for replica in &self.replicas {
            let gauges = [
                format!("spaceport_cluster_health{{cluster=\"{cluster}\",health=\"Available\"}} 1"),
                format!("spaceport_cluster_condition{{cluster=\"{cluster}\",condition=\"Synced\"}} 1"),
            ];
            until("the cluster to be available", async || {
                let metrics = e2e::harness::spaceport::get(&format!("{}/metrics", replica.health)).await?;
                for gauge in &gauges {
                    ensure!(metrics.contains(gauge), "{} does not say {gauge}", replica.name);
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// A shared cluster.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.fleet.cluster(name).map(|cluster| &**cluster)
    }

    /// The story's Workspace resources in a cluster.
    pub fn resources(&self, cluster: &str) -> Result<Api<Workspace>> {
        Ok(Api::namespaced(self.cluster(cluster)?.client(), &self.namespace))
    }

    /// Runs the CLI against all replicas, as an admin.
    pub async fn cli(&self, args: &[&str]) -> Result<e2e::harness::spaceport::Output> {
        self.installation.cli(&self.replicas.iter().collect::<Vec<_>>(), args).await
    }

    /// A client of the first replica.
    pub async fn client(&self) -> Result<Client> {
        self.installation.workspaces(self.replicas.first().context("no manager runs")?).await
    }

    /// Name of the leading replica, from the CLI.
    pub async fn leader(&self) -> Result<String> {
        let output = self.cli(&["cluster", "leader", "-o", "json"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let answer: serde_json::Value = serde_json::from_str(&output.stdout)?;
        match answer["replica"].as_str() {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => bail!("there is no leader: {answer}"),
        }
    }
}

fn region_of(cluster: &str) -> Result<&'static str> {
    let found = CLUSTERS.iter().find(|(name, _)| *name == cluster);
    found.map(|(_, region)| *region).context("no such cluster")
}

/// The least that the definition of a Workspace takes as its spec.
pub fn smallest_spec(meta: &str) -> Value {
    json!({
        "ownership": { "owner": "joe", "workspaceID": meta }, "type": "Regular", "class": "c",
        "image": { "workspace": { "ref": "image" }, "ide": { "web": "", "supervisor": "" } },
        "initializer": "CgA=", "workspaceLocation": "", "admission": { "level": "Owner" }, "ports": [],
    })
}

/// A request for a regular workspace; its long-lived id is `meta-<id>`.
pub fn request(id: &str, regions: &[&str]) -> StartWorkspaceRequest {
    let initializer =
        WorkspaceInitializer { spec: Some(workspace_initializer::Spec::Empty(EmptyInitializer {})) };
    StartWorkspaceRequest {
        id: id.to_owned(),
        service_prefix: format!("meta-{id}"),
        metadata: Some(WorkspaceMetadata {
            owner: "jane".to_owned(),
            meta_id: format!("meta-{id}"),
            ..WorkspaceMetadata::default()
        }),
        spec: Some(StartWorkspaceSpec {
            workspace_image: "image:1".to_owned(),
            workspace_location: "/".to_owned(),
            initializer: Some(initializer),
            placement: Some(Placement {
                regions: regions.iter().map(|region| (*region).to_owned()).collect(),
                ..Placement::default()
            }),
            ..StartWorkspaceSpec::default()
        }),
        r#type: 0,
    }
}

/// Adds an annotation, which controls simulated pods and the simulated node agent.
pub fn annotated(mut request: StartWorkspaceRequest, key: &str, value: &str) -> StartWorkspaceRequest {
    if let Some(metadata) = &mut request.metadata {
        metadata.annotations.insert(key.to_owned(), value.to_owned());
    }
    request
}

/// Adds a secret for each namespace: `PASSWORD` in its environment, and a token for its content.
pub fn with_secrets(mut request: StartWorkspaceRequest) -> StartWorkspaceRequest {
    if let Some(spec) = &mut request.spec {
        spec.envvars =
            vec![EnvironmentVariable { name: "PASSWORD".into(), value: "hunter2".into(), secret: None }];
        let config = GitConfig { auth_password: "t0ken".into(), ..GitConfig::default() };
        let git = GitInitializer {
            remote_uri: "https://example.org/a.git".into(),
            config: Some(config),
            ..GitInitializer::default()
        };
        spec.initializer = Some(WorkspaceInitializer { spec: Some(workspace_initializer::Spec::Git(git)) });
    }
    request
}

/// Removes an annotation from a workspace, so that a simulated part that waits continues.
pub async fn forget(story: &Story, id: &str, annotation: &str) -> Result<()> {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { annotation: null } } }));
    story.resources("eu-1")?.patch(id, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Starts a workspace.
pub async fn start(client: &mut Client, request: StartWorkspaceRequest) -> Result<StartWorkspaceResponse> {
    Ok(client.start_workspace(request).await?.into_inner())
}

/// Stops a workspace normally.
pub async fn stop(client: &mut Client, id: &str) -> Result<()> {
    client.stop_workspace(StopWorkspaceRequest { id: id.to_owned(), policy: 0 }).await?;
    Ok(())
}

/// Status of a workspace; `None` if it does not exist.
pub async fn describe(client: &mut Client, id: &str) -> Result<Option<WorkspaceStatus>> {
    match client.describe_workspace(DescribeWorkspaceRequest { id: id.to_owned() }).await {
        Ok(answer) => Ok(answer.into_inner().status),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// Subscribes to one workspace from its current state on.
pub async fn watch(client: &mut Client, id: &str) -> Result<Streaming<SubscribeResponse>> {
    let must_match = Some(MetadataFilter { meta_id: format!("meta-{id}"), ..MetadataFilter::default() });
    let request = SubscribeRequest { must_match, replay: true, ..SubscribeRequest::default() };
    Ok(client.subscribe(request).await?.into_inner())
}

/// Reads a stream until a state is as wanted; returns all states. Versions must never fall.
pub async fn follow(
    stream: &mut Streaming<SubscribeResponse>,
    wanted: impl Fn(&WorkspaceStatus) -> bool,
) -> Result<Vec<WorkspaceStatus>> {
    let mut seen: Vec<WorkspaceStatus> = Vec::new();
    let reading = async {
        while let Some(update) = stream.message().await? {
            let status = update.status.context("an update without a status")?;
            if let Some(last) = seen.last() {
                ensure!(
                    last.status_version <= status.status_version,
                    "the version fell: {last:?} {status:?}"
                );
            }
            let done = wanted(&status);
            seen.push(status);
            if done {
                return Ok(());
            }
        }
        bail!("the stream ended")
    };
    let outcome = timeout(SOON, reading).await.map_err(|_| anyhow!("it took too long")).and_then(|done| done);
    outcome.with_context(|| format!("seen before: {:?}", phases(&seen)))?;
    Ok(seen)
}

/// Waits until starts that prefer a region go to a cluster.
pub async fn starts_go_to(client: &mut Client, region: &str, cluster: &str) -> Result<()> {
    until(&format!("starts for {region} to go to {cluster}"), async || {
        let id = format!("probe-{}", uuid::Uuid::new_v4().simple());
        let answer = start(client, request(&id, &[region])).await?;
        ensure!(answer.cluster == cluster, "it went to {}", answer.cluster);
        Ok(())
    })
    .await
}

/// Waits until a Workspace is gone from its cluster.
pub async fn resource_gone(workspaces: &Api<Workspace>, id: &str) -> Result<()> {
    until(&format!("Workspace {id} to be gone"), async || {
        ensure!(workspaces.get_opt(id).await?.is_none(), "{id} is there");
        Ok(())
    })
    .await
}

/// Whether a state has the phase.
pub fn is(phase: WorkspacePhase) -> impl Fn(&WorkspaceStatus) -> bool {
    move |status| status.phase() == phase
}

/// The phases of states, without repetitions.
pub fn phases(states: &[WorkspaceStatus]) -> Vec<WorkspacePhase> {
    let mut phases: Vec<WorkspacePhase> = states.iter().map(WorkspaceStatus::phase).collect();
    phases.dedup();
    phases
}

/// Starts a workspace and waits until it runs.
pub async fn run(client: &mut Client, request: StartWorkspaceRequest) -> Result<WorkspaceStatus> {
    let id = request.id.clone();
    let mut stream = watch(client, &id).await?;
    start(client, request).await?;
    let mut seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
    seen.pop().context("nothing was seen")
}

/// Asserts that a call is rejected; returns the status.
pub fn refused<T: std::fmt::Debug>(
    outcome: Result<tonic::Response<T>, Status>,
    code: Code,
) -> Result<Status> {
    match outcome {
        Err(status) if status.code() == code => Ok(status),
        other => bail!("expected {code:?}, got {other:?}"),
    }
}

/// Waits until all objects of the story's workspaces in `eu-1` are gone.
pub async fn nothing_is_left(story: &Story) -> Result<()> {
    let client = story.cluster("eu-1")?.client();
    let (workspaces, pods) =
        (story.resources("eu-1")?, Api::<Pod>::namespaced(client.clone(), &story.namespace));
    until("everything of the workspace to be gone", async || {
        ensure!(workspaces.list(&ListParams::default()).await?.items.is_empty(), "a Workspace is left");
        ensure!(pods.list(&ListParams::default()).await?.items.is_empty(), "a Pod is left");
        for namespace in [&story.namespace, &story.secrets_namespace] {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            ensure!(secrets.list(&ListParams::default()).await?.items.is_empty(), "a Secret is left");
        }
        Ok(())
    })
    .await
}

/// Retries a check until it succeeds; fails with its last error.
pub async fn until(what: &str, check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    e2e::harness::until(SOON, what, check).await
}
