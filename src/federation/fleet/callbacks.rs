//! What the fleet asks of whoever runs it, and what it reports to them.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::Result;
use domain::cluster::ClusterSpec;
use domain::names::{ClusterName, WorkspaceId};
use member::cache::Observer;
use onboarding::checks::Examined;

/// Observes the workspaces of one member cluster, beside the index and the controllers.
pub trait MemberObserver: Observer + Any {}

/// How a cluster is reached, and which one it must be where that is known.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// A kubeconfig, as text.
    pub kubeconfig: &'a str,
    /// Uid of the namespace `kube-system` that it must lead to.
    pub uid: Option<&'a str>,
}

/// Whoever runs the fleet.
pub trait Callbacks: Send + Sync {
    /// An observer for a new connection to a member cluster.
    fn observer(&self, cluster: &ClusterName) -> Arc<dyn MemberObserver>;

    /// The placement record of a workspace may not agree with its resource: the leader is to compare them.
    fn recheck(&self, workspace: &WorkspaceId);

    /// Version of the canary that a leader noted last of a cluster.
    fn noted_canary(&self, cluster: &ClusterName) -> Option<u64>;

    /// Checks live whether a login leads to the cluster and may do there what it must. `deadline`: for one health probe.
    fn examine<'a>(
        &'a self,
        spec: &'a ClusterSpec,
        login: Login<'a>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Examined>>;
}
