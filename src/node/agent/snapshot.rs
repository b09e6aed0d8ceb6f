//! Takes one snapshot of a running workspace, and says in its Snapshot what came of it. A stop does not wait for it: the backup that
//! follows has the content, too.

use std::convert::Infallible;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use domain::backoff::jittered;
use domain::workspace::Phase;
use k8s::resources::{Snapshot, Workspace};
use kube::ResourceExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::Error;
use super::work::{Known, Work};
use crate::helper::Progress;

/// Delays after what failed.
const BACKOFF: ExponentialBuilder = jittered(Duration::from_secs(1), Duration::from_mins(1));
/// Why a Snapshot has no content.
const STOPPED: &str = "the workspace stopped before the snapshot was complete; its backup has the content, start a workspace from that";

/// Whether a snapshot can be taken; `None` if only later.
fn can_take(workspace: &Workspace) -> Option<bool> {
    match workspace.status.as_ref().map(|status| status.phase)? {
        Phase::Running => Some(true),
        Phase::Stopping | Phase::Stopped => Some(false),
        Phase::Unknown | Phase::Pending | Phase::Imagebuild | Phase::Creating | Phase::Initializing => None,
    }
}

/// Takes a snapshot while the workspace runs. One of a workspace that stops is ended and completed with an error: the state on disk
/// makes that safe at any moment. `None`: the workspace does not run yet.
pub async fn serve(
    work: &Work,
    mut known: watch::Receiver<Known>,
    workspace: &Workspace,
    snapshot: &Snapshot,
) -> Option<Result<(), Error>> {
    let runs = can_take(workspace)?;
    if runs && let Some(taken) = unless_stopped(&mut known, take(work, workspace, snapshot)).await {
        return Some(taken);
    }
    warn!(
        instance = workspace.name_any(),
        snapshot = snapshot.name_any(),
        "a snapshot ends because its workspace stops"
    );
    Some(work.refuse_snapshot(snapshot, STOPPED).await)
}

/// Completes the Snapshots of a workspace that stops, without an end: they would wait for its backup, which may take an hour.
pub async fn refuse_all(work: &Work, mut known: watch::Receiver<Known>) -> Infallible {
    let mut backoff = BACKOFF.build();
    loop {
        let now = known.borrow_and_update().clone();
        let mut has_failed = false;
        for snapshot in now.snapshots.values() {
            if let Err(error) = work.refuse_snapshot(snapshot, STOPPED).await
                && !matches!(error, Error::Gone { .. })
            {
                warn!(snapshot = snapshot.name_any(), %error, "failed to complete a snapshot of a workspace that stops");
                has_failed = true;
            }
        }
        let again = async {
            if has_failed {
                tokio::time::sleep(backoff.next().unwrap_or_default()).await;
            } else {
                backoff = BACKOFF.build();
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            changed = known.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = again => {}
        }
    }
}

/// Waits for a future, but not longer than the workspace runs. `None`: it stopped, and the future is dropped.
async fn unless_stopped<T>(known: &mut watch::Receiver<Known>, future: impl Future<Output = T>) -> Option<T> {
    let stopped = async {
        // What is known already may be older than what the caller has.
        while known.changed().await.is_ok() {
            let known = known.borrow_and_update();
            if known.is_gone || can_take(&known.workspace) == Some(false) {
                return;
            }
        }
        // The agent stops, which waits for snapshots as it does for operations.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        done = future => Some(done),
        () = stopped => None,
    }
}

/// Writes the URL first, because callers wait for that only; then stores the content, and completes the Snapshot. One that is
/// completed already is left as it is.
async fn take(work: &Work, workspace: &Workspace, snapshot: &Snapshot) -> Result<(), Error> {
    let url = match work.operations.snapshot_url(workspace, snapshot) {
        Ok(url) => url,
        Err(error) => return work.refuse_snapshot(snapshot, &error.to_string()).await,
    };
    let begins = json!({ "url": url, "completed": false });
    if !work.change_snapshot(snapshot, &begins).await? {
        return Ok(());
    }
    let Some(slot) = work.slots.take(true, &work.stop).await else { return Ok(()) };
    work.meters.waited(slot.waited);
    let (running, began) = (work.meters.begin("snapshot"), Instant::now());
    let (progress, _) = watch::channel(Progress::default());
    let outcome = work.operations.snapshot(workspace, snapshot, &progress).await;
    drop(slot);
    let (name, seconds) = (snapshot.name_any(), began.elapsed().as_secs_f64());
    let instance = workspace.name_any();
    let mut ends = json!({ "url": url, "completed": true });
    match outcome {
        Ok(()) => {
            running.done();
            info!(instance, snapshot = name, seconds, "a snapshot is complete");
        }
        Err(error) => {
            let reason = error.to_string();
            warn!(instance, snapshot = name, seconds, reason, "a snapshot failed");
            ends["error"] = json!(reason);
        }
    }
    work.change_snapshot(snapshot, &ends).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use k8s::resources::{WorkspaceSpec, WorkspaceStatus};

    use super::*;

    fn known(phase: Phase, is_gone: bool) -> Known {
        let mut workspace = Workspace::new("ws-1", WorkspaceSpec::default());
        workspace.status = Some(WorkspaceStatus { phase, ..WorkspaceStatus::default() });
        Known { workspace: Arc::new(workspace), is_gone, snapshots: BTreeMap::new() }
    }

    #[test]
    fn only_a_running_workspace_has_snapshots_and_one_that_starts_has_them_later() {
        let can = |phase| can_take(&known(phase, false).workspace);
        assert_eq!(can(Phase::Running), Some(true));
        assert_eq!((can(Phase::Stopping), can(Phase::Stopped)), (Some(false), Some(false)));
        assert_eq!((can(Phase::Pending), can(Phase::Creating), can(Phase::Initializing)), (None, None, None));
    }

    #[tokio::test]
    async fn a_snapshot_is_dropped_once_its_workspace_stops_or_is_gone() {
        for last in [known(Phase::Stopping, false), known(Phase::Stopped, false), known(Phase::Running, true)]
        {
            let (sender, mut receiver) = watch::channel(known(Phase::Running, false));
            let begun = tokio::sync::Notify::new();
            let endless = async {
                begun.notify_one();
                std::future::pending::<()>().await;
            };
            let stop = async {
                begun.notified().await;
                // A change that is no stop changes nothing.
                sender.send_replace(known(Phase::Running, false));
                tokio::task::yield_now().await;
                sender.send_replace(last);
            };
            let (taken, ()) = tokio::join!(unless_stopped(&mut receiver, endless), stop);
            assert_eq!(taken, None);
        }
        let (sender, mut receiver) = watch::channel(known(Phase::Running, false));
        sender.send_replace(known(Phase::Running, false));
        assert_eq!(unless_stopped(&mut receiver, async { 7 }).await, Some(7));
    }
}
