//! Periodically removes what no workspace needs any more, and shows what cannot be removed.

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use runtime::readiness::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::coordinator::Instances;
use super::metrics::Meters;
use crate::operations::{Housekept, Operations};

/// Name of the part that readiness shows.
const PART: &str = "housekeeping";

/// Looks for leftovers.
pub struct Housekeeping {
    /// What finds and removes them.
    pub operations: Operations,
    /// The workspaces that are there.
    pub instances: watch::Receiver<Instances>,
    /// Between searches.
    pub interval: Duration,
    /// Counts them.
    pub meters: Meters,
    /// Shows failures.
    pub readiness: Readiness,
}

impl Housekeeping {
    /// Runs until the shutdown, once all workspaces are known.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let known = self.instances.wait_for(|instances| instances.is_complete);
        if shutdown.run_until_cancelled(known).await.is_none() {
            return Ok(());
        }
        loop {
            // Interrupted at the shutdown: what was begun is continued by the next agent.
            if shutdown.run_until_cancelled(self.once()).await.is_none()
                || shutdown.run_until_cancelled(tokio::time::sleep(self.interval)).await.is_none()
            {
                shutdown.cancelled().await;
                return Ok(());
            }
        }
    }

    async fn once(&self) {
        let ids = self.instances.borrow().ids.clone();
        match self.operations.housekeep(&ids, Timestamp::now()).await {
            Ok(found) => self.show(&found),
            Err(error) => {
                error!(%error, "housekeeping failed");
                self.readiness.degrade(PART, error.to_string());
            }
        }
    }

    fn show(&self, found: &Housekept) {
        self.readiness.recover(PART);
        self.meters.unproven.set(i64::try_from(found.unproven.len()).unwrap_or(i64::MAX));
        self.meters.removed.with_label_values(&["leftover"]).inc_by(found.removed);
        if found.removed > 0 || found.aborted_uploads > 0 {
            info!(folders = found.removed, uploads = found.aborted_uploads, "leftovers were removed");
        }
        for one in &found.unproven {
            warn!(
                instance = %one.instance,
                owner = one.owner.as_ref().map(domain::names::OwnerId::as_str),
                workspace = one.workspace.as_ref().map(domain::names::MetaId::as_str),
                folder = %one.folder.display(),
                reason = one.why,
                "content without a proven backup is kept on this node"
            );
        }
        for what in &found.broken {
            warn!(what, "a state file cannot be read; its content is kept");
        }
    }
}
