//! Implements what the fleet asks of its caller, by the use cases above it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::Result;
use crate::clusters::notes::Notes;
use crate::clusters::verify::examine;
use crate::fleet::callbacks::{Callbacks, Login, MemberObserver};
use crate::leadership::Leading;
use crate::metrics::metering::{Meter, Meters};
use crate::workspaces::settle::queue::Queue;
use domain::cluster::ClusterSpec;
use domain::names::{ClusterName, WorkspaceId};
use onboarding::checks::Examined;

/// What the fleet is given of the use cases above it.
pub(crate) struct FleetCallbacks {
    pub(crate) installation: Arc<str>,
    pub(crate) meters: Meters,
    pub(crate) terms: watch::Receiver<Option<Leading>>,
    pub(crate) queue: Queue,
    pub(crate) notes: Arc<Notes>,
}

impl Callbacks for FleetCallbacks {
    fn observer(&self, cluster: &ClusterName) -> Arc<dyn MemberObserver> {
        let (installation, terms) = (Arc::clone(&self.installation), self.terms.clone());
        Arc::new(Meter::new(cluster.clone(), installation, self.meters.clone(), terms))
    }

    fn recheck(&self, workspace: &WorkspaceId) {
        self.queue.push(workspace);
    }

    fn noted_canary(&self, cluster: &ClusterName) -> Option<u64> {
        self.notes.get(cluster).and_then(|observed| observed.canary)
    }

    fn examine<'a>(
        &'a self,
        spec: &'a ClusterSpec,
        login: Login<'a>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Examined>> {
        Box::pin(examine(spec, login, &self.installation, &[], deadline))
    }
}
