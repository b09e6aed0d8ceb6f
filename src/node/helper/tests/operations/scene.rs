//! A node, a store, and workspaces whose status is written as the agent does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use content::store::{Format, PrunePolicy, Store, UploadLimits, WorkspaceKeys};
use domain::names::WorkspaceId;
use domain::secret::Secret;
use domain::workspace::{Kind, Phase};
use jiff::{SignedDuration, Timestamp};
use k8s::resources::conditions::{CONTENT_READY, WORKSPACE_CONTAINER_RUNNING, find};
use k8s::resources::{Initializer, Runtime, Workspace, WorkspaceSpec, WorkspaceStatus};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use node::decide::{Next, Operation, Report};
use node::helper::{Helper, Progress, Settings as HelperSettings};
use node::operations::{Deadlines, Error, Excludes, Operations, Retry, Secrets, Settings};
use node::quota::Backend;
use node::state;
use prost::Message;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{FromBackupInitializer, WorkspaceInitializer};
use tokio::sync::watch;

pub const NODE: &str = "metal-1";
pub const OWNER: &str = "jane";
pub const META: &str = "ws";

/// The Secret of every workspace.
struct Tokens(BTreeMap<String, String>);

#[async_trait]
impl Secrets for Tokens {
    async fn tokens(&self, _: &str, _: &WorkspaceId) -> Result<BTreeMap<String, Secret<String>>, String> {
        Ok(self.0.iter().map(|(key, value)| (key.clone(), Secret::new(value.clone()))).collect())
    }
}

pub struct Scene {
    pub root: tempfile::TempDir,
    pub settings: Settings,
    pub store: Store,
    /// None while the agent is being started again.
    running: Option<Operations>,
}

impl Scene {
    /// A node with a store in a folder, which it may share with others.
    pub async fn new(store: &Path) -> Self {
        let store = Store::open(&content::store::Settings::local(store)).await.unwrap();
        // The smallest parts.
        Self::over(store.with_limits(UploadLimits::new(5 << 20, 2).unwrap()), Format::Zst).await
    }

    pub async fn over(store: Store, format: Format) -> Self {
        Self::on(tempfile::tempdir().unwrap(), store, format).await
    }

    pub async fn on(root: tempfile::TempDir, store: Store, format: Format) -> Self {
        Self::limited(root, store, format, Backend::None).await
    }

    /// Where the storage of workspaces is limited.
    pub async fn limited(root: tempfile::TempDir, store: Store, format: Format, quota: Backend) -> Self {
        let settings = Settings { quota, ..settings(root.path(), format) };
        let operations = open(&settings, &store).await;
        Self { root, settings, store, running: Some(operations) }
    }

    /// As after a restart of the agent.
    pub async fn restart(&mut self) {
        self.stop_agent();
        self.running = Some(open(&self.settings, &self.store).await);
    }

    /// Its lock ends with it.
    pub fn stop_agent(&mut self) {
        drop(self.running.take());
    }

    pub fn operations(&self) -> &Operations {
        self.running.as_ref().unwrap()
    }

    pub fn path(&self, inner: &str) -> PathBuf {
        self.root.path().join(inner)
    }

    pub fn read(&self, inner: &str) -> String {
        fs::read_to_string(self.path(inner)).unwrap()
    }

    /// Writes a file as the workspace's user.
    pub fn write(&self, inner: &str, text: &str) {
        let path = self.path(inner);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        super::super::stage::give(path.parent().unwrap());
    }

    /// Does what the agent does until there is nothing to do. Returns the operations that ran.
    pub async fn drive(&self, workspace: &mut Workspace) -> Vec<Operation> {
        let mut ran = Vec::new();
        for _ in 0..100 {
            match self.operations().next(workspace, false, Timestamp::now()).await {
                Next::Nothing => return ran,
                Next::WaitUntil(at) => {
                    let wait = at.duration_since(Timestamp::now());
                    tokio::time::sleep(wait.unsigned_abs().min(Duration::from_secs(5))).await;
                }
                Next::Write(report) => apply(workspace, *report),
                Next::ForceKill | Next::AskPod => panic!("there is no pod"),
                Next::Run(operation) => {
                    ran.push(operation);
                    let (progress, _) = watch::channel(Progress::default());
                    let report = self.operations().run(operation, workspace, &progress).await.unwrap();
                    if let Some(report) = report {
                        apply(workspace, report);
                    }
                }
            }
        }
        panic!("it does not come to an end: {ran:?}");
    }

    /// Starts a workspace that must become ready.
    pub async fn start(&self, id: &str, spec: Spec) -> Workspace {
        let mut workspace = workspace(id, spec);
        self.drive(&mut workspace).await;
        let ready = condition(&workspace, CONTENT_READY).unwrap();
        assert_eq!((&*ready.status, &*ready.message), ("True", ""));
        assert!(self.path(id).join(".gitpod/ready").is_file());
        workspace
    }

    /// Stops it, and returns what ran.
    pub async fn stop(&self, workspace: &mut Workspace) -> Vec<Operation> {
        stopping(workspace);
        self.drive(workspace).await
    }

    pub fn keys() -> WorkspaceKeys {
        WorkspaceKeys::new(OWNER.parse().unwrap(), META.parse().unwrap())
    }

    /// Paths of the objects of the workspace, heads and archives, in a store in a folder.
    pub fn objects(store: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![store.to_owned()];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let text = path.strip_prefix(store).unwrap().display().to_string();
                if text.starts_with('.') {
                    continue;
                }
                if path.is_dir() { left.push(path) } else { found.push(text) }
            }
        }
        found.sort();
        found
    }
}

pub fn settings(root: &Path, format: Format) -> Settings {
    Settings {
        host_path: root.to_owned(),
        node: NODE.to_owned(),
        quota: Backend::None,
        format,
        excludes: Excludes { all: vec!["*.excluded".to_owned()], ..Excludes::default() },
        deadlines: Deadlines::default(),
        retry: Retry {
            first: Duration::from_millis(10),
            most: Duration::from_millis(20),
            give_up: Duration::from_millis(300),
        },
        pruning: PrunePolicy { keep: 10, age: Duration::from_hours(1) },
    }
}

pub async fn open(settings: &Settings, store: &Store) -> Operations {
    let secrets = Arc::new(Tokens(BTreeMap::from([("initializer.git".to_owned(), "s3cr3t".to_owned())])));
    let open = || {
        let helper = Helper::new(HelperSettings::default());
        Operations::open(settings.clone(), helper, store.clone(), secrets.clone())
    };
    // Dropped work goes on for a moment and holds the lock, here or in a process that it has just begun. A process that is
    // killed takes its work with it.
    let opened = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match open().await {
                Err(Error::State(state::Error::InUse(_))) => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                opened => return opened,
            }
        }
    });
    opened.await.unwrap().unwrap()
}

/// A workspace that is being created on the node. Each instance is a second younger than the one before.
pub fn workspace(id: &str, spec: Spec) -> Workspace {
    let initializer = WorkspaceInitializer { spec: Some(spec) }.encode_to_vec();
    let mut workspace = Workspace::new(
        id,
        WorkspaceSpec {
            initializer: Initializer(ByteString(initializer)),
            class: "g1-standard".to_owned(),
            type_: Kind::Regular,
            ..WorkspaceSpec::default()
        },
    );
    OWNER.clone_into(&mut workspace.spec.ownership.owner);
    META.clone_into(&mut workspace.spec.ownership.workspace_id);
    workspace.metadata.namespace = Some("workspaces".to_owned());
    let age = id.rsplit('-').next().and_then(|number| number.parse::<i64>().ok()).unwrap_or(0);
    let created = Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_secs(age);
    workspace.metadata.creation_timestamp = Some(Time(created));
    let runtime = Runtime { node_name: Some(NODE.to_owned()), ..Runtime::default() };
    workspace.status = Some(WorkspaceStatus {
        phase: Phase::Creating,
        runtime: Some(Box::new(runtime)),
        ..WorkspaceStatus::default()
    });
    workspace
}

pub fn backup() -> Spec {
    Spec::Backup(FromBackupInitializer::default())
}

/// As the controller has it once the container is gone.
pub fn stopping(workspace: &mut Workspace) {
    set(workspace, WORKSPACE_CONTAINER_RUNNING, false, "");
    workspace.status.as_mut().unwrap().phase = Phase::Stopping;
}

pub fn set(workspace: &mut Workspace, kind: &str, is_true: bool, message: &str) {
    let conditions = &mut workspace.status.as_mut().unwrap().conditions;
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(Condition {
        type_: kind.to_owned(),
        status: if is_true { "True" } else { "False" }.to_owned(),
        reason: "Unknown".to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(Timestamp::now()),
        observed_generation: None,
    });
}

pub fn condition(workspace: &Workspace, kind: &str) -> Option<Condition> {
    find(&workspace.status.as_ref().unwrap().conditions, kind).cloned()
}

/// Writes a report to the status.
pub fn apply(workspace: &mut Workspace, report: Report) {
    for update in &report.conditions {
        set(workspace, update.kind, update.is_true, &update.message);
    }
    let status = workspace.status.as_mut().unwrap();
    assert_eq!(report.attempt, status.pod_recreated.unwrap_or(0));
    if let Some(git) = report.git {
        status.git = Some(Box::new(git));
    }
    status.snapshot = report.snapshot.or(status.snapshot.take());
    if let Some(metrics) = report.initializer_metrics {
        status.initializer_metrics = Some(Box::new(metrics));
    }
}

/// All entries below a folder with what must survive; the agent's own folder in it aside.
pub fn entries(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(folder).unwrap().to_owned();
        if name.starts_with(".gitpod") || name == Path::new("") {
            if name == Path::new("") {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            continue;
        }
        let content = if stat.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if stat.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            format!("{:?}", content::store::Digest::of(&fs::read(&path).unwrap()))
        };
        let (mode, uid, gid, mtime) = (stat.mode(), stat.uid(), stat.gid(), stat.mtime_nsec());
        found.insert(name, format!("{mode:o} {uid}:{gid} {mtime} {content}"));
    }
    found
}

/// Files of several kinds, as the workspace's user has them.
pub fn fill(folder: &Path) {
    let script = "mkdir -p src/deep closed && echo one > src/a && echo two > src/deep/b && ln -s ../a src/deep/link && \
        ln src/a src/hard && head -c 300000 /dev/urandom > random && printf x > 'odd name' && chmod 4755 src/deep/b && \
        truncate -s 10M sparse && chown -h -R 33333:33333 src closed random 'odd name' sparse && chown 100999:100999 random && \
        chmod 0555 closed && touch leave.excluded && chown 33333:33333 leave.excluded";
    let status = Command::new("sh").args(["-c", script]).current_dir(folder).status().unwrap();
    assert!(status.success());
}
