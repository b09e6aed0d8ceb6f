//! What the federation is built of.

use std::time::Duration;

use crate::fleet::FleetOptions;
use crate::leadership::ReplicaName;
use crate::metrics::metering::Meters;
use store::{Installation, Sealer, Store};

/// Limits of the use cases.
#[derive(Debug, Clone)]
pub struct Options {
    /// For placing one workspace, all clusters tried included.
    pub placement_deadline: Duration,
    /// How long an ended workspace's id stays taken.
    pub tombstone_life: Duration,
    /// How old a secret without a workspace gets before it is swept.
    pub leftover_age: Duration,
    /// Image builder of namespaces whose cluster file names none: host and port.
    pub image_builder: Option<String>,
}

/// What the federation is built of.
pub struct Parts {
    /// etcd.
    pub store: Store,
    /// Seals what etcd keeps secret.
    pub sealer: Sealer,
    /// As etcd has it at the start.
    pub installation: Installation,
    /// This replica.
    pub us: ReplicaName,
    /// Limits.
    pub options: Options,
    /// Of every member cluster.
    pub fleet: FleetOptions,
    /// Counts workspaces.
    pub meters: Meters,
    /// The object store of workspaces' content, if there is one.
    pub content: Option<content::store::Settings>,
    /// Places in a subscriber's buffer.
    pub subscriber_buffer: usize,
}
