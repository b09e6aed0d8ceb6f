//! The label of the node that pods of workspaces require: there while the agent is ready and has space, gone otherwise.

use std::convert::Infallible;
use std::time::Duration;

use domain::names::Namespace;
use k8s::resources::names::{STORAGE_QUOTA, node_agent_ready};
use runtime::readiness::{Gate, Readiness};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::api::Cluster;
use super::coordinator::Instances;
use crate::quota::Backend;

/// Between writes: a Node that is created again has no label.
const AGAIN: Duration = Duration::from_mins(1);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Name of the part that readiness shows.
const PART: &str = "node label";

/// Keeps the label.
pub struct Label {
    /// The apiserver and the node.
    pub cluster: Cluster,
    /// Namespaces that are served: each has a label.
    pub namespaces: Vec<Namespace>,
    /// Set once all workspaces are known.
    pub instances: watch::Receiver<Instances>,
    /// How storage is limited; a label of its own says it.
    pub backend: Backend,
    /// Whether that works.
    pub has_quota: watch::Receiver<bool>,
    /// Whether too little space is free.
    pub is_full: watch::Receiver<bool>,
    /// Shows failures.
    pub readiness: Readiness,
    /// Released once the label is set.
    pub gate: Gate,
}

impl Label {
    /// Runs until the shutdown, and removes the label then.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let Self { cluster, namespaces, mut instances, backend, mut has_quota, mut is_full, readiness, gate } =
            self;
        let mut gate = Some(gate);
        let mut shown = None;
        let known = instances.wait_for(|instances| instances.is_complete);
        if shutdown.run_until_cancelled(known).await.is_none() {
            return Ok(());
        }
        while !shutdown.is_cancelled() {
            let wanted = !*is_full.borrow_and_update() && *has_quota.borrow_and_update();
            let wait = match set(&cluster, &namespaces, wanted, backend).await {
                Ok(()) => {
                    readiness.recover(PART);
                    if shown.replace(wanted) != Some(wanted) {
                        info!(ready = wanted, "the readiness label of the node is written");
                    }
                    if let Some(gate) = gate.take() {
                        gate.release();
                    }
                    AGAIN
                }
                Err(error) => {
                    warn!(%error, "failed to write the readiness label of the node; trying again");
                    readiness.degrade(PART, error.to_string());
                    RETRY
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                // An error means that a guard ended, which is the shutdown.
                _ = is_full.changed() => {}
                _ = has_quota.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        match set(&cluster, &namespaces, false, backend).await {
            Ok(()) => info!(ready = false, "the readiness label of the node is written"),
            Err(error) => warn!(%error, "failed to remove the readiness label of the node"),
        }
        Ok(())
    }
}

async fn set(
    cluster: &Cluster,
    namespaces: &[Namespace],
    is_ready: bool,
    backend: Backend,
) -> Result<(), super::error::Error> {
    let value = is_ready.then_some("true");
    let mut labels: Vec<_> = namespaces.iter().map(|one| (node_agent_ready(one.as_str()), value)).collect();
    labels.push((STORAGE_QUOTA.to_owned(), Some(backend.name())));
    cluster.label(&labels).await
}
