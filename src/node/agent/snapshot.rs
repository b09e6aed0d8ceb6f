//! Takes one snapshot of a running workspace, and says in its Snapshot what came of it.

use k8s::resources::{Snapshot, Workspace};
use kube::ResourceExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::Error;
use super::work::Work;
use crate::helper::Progress;

/// Writes the URL first, because callers wait for that only; then stores the content, and completes the Snapshot. One that is
/// completed already is left as it is.
pub async fn take(work: &Work, workspace: &Workspace, snapshot: &Snapshot) -> Result<(), Error> {
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
