//! The running agent: watches, one task a workspace, the label of the node, the disk guard and housekeeping.

mod api;
mod coordinator;
mod disk;
mod error;
mod housekeeping;
mod images;
mod label;
mod metrics;
mod operating;
mod progress;
mod quota;
mod secrets;
mod slots;
mod snapshot;
mod status;
mod storage;
mod watch;
mod work;
mod workspace;

use std::convert::Infallible;
use std::sync::Arc;

use runtime::readiness::Readiness;
use runtime::shutdown::Supervisor;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use api::Cluster;
pub use error::Error;
pub use metrics::Meters;
pub use secrets::TokenSecrets;

use self::api::Kind;
use self::coordinator::Coordinator;
use self::disk::DiskGuard;
use self::housekeeping::Housekeeping;
use self::label::Label;
use self::quota::QuotaGuard;
use self::slots::Slots;
use self::work::Work;
use crate::config::Config;
use crate::operations::Operations;
use crate::quota::Backend;

/// Changes that were watched and not handled yet. Watches wait while it is full.
const CHANGES: usize = 256;

/// What the agent consists of.
pub struct Agent {
    /// The configuration.
    pub config: Config,
    /// The apiserver.
    pub cluster: Cluster,
    /// What can be done with content.
    pub operations: Operations,
    /// What is counted.
    pub meters: Meters,
    /// Whether it is ready.
    pub readiness: Readiness,
}

/// Chooses the cryptography of TLS connections for the whole process.
pub fn install_tls() {
    // Fails if there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Agent {
    /// Starts all tasks.
    pub fn spawn(self, supervisor: &mut Supervisor) {
        let Self { config, cluster, operations, meters, readiness } = self;
        let shutdown = supervisor.token();
        let work = Arc::new(Work {
            cluster: cluster.clone(),
            operations: operations.clone(),
            slots: Slots::new(config.operations),
            meters: meters.clone(),
            measures: (config.quota.backend != Backend::None).then_some(config.quota.interval),
            stop: CancellationToken::new(),
        });
        let namespaces: Vec<_> = config.namespaces.iter().map(|one| one.namespace.clone()).collect();
        let coordinator = Coordinator::new(work, namespaces.iter().cloned());
        let instances = coordinator.instances();
        let (changes, received) = mpsc::channel(CHANGES);
        let grace = config.deadlines.shutdown;
        supervisor.spawn("workspaces", coordinator.run(received, grace, shutdown.clone()));
        for namespace in &namespaces {
            let source = watch::Source {
                cluster: cluster.clone(),
                namespace: namespace.clone(),
                changes: changes.clone(),
                readiness: readiness.clone(),
            };
            for (name, kind) in
                [("watch of workspaces", Kind::Workspace), ("watch of snapshots", Kind::Snapshot)]
            {
                let (source, token) = (source.clone(), shutdown.clone());
                supervisor.spawn(name, async move {
                    watch::run(source, kind, token).await;
                    Ok::<(), Infallible>(())
                });
            }
        }
        let is_full = tokio::sync::watch::Sender::new(false);
        let backend = config.quota.backend;
        let works = tokio::sync::watch::Sender::new(backend != Backend::BtrfsQgroup);
        let label = Label {
            backend,
            has_quota: works.subscribe(),
            cluster,
            namespaces,
            instances: instances.clone(),
            is_full: is_full.subscribe(),
            readiness: readiness.clone(),
            gate: readiness.gate("node"),
        };
        supervisor.spawn("label", label.run(shutdown.clone()));
        let guard = QuotaGuard {
            operations: operations.clone(),
            backend,
            readiness: readiness.clone(),
            gate: readiness.gate("storage quota"),
            works,
        };
        supervisor.spawn("storage quota", guard.run(shutdown.clone()));
        let guard = DiskGuard {
            path: config.host_path,
            min_free: config.min_free,
            operations: operations.clone(),
            meters: meters.clone(),
            readiness: readiness.clone(),
            is_full,
        };
        supervisor.spawn("disk guard", guard.run(shutdown.clone()));
        let housekeeping =
            Housekeeping { operations, instances, interval: config.housekeeping, meters, readiness };
        supervisor.spawn("housekeeping", housekeeping.run(shutdown));
    }
}
