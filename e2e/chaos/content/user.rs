//! A user with one workspace that lives again and again: it starts, is checked, changed, sometimes saved as a snapshot, and
//! stops. The next life is on any of the clusters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use k8s::resources::Snapshot;
use kube::Api;
use kube::api::ListParams;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{
    EmptyInitializer, FromBackupInitializer, GitAuthMethod, GitConfig, GitInitializer, SnapshotInitializer,
    WorkspaceInitializer,
};
use proto::wsman::{
    MetadataFilter, Placement, StartWorkspaceRequest, StartWorkspaceSpec, StopWorkspaceRequest,
    SubscribeRequest, SubscribeResponse, TakeSnapshotRequest, WorkspaceConditionBool, WorkspaceMetadata,
    WorkspacePhase, WorkspaceStatus,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::super::rng::Rng;
use super::ground::{CLUSTERS, Doing, Ground, LOGIN, REPOSITORY, SOON};
use super::ledger::{From, kept};
use super::script::{self, changes, list, mark, once};
use crate::harness::spaceport::NAMESPACE;
use crate::harness::{Listing, until};

/// Words of a failed start that only a store explains that serves less than it has.
const DAMAGE: [&str; 6] = ["damaged", "corrupt", "digest", "truncated", "no such", "not found"];

/// What all users did.
#[derive(Debug, Default)]
pub struct Counts {
    pub stops: AtomicUsize,
    pub unchanged: AtomicUsize,
    pub snapshots: AtomicUsize,
    pub copies: AtomicUsize,
    pub failed_starts: AtomicUsize,
}

pub struct User {
    /// Owner and workspace.
    name: String,
    rng: Rng,
    ground: Arc<Ground>,
    counts: Arc<Counts>,
    updates: Streaming<SubscribeResponse>,
    lives: usize,
    /// Where its last life was.
    last: usize,
}

/// A life that runs.
struct Life {
    id: String,
    site: usize,
}

impl User {
    pub async fn new(name: &str, seed: u64, ground: &Arc<Ground>, counts: &Arc<Counts>) -> Result<Self> {
        let filter = MetadataFilter { owner: name.to_owned(), ..MetadataFilter::default() };
        let subscribe = SubscribeRequest { must_match: Some(filter), ..SubscribeRequest::default() };
        let updates = ground.client.clone().subscribe(subscribe).await?.into_inner();
        Ok(Self {
            name: name.to_owned(),
            rng: Rng::new(seed, name),
            ground: Arc::clone(ground),
            counts: Arc::clone(counts),
            updates,
            lives: 0,
            last: 0,
        })
    }

    /// Lives until `end`.
    pub async fn run(&mut self, end: &CancellationToken) -> Result<()> {
        while !end.is_cancelled() {
            let (name, life) = (self.name.clone(), self.lives);
            let copy = self.rng.chance(25).then(|| self.own_snapshot()).flatten();
            let done = match copy {
                Some(url) => self.copy(&url, false).await,
                None => self.live().await,
            };
            done.with_context(|| format!("life {life} of {name}"))?;
        }
        Ok(())
    }

    /// Without faults: the last stop comes back on the other cluster, and so does every snapshot.
    pub async fn prove(&mut self) -> Result<()> {
        while let Some(url) = self.own_snapshot() {
            self.copy(&url, true).await?;
        }
        if !self.ground.ledger.lock().has_backup(&self.name) {
            return Ok(());
        }
        let life = self.start(&self.name.clone(), &From::Backup, 1 - self.last.min(1)).await?;
        let life = life.context("the last start failed")?;
        self.check(&life, &self.name.clone(), &From::Backup).await?;
        self.stop(&life, 0).await.map(drop)
    }

    /// A complete snapshot of its own that nothing was started from.
    fn own_snapshot(&self) -> Option<String> {
        let own = format!("{}/", self.name);
        self.ground.ledger.lock().unrestored().into_iter().find(|url| url.starts_with(&own))
    }

    async fn live(&mut self) -> Result<()> {
        let name = self.name.clone();
        let from = match (self.ground.ledger.lock().has_backup(&name), self.rng.chance(50)) {
            (true, _) => From::Backup,
            (false, true) => From::Git,
            (false, false) => From::Empty,
        };
        let site = usize::from(self.rng.chance(50));
        let Some(life) = self.start(&name, &from, site).await? else { return Ok(()) };
        let found = self.check(&life, &name, &from).await?;
        let written = if self.rng.chance(75) { self.change(&life).await? } else { Vec::new() };
        let left = self.list(&life).await?;
        kept(&name, &found, &written, &left).map_err(|violation| anyhow!("{violation}"))?;
        if self.rng.chance(35) {
            self.snapshot(&life, &left).await?;
        }
        let down = self.stop(&life, 0).await?;
        let conditions = down.conditions.clone().unwrap_or_default();
        ensure!(
            conditions.final_backup_complete() == WorkspaceConditionBool::True
                && conditions.failed.is_empty(),
            "{} has no backup: {conditions:?}",
            life.id
        );
        self.ground.ledger.lock().backed_up(&name, left);
        self.counts.stops.fetch_add(1, Ordering::Relaxed);
        self.counts.unchanged.fetch_add(usize::from(written.is_empty()), Ordering::Relaxed);
        Ok(())
    }

    /// Starts another workspace from a snapshot, and aborts it.
    async fn copy(&mut self, url: &str, must_start: bool) -> Result<()> {
        let (from, site) = (From::Snapshot(url.to_owned()), usize::from(self.rng.chance(50)));
        let copy = format!("{}-copy-{}", self.name, self.lives);
        let Some(life) = self.start(&copy, &from, site).await? else {
            ensure!(!must_start, "nothing starts from {url}");
            return Ok(());
        };
        self.check(&life, &copy, &from).await?;
        self.ground.aborted.lock().insert(life.id.clone());
        self.stop(&life, 2).await?;
        self.counts.copies.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// `None`: the start failed, as it may while its helper is killed or its store is away.
    async fn start(&mut self, workspace: &str, from: &From, site: usize) -> Result<Option<Life>> {
        self.lives += 1;
        let began = Instant::now();
        let mut life = Life { id: format!("{}-{}", self.name, self.lives), site };
        let request = self.request(&life, workspace, from);
        self.ground.note(&life.id, Some((site, Doing::Starting)));
        let client = self.ground.client.clone();
        until(SOON, "the workspace before to be gone", async || {
            client.clone().start_workspace(request.clone()).await?;
            Ok(())
        })
        .await?;
        let up = self
            .reach(&life.id, |status| {
                matches!(status.phase(), WorkspacePhase::Running | WorkspacePhase::Stopped)
            })
            .await?;
        life.site = self.ground.site_of(&up.cluster)?;
        if up.phase() == WorkspacePhase::Running {
            self.last = life.site;
            self.ground.note(&life.id, Some((life.site, Doing::Running)));
            return Ok(Some(life));
        }
        self.ground.note(&life.id, None);
        let why = up.conditions.map(|conditions| conditions.failed).unwrap_or_default();
        let low = why.to_lowercase();
        ensure!(!why.is_empty(), "{} stopped before it ran", life.id);
        let has_lied = (*self.ground.site(life.site)?.lied.lock()).is_some_and(|until| until > began);
        let is_explained = has_lied || !DAMAGE.iter().any(|word| low.contains(word));
        ensure!(is_explained, "{} did not start: {why}", life.id);
        eprintln!("chaos: {} failed to start: {why}", life.id);
        self.counts.failed_starts.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    async fn check(&self, life: &Life, workspace: &str, from: &From) -> Result<Listing> {
        let found = self.list(life).await?;
        let judged = self.ground.ledger.lock().found(workspace, from, &found);
        judged.map_err(|violation| anyhow!("{}: {violation}", life.id))?;
        Ok(found)
    }

    /// Returns names that are there from now on.
    async fn change(&mut self, life: &Life) -> Result<Vec<String>> {
        let first = mark(&life.id);
        self.exec(life, &once("mark", &first.script)).await?;
        sleep(self.rng.millis(0..1500)).await;
        let then = changes(&mut self.rng, &life.id);
        self.exec(life, &once("changes", &then.script)).await?;
        Ok([first.written, then.written].concat())
    }

    /// Sometimes the workspace stops before it is complete.
    async fn snapshot(&mut self, life: &Life, content: &Listing) -> Result<()> {
        self.ground.note(&life.id, Some((life.site, Doing::TakingSnapshot)));
        let request = TakeSnapshotRequest { id: life.id.clone(), return_immediately: true };
        let url = self.ground.client.clone().take_snapshot(request).await;
        // The agent that gives the name may be away for longer than the call waits.
        let Ok(url) = url.map(|answer| answer.into_inner().url) else { return Ok(()) };
        if self.rng.chance(15) {
            self.ground.ledger.lock().taken(&url, content.clone(), false);
            return Ok(());
        }
        let cluster = &self.ground.site(life.site)?.cluster;
        let api = Api::<Snapshot>::namespaced(cluster.client(), NAMESPACE);
        let mut error = None;
        until(SOON, &format!("snapshot {url}"), async || {
            let all = api.list(&ListParams::default()).await?;
            let statuses = all.items.into_iter().filter_map(|snapshot| snapshot.status);
            let status = statuses.into_iter().find(|status| status.url.as_deref() == Some(&url));
            let status = status.context("nobody knows it any more")?;
            ensure!(status.completed, "not complete");
            error = status.error;
            Ok(())
        })
        .await?;
        if let Some(error) = &error {
            eprintln!("chaos: snapshot {url} failed: {error}");
        }
        self.ground.ledger.lock().taken(&url, content.clone(), error.is_none());
        self.counts.snapshots.fetch_add(usize::from(error.is_none()), Ordering::Relaxed);
        Ok(())
    }

    async fn stop(&mut self, life: &Life, policy: i32) -> Result<WorkspaceStatus> {
        self.ground.note(&life.id, Some((life.site, Doing::Stopping)));
        let client = self.ground.client.clone();
        until(SOON, "a stop to be accepted", async || {
            client.clone().stop_workspace(StopWorkspaceRequest { id: life.id.clone(), policy }).await?;
            Ok(())
        })
        .await?;
        let down = self.reach(&life.id, |status| status.phase() == WorkspacePhase::Stopped).await;
        self.ground.note(&life.id, None);
        down
    }

    async fn reach(
        &mut self,
        id: &str,
        wanted: impl Fn(&WorkspaceStatus) -> bool,
    ) -> Result<WorkspaceStatus> {
        let mut last = None;
        let reading = async {
            while let Some(update) = self.updates.message().await? {
                let Some(status) = update.status.filter(|status| status.id == id) else { continue };
                if wanted(&status) {
                    return Ok(status);
                }
                last = Some(status);
            }
            bail!("the stream of updates ended")
        };
        let read = timeout(SOON, reading).await;
        read.unwrap_or_else(|_| Err(anyhow!("{id} is not as wanted after {SOON:?}: {last:?}")))
    }

    async fn list(&self, life: &Life) -> Result<Listing> {
        Ok(Listing::read(&self.exec(life, &list()).await?))
    }

    /// Runs a script in the container, again if the runtime was away.
    async fn exec(&self, life: &Life, script: &str) -> Result<String> {
        let cluster = &self.ground.site(life.site)?.cluster;
        let (namespace, pod) = (format!("--namespace={NAMESPACE}"), format!("ws-{}", life.id));
        let args = [&namespace, "exec", &pod, "--container=workspace", "--", "sh", "-c", script];
        let mut output = String::new();
        until(SOON, &format!("a script in {}", life.id), async || {
            let done = cluster.kubectl(&args).await?;
            ensure!(done.code == 0, "{script}: {}{}", done.stdout, done.stderr);
            script::output(&done.stdout).context("its output broke off")?.clone_into(&mut output);
            Ok(())
        })
        .await?;
        Ok(output)
    }

    fn request(&self, life: &Life, workspace: &str, from: &From) -> StartWorkspaceRequest {
        let regions = CLUSTERS.get(life.site).map(|(_, region)| (*region).to_owned()).into_iter().collect();
        StartWorkspaceRequest {
            id: life.id.clone(),
            service_prefix: life.id.clone(),
            metadata: Some(WorkspaceMetadata {
                owner: self.name.clone(),
                meta_id: workspace.to_owned(),
                ..WorkspaceMetadata::default()
            }),
            spec: Some(StartWorkspaceSpec {
                workspace_image: "image:1".to_owned(),
                workspace_location: "/".to_owned(),
                initializer: Some(WorkspaceInitializer { spec: Some(self.spec(from)) }),
                placement: Some(Placement { regions, ..Placement::default() }),
                ..StartWorkspaceSpec::default()
            }),
            r#type: 0,
        }
    }

    fn spec(&self, from: &From) -> Spec {
        match from {
            From::Empty => Spec::Empty(EmptyInitializer {}),
            From::Git => Spec::Git(GitInitializer {
                remote_uri: self.ground.git.remote(REPOSITORY),
                target_mode: proto::contentservice::CloneTargetMode::RemoteBranch.into(),
                clone_taget: "main".to_owned(),
                checkout_location: REPOSITORY.to_owned(),
                config: Some(GitConfig {
                    authentication: GitAuthMethod::BasicAuth.into(),
                    auth_user: LOGIN.0.to_owned(),
                    auth_password: LOGIN.1.to_owned(),
                    ..GitConfig::default()
                }),
                ..GitInitializer::default()
            }),
            From::Backup => Spec::Backup(FromBackupInitializer::default()),
            From::Snapshot(url) => Spec::Snapshot(SnapshotInitializer {
                snapshot: url.clone(),
                ..SnapshotInitializer::default()
            }),
        }
    }
}
