//! A member as a whole.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::cluster::ClusterSpec;
use crate::domain::health::Limits as HealthLimits;
use crate::domain::names::{ClusterName, Namespace};

use super::apply::{Permit, Writer};
use super::cache::{NamespaceCache, NodeCache, Observer};
use super::client::{Fence, Limits};
use super::error::Result;
use super::maintenance::Maintenance;
use super::probe::HealthCell;

/// What is the same for every member.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// Limits of its client.
    pub limits: Limits,
    /// When its health changes.
    pub health: HealthLimits,
    /// How often it is probed.
    pub probe_period: Duration,
    /// How long a probe waits.
    pub probe_deadline: Duration,
    /// Name of the maintenance ConfigMap.
    pub maintenance_name: String,
}

/// One cluster.
pub struct Member {
    spec: ClusterSpec,
}

#[allow(unused_variables, clippy::unused_async)]
impl Member {
    /// Makes the client and empty caches; nothing is sent before [`Member::run`].
    pub fn connect(
        spec: ClusterSpec,
        kubeconfig: &str,
        options: MemberOptions,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Result<Self> {
        todo!()
    }
    /// Watches and probes until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        todo!()
    }
    /// Its name.
    pub fn name(&self) -> &ClusterName {
        &self.spec.name
    }
    /// The client, for reads that nothing here covers.
    pub fn client(&self) -> &kube::Client {
        todo!()
    }
    /// The cache of a namespace of the cluster.
    pub fn cache(&self, namespace: &str) -> Option<&Arc<NamespaceCache>> {
        todo!()
    }
    /// Its nodes.
    pub fn nodes(&self) -> &Arc<NodeCache> {
        todo!()
    }
    /// Its health.
    pub fn health(&self) -> &Arc<HealthCell> {
        todo!()
    }
    /// Maintenance of a namespace.
    pub fn maintenance(&self, namespace: &str) -> Option<&Arc<Maintenance>> {
        todo!()
    }
    /// Writes to a namespace, while `permit` allows it.
    pub fn writer(&self, namespace: &Namespace, permit: Permit) -> Writer {
        todo!()
    }
    /// The epoch stamped on its calls.
    pub fn fence(&self) -> &Fence {
        todo!()
    }
    /// Whether every watch has listed at least once.
    pub fn is_synced(&self) -> bool {
        todo!()
    }
}
