//! The task of one workspace: asks what is next and does it, one thing after the other, until the workspace is gone.
//!
//! Nothing is remembered but on disk and in the apiserver, so the task can be dropped at any await and begun again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use domain::backoff::jittered;
use domain::workspace::Phase;
use jiff::Timestamp;
use k8s::resources::{Workspace, conditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::api::{Kind, PodSeen, node_of};
use super::error::Error;
use super::operating::{Operating, Outcome};
use super::work::{Known, Work};
use super::{images, snapshot, storage};
use crate::decide::{Next, Operation, Report};

/// Delays after what failed.
const BACKOFF: ExponentialBuilder = jittered(Duration::from_secs(1), Duration::from_mins(1));
/// Until the node is asked again for the sizes of an image: the kubelet reports its images about every 10 s.
const IMAGES_AGAIN: Duration = Duration::from_secs(15);
/// How often it is asked.
const IMAGES_TRIES: u32 = 8;

/// Until the pod of a deleted workspace is asked for again.
const POD_AGAIN: Duration = Duration::from_secs(10);

/// What comes after one step.
enum Turn {
    /// Another step.
    Again,
    /// Nothing until something changes.
    Idle,
    /// Another step then, or when something changes.
    At(Instant),
    /// The same again after a backoff.
    Failed,
    /// The workspace is over here.
    End,
}

/// Serves one workspace until it is gone or the agent stops.
pub async fn serve(work: Arc<Work>, known: watch::Receiver<Known>) {
    let current = known.borrow().clone();
    let name = current.workspace.name_any();
    let mut task = Task {
        work,
        known,
        current,
        name,
        is_deleted: false,
        pod: None,
        snapshots_done: BTreeSet::new(),
        has_operated: false,
        images_tried: 0,
        measure_at: Instant::now(),
        backoff: BACKOFF.build(),
    };
    task.run().await;
}

struct Task {
    work: Arc<Work>,
    known: watch::Receiver<Known>,
    /// As known, or newer: as the apiserver returned it last.
    current: Known,
    /// Of the instance.
    name: String,
    /// The resource does not exist any more.
    is_deleted: bool,
    /// What is known of the pod of a resource that is deleted.
    pod: Option<PodSeen>,
    /// Snapshots that are completed, as far as the watch still reports them.
    snapshots_done: BTreeSet<String>,
    /// An operation ended since the last step.
    has_operated: bool,
    images_tried: u32,
    /// When the storage is looked at next.
    measure_at: Instant,
    backoff: ExponentialBackoff,
}

impl Task {
    async fn run(&mut self) {
        while !self.work.stop.is_cancelled() {
            self.has_operated = false;
            let turn = self.turn().await;
            if !matches!(turn, Turn::Failed) {
                self.backoff = BACKOFF.build();
            }
            let until = match turn {
                Turn::End => return,
                Turn::Again => Some(Instant::now()),
                Turn::Idle => None,
                Turn::At(at) => Some(at),
                Turn::Failed => Some(Instant::now() + self.backoff.next().unwrap_or_default()),
            };
            if !self.wait(until).await {
                break;
            }
        }
        self.last_report().await;
    }

    /// What was done before the agent stops is reported by it, if the apiserver answers; otherwise by the next agent.
    async fn last_report(&mut self) {
        if !self.has_operated || self.is_deleted {
            return;
        }
        let next = self.work.operations.next(&self.current.workspace, false, Timestamp::now()).await;
        if let Next::Write(report) = next {
            self.write(&report).await;
        }
    }

    /// Waits for a change or a time. `false`: the agent stops.
    async fn wait(&mut self, until: Option<Instant>) -> bool {
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let stop = self.work.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return false,
            changed = self.known.changed() => if changed.is_err() { return false },
            () = timer => {}
        }
        self.refresh();
        true
    }

    /// Takes over what is known, unless the apiserver returned something newer.
    fn refresh(&mut self) {
        let known = self.known.borrow_and_update().clone();
        let workspace = match (version(&known.workspace), version(&self.current.workspace)) {
            (Some(seen), Some(current))
                if seen < current && is_same(&known.workspace, &self.current.workspace) =>
            {
                Arc::clone(&self.current.workspace)
            }
            _ => Arc::clone(&known.workspace),
        };
        self.snapshots_done.retain(|name| known.snapshots.contains_key(name));
        self.current = Known { workspace, ..known };
        self.apply_pod();
    }

    /// Changes the last conditions of a deleted resource as its controller would have done.
    fn apply_pod(&mut self) {
        // Not those of another resource that has come under its name.
        let Some(seen) = self.pod.filter(|_| self.is_deleted && self.current.is_gone) else { return };
        let Some(status) = &mut Arc::make_mut(&mut self.current.workspace).status else { return };
        let running = conditions::WORKSPACE_CONTAINER_RUNNING;
        let Some(running) = status.conditions.iter_mut().find(|condition| condition.type_ == running) else {
            return;
        };
        match seen {
            PodSeen::Runs => {}
            PodSeen::Ended => "False".clone_into(&mut running.status),
            // Nobody saw its container end, so the folder is not taken for what is archived of it.
            PodSeen::Gone => {
                let type_ = conditions::FORCE_KILLED_TASK.to_owned();
                let killed = Condition { type_, ..running.clone() };
                status.conditions.retain(|condition| condition.type_ != killed.type_);
                status.conditions.push(killed);
            }
        }
    }

    /// Asks for the pod of a deleted resource, whose controller writes nothing any more.
    async fn ask_pod(&mut self) -> Turn {
        let workspace = Arc::clone(&self.current.workspace);
        let namespace = workspace.namespace().unwrap_or_default();
        let runtime = workspace.status.as_ref().and_then(|status| status.runtime.as_deref());
        let seen = match runtime.and_then(|runtime| runtime.pod_name.as_deref()) {
            Some(pod) => match self.work.cluster.pod(&namespace, pod, workspace.uid().as_deref()).await {
                Ok(seen) => seen,
                Err(error) => return self.failed(&error),
            },
            // A pod whose name nobody wrote was never seen.
            None => PodSeen::Gone,
        };
        if seen == PodSeen::Runs && self.pod.is_none() {
            warn!(
                instance = self.name,
                node = self.work.cluster.node,
                "the pod of a deleted workspace still runs; its content stays on this node until the pod is gone, and is backed up then"
            );
        }
        self.pod = Some(seen);
        self.apply_pod();
        if seen == PodSeen::Runs { Turn::At(Instant::now() + POD_AGAIN) } else { Turn::Again }
    }

    async fn turn(&mut self) -> Turn {
        if self.current.is_gone && !self.is_deleted {
            match self.find_out().await {
                Ok(Some(turn)) => return turn,
                Ok(None) => {}
                Err(error) => return self.failed(&error),
            }
        }
        // It may be created again under its name.
        self.is_deleted &= self.current.is_gone;
        self.pod = self.pod.filter(|_| self.is_deleted);
        let now = Timestamp::now();
        let next = self.work.operations.next(&self.current.workspace, self.is_deleted, now).await;
        match next {
            Next::Run(operation) => self.operate(operation).await,
            Next::Nothing | Next::Write(_) | Next::ForceKill if self.is_deleted => Turn::End,
            Next::AskPod => self.ask_pod().await,
            Next::Write(report) => self.write(&report).await,
            Next::ForceKill => self.force_kill().await,
            Next::Nothing => self.beside().await.unwrap_or(Turn::Idle),
            Next::WaitUntil(at) => match self.snapshot_due().await {
                Some(turn) => turn,
                None => Turn::At(instant(at)),
            },
        }
    }

    /// Why the watch does not report the workspace any more. `None`: it is deleted.
    async fn find_out(&mut self) -> Result<Option<Turn>, Error> {
        let namespace = self.current.workspace.namespace().unwrap_or_default();
        let found = self.work.cluster.get(Kind::Workspace, &namespace, &self.name).await?;
        let is_there = found.as_ref().filter(|found| found.uid() == self.current.workspace.uid());
        match is_there {
            None => {
                self.is_deleted = true;
                Ok(None)
            }
            Some(found) if node_of(Kind::Workspace, found) == Some(self.work.cluster.node.as_str()) => {
                // The watch reports it again.
                Ok(Some(Turn::Idle))
            }
            Some(_) => {
                info!(instance = self.name, "a workspace is not of this node any more");
                Ok(Some(Turn::End))
            }
        }
    }

    async fn operate(&mut self, operation: Operation) -> Turn {
        let Some(slot) = self.work.slots.take(operation.uploads(), &self.work.stop).await else {
            return Turn::Idle;
        };
        // It may have been stopped or deleted meanwhile.
        if self.known.has_changed().unwrap_or(false) {
            let is_gone = self.current.is_gone;
            self.refresh();
            let next =
                self.work.operations.next(&self.current.workspace, self.is_deleted, Timestamp::now()).await;
            if is_gone != self.current.is_gone || !matches!(next, Next::Run(other) if other == operation) {
                return Turn::Again;
            }
        }
        let operating = Operating {
            work: &self.work,
            known: &self.known,
            workspace: &self.current.workspace,
            is_deleted: self.is_deleted,
        };
        let outcome = operating.run(operation, slot).await;
        self.has_operated = true;
        match outcome {
            Outcome::Ended => Turn::Again,
            Outcome::Impossible => Turn::Failed,
        }
    }

    async fn write(&mut self, report: &Report) -> Turn {
        match self.work.report(&self.current.workspace, report).await {
            Ok((workspace, is_changed)) => {
                self.current.workspace = Arc::new(workspace);
                // What is there already needs no haste: the watch is behind, or the report is for another attempt.
                if is_changed { Turn::Again } else { Turn::At(Instant::now() + Duration::from_secs(1)) }
            }
            Err(error) => self.failed(&error),
        }
    }

    async fn force_kill(&mut self) -> Turn {
        let workspace = Arc::clone(&self.current.workspace);
        let runtime = workspace.status.as_ref().and_then(|status| status.runtime.as_deref());
        let Some(pod) = runtime.and_then(|runtime| runtime.pod_name.as_deref()) else { return Turn::Idle };
        let namespace = workspace.namespace().unwrap_or_default();
        warn!(instance = self.name, pod, "the container of a stopped workspace still runs and is killed");
        if let Err(error) = self.work.cluster.kill_pod(&namespace, pod).await {
            return self.failed(&error);
        }
        let attempt = workspace.status.as_ref().and_then(|status| status.pod_recreated).unwrap_or_default();
        self.write(&Report::force_killed(attempt)).await
    }

    /// What is done beside the life of the content.
    async fn beside(&mut self) -> Option<Turn> {
        if let Some(turn) = self.snapshot_due().await {
            return Some(turn);
        }
        if self.current.workspace.status.as_ref()?.phase != Phase::Running {
            return None;
        }
        if let Some(turn) = self.storage_due().await {
            return Some(turn);
        }
        let status = self.current.workspace.status.as_ref()?;
        if status.image_info.is_some() || self.images_tried >= IMAGES_TRIES {
            return self.work.measures.map(|_| Turn::At(self.measure_at));
        }
        self.images_tried += 1;
        Some(match self.images().await {
            Ok(true) => Turn::Again,
            Ok(false) => Turn::At(Instant::now() + IMAGES_AGAIN),
            Err(error) => self.failed(&error),
        })
    }

    /// Looks at the storage that the workspace uses, unless it changes meanwhile.
    async fn storage_due(&mut self) -> Option<Turn> {
        let interval = self.work.measures?;
        if Instant::now() < self.measure_at {
            return None;
        }
        let _slot = self.work.slots.take(false, &self.work.stop).await?;
        let mut known = self.known.clone();
        let report = tokio::select! {
            biased;
            _ = known.changed() => return Some(Turn::Again),
            report = storage::look(&self.work, &self.current.workspace) => report,
        };
        self.measure_at = Instant::now() + interval;
        Some(self.write(&report?).await)
    }

    /// Writes the sizes of the image. `false`: the node does not list it yet.
    async fn images(&mut self) -> Result<bool, Error> {
        let node = self.work.cluster.node().await?;
        let Some(info) = images::info(&node, &self.current.workspace, &self.name) else { return Ok(false) };
        let info = json!({ "imageInfo": info });
        let patch = |status: &serde_json::Value| status.get("imageInfo").is_none().then(|| info.clone());
        let (workspace, _) = self.work.change(&self.current.workspace, patch).await?;
        self.current.workspace = Arc::new(workspace);
        Ok(true)
    }

    async fn snapshot_due(&mut self) -> Option<Turn> {
        if self.is_deleted {
            return None;
        }
        let due = self.current.snapshots.iter().find(|(name, _)| !self.snapshots_done.contains(*name));
        let (name, snapshot) = due.map(|(name, snapshot)| (name.clone(), Arc::clone(snapshot)))?;
        let known = self.known.clone();
        match snapshot::serve(&self.work, known, &self.current.workspace, &snapshot).await? {
            Ok(()) | Err(Error::Gone { .. }) => {
                self.snapshots_done.insert(name);
                Some(Turn::Again)
            }
            Err(error) => Some(self.failed(&error)),
        }
    }

    fn failed(&self, error: &Error) -> Turn {
        if let Error::Gone { .. } = error {
            debug!(instance = self.name, %error, "a report has no addressee");
            return Turn::Idle;
        }
        warn!(instance = self.name, %error, "the apiserver did not take part; trying again");
        Turn::Failed
    }
}

/// Versions of one cluster grow.
fn version(workspace: &Workspace) -> Option<u64> {
    workspace.resource_version()?.parse().ok()
}

fn is_same(one: &Workspace, other: &Workspace) -> bool {
    one.uid() == other.uid()
}

fn instant(at: Timestamp) -> Instant {
    let wait = at.duration_since(Timestamp::now());
    Instant::now() + Duration::try_from(wait).unwrap_or_default()
}
