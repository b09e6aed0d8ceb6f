//! Asks a cluster for the last event of a pod, when its workspace has just failed. Healthy workspaces cost no call.

use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::debug;

use domain::pod::{EventQuery, PodEvent, last_relevant};
use member::apply::Writer;

/// Questions at once in a namespace: an apiserver answers each by going through the namespace's events. Who finds no
/// place goes without.
const AT_ONCE: usize = 4;
/// For an answer. The failure is told with it or without.
const WITHIN: Duration = Duration::from_secs(2);

/// Asks, a few at a time.
pub(super) struct Evidence(Semaphore);

impl Default for Evidence {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Evidence {
    /// The event that says most; none where the cluster does not say in time.
    pub async fn find(&self, writer: &Writer, query: &EventQuery) -> Option<PodEvent> {
        let _place = self.0.try_acquire().ok()?;
        match tokio::time::timeout(WITHIN, writer.pod_events(query)).await {
            Ok(Ok(events)) => last_relevant(events, query),
            Ok(Err(error)) => {
                debug!(%error, "a failure is told without the pod's last event");
                None
            }
            Err(_) => None,
        }
    }
}
