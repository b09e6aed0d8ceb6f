//! Checks that storage can be limited as configured. The node takes no workspaces while it cannot: none falls back to another backend.

use std::convert::Infallible;
use std::time::Duration;

use runtime::readiness::{Gate, Readiness};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::operations::Operations;
use crate::quota::Backend;

/// Between checks.
const LOOK: Duration = Duration::from_secs(30);
/// Name of the part that readiness shows.
const PART: &str = "storage quota";

/// Checks one node.
pub struct QuotaGuard {
    /// What is checked.
    pub operations: Operations,
    /// As configured.
    pub backend: Backend,
    /// Shows failures.
    pub readiness: Readiness,
    /// Released once it works.
    pub gate: Gate,
    /// Whether it does.
    pub works: watch::Sender<bool>,
}

impl QuotaGuard {
    /// Runs until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let Self { operations, backend, readiness, gate, works } = self;
        let (mut gate, mut shown) = (Some(gate), None);
        while let Some(checked) = shutdown.run_until_cancelled(operations.check_quota()).await {
            works.send_if_modified(|before| std::mem::replace(before, checked.is_ok()) != checked.is_ok());
            match &checked {
                Ok(()) => {
                    readiness.recover(PART);
                    if let Some(gate) = gate.take() {
                        gate.release();
                    }
                    if shown.as_ref() != Some(&checked) {
                        info!(%backend, "the storage quota of the node works");
                    }
                }
                Err(why) => {
                    readiness.degrade(PART, why.clone());
                    if shown.as_ref() != Some(&checked) {
                        error!(%backend, why, "the storage quota does not work: the node takes no new workspaces");
                    }
                }
            }
            shown = Some(checked);
            if shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                break;
            }
        }
        shutdown.cancelled().await;
        Ok(())
    }
}
