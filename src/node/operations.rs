//! Initialise, back up, snapshot, wipe: lists of steps that can be killed after any of them.
//!
//! Each step is in the state file before its effect can be seen outside, and is repeated after a restart. The future of an operation
//! may be dropped at any time. How the parts of a backup come to be in a store is in `docs/protocols/content-heads.md` and
//! `docs/protocols/content-uploads.md`.

mod aside;
mod back_up;
mod context;
mod error;
mod exchange;
mod folders;
mod housekeep;
mod initialise;
mod keep;
mod restore;
mod settings;
mod snapshot;
mod storage;
mod subject;
mod upload;
mod volumes;
mod wipe;

use std::collections::BTreeSet;
use std::sync::Arc;

use content::initializer::one_time::OneTimeLogins;
use content::store::Store;
use domain::names::WorkspaceId;
use domain::workspace::Kind;
use jiff::Timestamp;
use k8s::resources::conditions::POD_REJECTED;
use k8s::resources::{Snapshot, Workspace};
use tokio::sync::watch;

use crate::decide::{Facts, Next, Operation, Report, decide, report};
use crate::helper::{Helper, Progress};
use crate::quota::{Quota, Usage};
use crate::state::{Disk, Known, Layout, Stage};
use context::Context;
use subject::Subject;

pub use context::Secrets;
pub use error::Error;
pub use housekeep::{Freed, Housekept, Unproven};
pub use settings::{Deadlines, Excludes, Retry, Settings};

/// The operations of one node. Clones are the same node.
#[derive(Clone)]
pub struct Operations {
    context: Arc<Context>,
}

impl Operations {
    /// Makes the folders of the agent below `workspaceHostPath`.
    pub async fn open(
        settings: Settings,
        helper: Helper,
        store: Store,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Self, Error> {
        let layout = Layout::new(&settings.host_path);
        let opened = tokio::task::spawn_blocking(move || Disk::open(layout));
        let disk = opened.await.map_err(Error::stopped)??;
        let layout = disk.layout().clone();
        let shown = tokio::task::spawn_blocking(move || volumes::show_all(&layout));
        shown.await.map_err(Error::stopped)?.map_err(Error::stopped)?;
        let logins = OneTimeLogins::new().map_err(|error| Error::Logins(error.to_string()))?;
        let quota = Quota::new(settings.quota);
        let context = Context {
            settings,
            quota,
            helper,
            store,
            secrets,
            logins,
            disk,
            sweeping: Arc::default(),
            is_ending: Arc::default(),
        };
        Ok(Self { context: Arc::new(context) })
    }

    /// What a workspace needs next. `is_deleted`: the resource is gone, and `workspace` is its last state.
    pub async fn next(&self, workspace: &Workspace, is_deleted: bool, now: Timestamp) -> Next {
        let layout = self.context.disk.layout();
        let (known, folder) = match Subject::of(workspace) {
            Ok(Subject { origin, .. }) => {
                let folder = layout.content(&origin.instance);
                match self.context.disk.read(&origin.instance).await {
                    Known::State(state) if !state.origin.is_same_resource(&origin) => {
                        // The instance id is used again, and this is the older resource.
                        if state.origin.created > origin.created {
                            return Next::Nothing;
                        }
                        (Known::Nothing, folder)
                    }
                    known => (known, folder),
                }
            }
            Err(error) => (Known::Broken(error.to_string()), layout.root().to_path_buf()),
        };
        let snapshot = (workspace.spec.type_ == Kind::Prebuild)
            .then(|| back_up::prebuild_name(&self.context, workspace));
        let snapshot = snapshot.and_then(Result::ok);
        let node = self.context.settings.node.as_str();
        let (known, folder, snapshot) = (&known, folder.as_path(), snapshot.as_deref());
        decide(&Facts { workspace, is_deleted, node, known, folder, snapshot, now })
    }

    /// Why the backup of a workspace failed that will be tried again.
    pub async fn backup_problem(&self, workspace: &Workspace) -> Option<String> {
        let subject = Subject::of(workspace).ok()?;
        match self.context.disk.read(&subject.origin.instance).await {
            Known::State(state) => match state.stage {
                Stage::BackingUp(pending) => pending.problem,
                _ => None,
            },
            Known::Nothing | Known::Broken(_) => None,
        }
    }

    /// Runs an operation. `None`: it is to be tried again. A report may be empty. An error is the node's: the state on disk is not
    /// what it should be.
    pub async fn run(
        &self,
        operation: Operation,
        workspace: &Workspace,
        progress: &watch::Sender<Progress>,
    ) -> Result<Option<Report>, Error> {
        let subject = Subject::of(workspace)?;
        let is_rejected = workspace.status.as_ref().is_some_and(|status| status.is_true(POD_REJECTED));
        let state = match operation {
            Operation::Initialise => Box::pin(initialise::run(&self.context, &subject, progress)).await?,
            Operation::BackUp => Box::pin(back_up::run(&self.context, &subject, progress)).await?,
            Operation::Wipe => wipe::run(&self.context, &subject, is_rejected).await?,
        };
        Ok(match report(&state) {
            // Nobody waits for the end of content that was not wanted.
            Some(report) if operation == Operation::Wipe && !is_rejected => {
                Some(Report { conditions: Vec::new(), ..report })
            }
            other => other,
        })
    }

    /// The name of the snapshot that [`Operations::snapshot`] will make: the same whenever it is asked for.
    pub fn snapshot_url(&self, workspace: &Workspace, snapshot: &Snapshot) -> Result<String, Error> {
        snapshot::name(&self.context, workspace, snapshot)
    }

    /// Stores the content of a running workspace. It is proven when this returns.
    pub async fn snapshot(
        &self,
        workspace: &Workspace,
        snapshot: &Snapshot,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Error> {
        Box::pin(snapshot::run(&self.context, workspace, snapshot, progress)).await
    }

    /// Whether storage can be limited as configured. An error is one sentence that says what to do.
    pub async fn check_quota(&self) -> Result<(), String> {
        self.context.quota.check(self.context.disk.layout().root()).await
    }

    /// How much of its storage a running workspace uses. `None`: nothing limits it.
    pub async fn usage(&self, workspace: &Workspace) -> Result<Option<Usage>, String> {
        let subject = Subject::of(workspace).map_err(|error| error.to_string())?;
        let known = self.context.disk.read(&subject.origin.instance).await;
        match known {
            // Before that a restore may exceed the limit.
            Known::State(state) if state.stage == Stage::Ready => {
                storage::usage(&self.context, &subject).await
            }
            _ => Ok(None),
        }
    }

    /// Removes what nobody needs any more, and reports content that is not proven. `known` are all instances of this node.
    pub async fn housekeep(&self, known: &BTreeSet<WorkspaceId>, now: Timestamp) -> Result<Housekept, Error> {
        housekeep::run(&self.context, known, now).await
    }

    /// Removes kept folders, the oldest first, until the file system has `available` bytes or none is left.
    pub async fn free(&self, available: u64) -> Result<Freed, Error> {
        housekeep::free(&self.context, available).await
    }
}
