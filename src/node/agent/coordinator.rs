//! Starts a task for each workspace of the node, tells it what the watches report, and ends all of them at the shutdown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use domain::names::{Namespace, WorkspaceId};
use k8s::resources::{Snapshot, Workspace};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::api::Kind;
use super::watch::Change;
use super::work::{Known, Work};
use super::workspace::serve;

/// Workspaces of one node; the kubelet takes far fewer pods. Further ones are ignored until others are gone.
const WORKSPACES_MAX: usize = 4096;
/// Snapshots of one workspace that wait. A further one is completed with an error.
const SNAPSHOTS_MAX: usize = 16;
/// Snapshots that came before their workspaces.
const EARLY_MAX: usize = 256;

/// What others need to know of the workspaces.
#[derive(Debug, Clone, Default)]
pub struct Instances {
    /// All namespaces are listed.
    pub is_complete: bool,
    /// Of this node.
    pub ids: BTreeSet<WorkspaceId>,
}

/// Serves the workspaces of the node.
pub struct Coordinator {
    work: Arc<Work>,
    known: HashMap<WorkspaceId, watch::Sender<Known>>,
    tasks: JoinSet<()>,
    serving: HashMap<Id, WorkspaceId>,
    /// Snapshots whose workspaces were not reported yet.
    early: BTreeMap<(WorkspaceId, String), Arc<Snapshot>>,
    refusals: JoinSet<()>,
    /// Namespaces whose workspaces are not listed yet.
    unlisted: BTreeSet<Namespace>,
    instances: watch::Sender<Instances>,
}

impl Coordinator {
    /// For these namespaces.
    pub fn new(work: Arc<Work>, namespaces: impl IntoIterator<Item = Namespace>) -> Self {
        Self {
            work,
            known: HashMap::new(),
            tasks: JoinSet::new(),
            serving: HashMap::new(),
            early: BTreeMap::new(),
            refusals: JoinSet::new(),
            unlisted: namespaces.into_iter().collect(),
            instances: watch::Sender::new(Instances::default()),
        }
    }

    /// The workspaces of this node.
    pub fn instances(&self) -> watch::Receiver<Instances> {
        self.instances.subscribe()
    }

    /// Runs until the shutdown, and then as long as operations need, but not longer than `grace`.
    pub async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        grace: Duration,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                change = changes.recv() => match change {
                    Some(change) => self.apply(change),
                    None => break,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                Some(_) = self.refusals.join_next() => {}
            }
        }
        shutdown.cancelled().await;
        self.finish(grace).await;
        Ok(())
    }

    async fn finish(mut self, grace: Duration) {
        self.work.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            warn!(
                workspaces = self.tasks.len(),
                "operations do not end in time and are interrupted; the next agent continues them"
            );
        }
        self.tasks.shutdown().await;
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Is(Kind::Workspace, object) => self.workspace_is(*object),
            Change::Gone(Kind::Workspace, object) => {
                self.workspace_gone(&object.name_any(), object.uid().as_deref())
            }
            Change::All(Kind::Workspace, namespace, names) => self.workspaces_are(&namespace, &names),
            Change::Is(Kind::Snapshot, object) => self.snapshot_is(*object),
            Change::Gone(Kind::Snapshot, object) => self
                .keep_snapshots(|name, of| name != object.name_any() || of.namespace() != object.namespace()),
            Change::All(Kind::Snapshot, namespace, names) => self.keep_snapshots(|name, of| {
                names.contains(name) || of.namespace().as_deref() != Some(namespace.as_str())
            }),
        }
    }

    fn workspace_is(&mut self, object: DynamicObject) {
        let name = object.name_any();
        let Some(id) = instance(&name) else { return };
        let Ok(workspace) = object.try_parse::<Workspace>() else {
            warn!(instance = name, "a Workspace cannot be decoded and is ignored");
            return;
        };
        let workspace = Arc::new(workspace);
        if let Some(known) = self.known.get(&id) {
            if known.borrow().workspace.namespace() != workspace.namespace() {
                warn!(
                    instance = name,
                    "two namespaces have a Workspace of one name; the later one is ignored"
                );
                return;
            }
            known.send_modify(|known| {
                known.workspace = workspace;
                known.is_gone = false;
            });
            return;
        }
        if self.known.len() >= WORKSPACES_MAX {
            warn!(instance = name, "this node has more than {WORKSPACES_MAX} workspaces; one is ignored");
            return;
        }
        let snapshots = self.take_early(&id);
        let known = watch::Sender::new(Known { workspace, is_gone: false, snapshots });
        self.known.insert(id.clone(), known);
        self.serve(id);
        self.show();
    }

    fn workspace_gone(&mut self, name: &str, uid: Option<&str>) {
        let Some(known) = instance(name).and_then(|id| self.known.get(&id)) else { return };
        known.send_if_modified(|known| {
            let is_it = known.workspace.uid().as_deref() == uid && !known.is_gone;
            known.is_gone |= is_it;
            is_it
        });
    }

    fn workspaces_are(&mut self, namespace: &Namespace, names: &BTreeSet<String>) {
        for (id, known) in &self.known {
            known.send_if_modified(|known| {
                let is_here = known.workspace.namespace().as_deref() == Some(namespace.as_str());
                let is_lost = is_here && !known.is_gone && !names.contains(id.as_str());
                known.is_gone |= is_lost;
                is_lost
            });
        }
        if self.unlisted.remove(namespace) && self.unlisted.is_empty() {
            info!(workspaces = self.known.len(), "all workspaces of this node are known");
            self.show();
            let early: Vec<_> = self.early.values().cloned().collect();
            early.into_iter().for_each(|snapshot| self.refuse_unless_here(snapshot));
        }
    }

    fn snapshot_is(&mut self, object: DynamicObject) {
        let name = object.name_any();
        let Ok(snapshot) = object.try_parse::<Snapshot>() else {
            warn!(snapshot = name, "a Snapshot cannot be decoded and is ignored");
            return;
        };
        let Some(id) = instance(&snapshot.spec.workspace_id) else { return };
        let is_completed = snapshot.status.as_ref().is_some_and(|status| status.completed);
        let snapshot = Arc::new(snapshot);
        let Some(known) = self.known.get(&id) else {
            if !is_completed && self.early.len() < EARLY_MAX {
                self.early.insert((id, name), Arc::clone(&snapshot));
            }
            if !is_completed && self.unlisted.is_empty() {
                self.refuse_unless_here(snapshot);
            }
            return;
        };
        let mut is_refused = false;
        known.send_if_modified(|known| {
            if is_completed {
                return known.snapshots.remove(&name).is_some();
            }
            is_refused = known.snapshots.len() >= SNAPSHOTS_MAX && !known.snapshots.contains_key(&name);
            if is_refused {
                return false;
            }
            known.snapshots.insert(name, Arc::clone(&snapshot)).is_none()
        });
        if is_refused {
            self.refuse(
                snapshot,
                format!("more than {SNAPSHOTS_MAX} snapshots of the workspace wait; take one later"),
            );
        }
    }

    /// Forgets Snapshots that are gone.
    fn keep_snapshots(&mut self, keeps: impl Fn(&str, &Snapshot) -> bool) {
        self.early.retain(|(_, name), snapshot| keeps(name, snapshot));
        for known in self.known.values() {
            known.send_if_modified(|known| {
                let before = known.snapshots.len();
                known.snapshots.retain(|name, snapshot| keeps(name, snapshot));
                known.snapshots.len() < before
            });
        }
    }

    fn take_early(&mut self, id: &WorkspaceId) -> BTreeMap<String, Arc<Snapshot>> {
        let taken = self.early.extract_if(.., |(of, _), _| of == id);
        taken.map(|((_, name), snapshot)| (name, snapshot)).collect()
    }

    fn serve(&mut self, id: WorkspaceId) {
        let Some(known) = self.known.get(&id) else { return };
        let task = self.tasks.spawn(serve(Arc::clone(&self.work), known.subscribe()));
        self.serving.insert(task.id(), id);
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (task, has_panicked) = match &ended {
            Ok((task, ())) => (*task, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some(id) = self.serving.remove(&task) else { return };
        if has_panicked {
            error!(instance = %id, "the task of a workspace panicked; it begins again");
        }
        let is_over = self.known.get(&id).is_none_or(|known| known.borrow().is_gone);
        if is_over && !has_panicked {
            debug!(instance = %id, "a workspace is over on this node");
            self.known.remove(&id);
            self.show();
        } else if !self.work.stop.is_cancelled() {
            self.serve(id);
        }
    }

    /// A Snapshot of a workspace that is not reported: the watch may be behind.
    fn refuse_unless_here(&mut self, snapshot: Arc<Snapshot>) {
        let work = Arc::clone(&self.work);
        self.refusals.spawn(async move {
            let namespace = snapshot.namespace().unwrap_or_default();
            let id = &snapshot.spec.workspace_id;
            let found = work.cluster.get(Kind::Workspace, &namespace, id).await;
            let node = work.cluster.node.as_str();
            match found {
                Ok(Some(found)) if super::api::node_of(Kind::Workspace, &found) == Some(node) => {}
                Ok(_) => refuse(&work, &snapshot, &format!("workspace {id} is not on node {node}")).await,
                Err(error) => warn!(instance = id, %error, "failed to look for the workspace of a Snapshot"),
            }
        });
    }

    fn refuse(&mut self, snapshot: Arc<Snapshot>, reason: String) {
        let work = Arc::clone(&self.work);
        self.refusals.spawn(async move { refuse(&work, &snapshot, &reason).await });
    }

    fn show(&self) {
        let ids: BTreeSet<WorkspaceId> = self.known.keys().cloned().collect();
        self.work.meters.workspaces.set(i64::try_from(ids.len()).unwrap_or(i64::MAX));
        self.instances.send_replace(Instances { is_complete: self.unlisted.is_empty(), ids });
    }
}

async fn refuse(work: &Work, snapshot: &Snapshot, reason: &str) {
    warn!(snapshot = snapshot.name_any(), reason, "a snapshot is refused");
    if let Err(error) = work.refuse_snapshot(snapshot, reason).await {
        warn!(snapshot = snapshot.name_any(), %error, "failed to refuse a snapshot");
    }
}

fn instance(name: &str) -> Option<WorkspaceId> {
    let id = name.parse();
    if let Err(error) = &id {
        warn!(%error, "a Workspace has no valid name and is ignored");
    }
    id.ok()
}
