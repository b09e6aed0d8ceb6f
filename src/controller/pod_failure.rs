//! Reads the last event of a pod whose workspace has just failed, for the failure message. Healthy workspaces cost no call.

use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::debug;

use domain::pod::{EventQuery, PodEvent, last_relevant};
use member::apply::Writer;

/// Concurrent requests of a namespace: an apiserver answers each by scanning the namespace's events. Beyond that, failures
/// are reported without an event.
const CONCURRENCY: usize = 4;
/// Deadline of a request. The failure is reported with the event or without.
const DEADLINE: Duration = Duration::from_secs(2);

/// Reads events, at most [`CONCURRENCY`] at a time.
pub(super) struct FailureEvents(Semaphore);

impl Default for FailureEvents {
    fn default() -> Self {
        Self(Semaphore::new(CONCURRENCY))
    }
}

impl FailureEvents {
    /// The event that says most; `None` if there is none or the cluster does not answer in time.
    pub async fn find(&self, writer: &Writer, query: &EventQuery) -> Option<PodEvent> {
        let _permit = self.0.try_acquire().ok()?;
        match tokio::time::timeout(DEADLINE, writer.pod_events(query)).await {
            Ok(Ok(events)) => last_relevant(events, query),
            Ok(Err(error)) => {
                debug!(%error, "failed to read the pod's events; the failure is reported without one");
                None
            }
            Err(_) => None,
        }
    }
}
