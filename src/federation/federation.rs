//! What the wiring builds: the use cases, for the API to take what each service needs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clusters::classes::Classes;
use crate::clusters::cordon::Cordons;
use crate::clusters::deregister::Deregistration;
use crate::clusters::doctor::Doctor;
use crate::clusters::drain::Drains;
use crate::clusters::incarnation::Incarnations;
use crate::clusters::install::Installer;
use crate::clusters::installation_secret::InstallationSecret;
use crate::clusters::maintenance::Maintenance;
use crate::clusters::register::Registration;
use crate::clusters::status::Overviews;
use crate::clusters::update::Updates;
use crate::clusters::view::Views;
use crate::clusters::watch::ClusterWatches;
use crate::fleet::Fleet;
use crate::leader::etcd_watch::{DrainWatch, PlacementWatch, RegistrationWatch};
use crate::leader::progress::WatchProgress;
use crate::leader::tasks::Leader;
use crate::leadership::Leadership;
use crate::metrics::fleet::FleetSources;
use crate::metrics::metering::Meters;
use crate::stored::backups::Backups;
use crate::stored::blobs::Blobs;
use crate::stored::deletion::Deletion;
use crate::stored::reads::StoredReads;
use crate::view::index::Index;
use crate::workspaces::adopt::Adopting;
use crate::workspaces::adopt::Discarding;
use crate::workspaces::builders::Builders;
use crate::workspaces::changes::Changes;
use crate::workspaces::diff::Comparison;
use crate::workspaces::explain::Explanations;
use crate::workspaces::forget::GivingUp;
use crate::workspaces::logs::Logs;
use crate::workspaces::queries::Queries;
use crate::workspaces::sessions::Sessions;
use crate::workspaces::snapshots::Snapshots;
use crate::workspaces::start::Starts;
use store::Store;

/// Use cases about workspaces.
pub struct Workspaces {
    /// Reads.
    pub queries: Arc<Queries>,
    /// Starts.
    pub starts: Arc<Starts>,
    /// Stops and other changes.
    pub changes: Arc<Changes>,
    /// Snapshots.
    pub snapshots: Arc<Snapshots>,
    /// Logs.
    pub logs: Arc<Logs>,
    /// Commands in containers, and connections to ports.
    pub sessions: Arc<Sessions>,
    /// Image builders.
    pub builders: Arc<Builders>,
    /// Explained and forecast placements.
    pub explanations: Arc<Explanations>,
    /// Clusters compared with the placement records.
    pub comparison: Arc<Comparison>,
    /// Adoption.
    pub adopting: Arc<Adopting>,
    /// Resources without a record that are discarded.
    pub discarding: Arc<Discarding>,
    /// Workspaces that are given up with their cluster.
    pub giving_up: Arc<GivingUp>,
}

/// Use cases about member clusters and the installation.
pub struct Clusters {
    /// As they are shown.
    pub views: Arc<Views>,
    /// Classes that they offer.
    pub classes: Arc<Classes>,
    /// Watches of them.
    pub watches: Arc<ClusterWatches>,
    /// Registering.
    pub registration: Arc<Registration>,
    /// Changing.
    pub updates: Arc<Updates>,
    /// Cordoning.
    pub cordons: Arc<Cordons>,
    /// Deregistering.
    pub deregistration: Arc<Deregistration>,
    /// Checks.
    pub doctor: Arc<Doctor>,
    /// Preparing a cluster.
    pub installer: Arc<Installer>,
    /// Draining.
    pub drains: Arc<Drains>,
    /// Maintenance of namespaces.
    pub maintenance: Arc<Maintenance>,
    /// Lives of etcd.
    pub incarnations: Arc<Incarnations>,
    /// The installation's secret.
    pub secret: Arc<InstallationSecret>,
    /// The whole installation on one page.
    pub overviews: Arc<Overviews>,
}

/// Use cases about stored content.
pub struct Stored {
    /// Lists of backups.
    pub backups: Arc<Backups>,
    /// Downloads.
    pub reads: Arc<StoredReads>,
    /// Blobs and IDE plug-ins.
    pub blobs: Arc<Blobs>,
    /// Deletions.
    pub deletion: Arc<Deletion>,
}

/// Watches of etcd, to be run on every replica.
pub struct Watches {
    /// Placement records.
    pub placements: Arc<PlacementWatch>,
    /// Drains.
    pub drains: Arc<DrainWatch>,
    /// Registrations.
    pub registrations: Arc<RegistrationWatch>,
    /// How far they are.
    pub progress: Arc<WatchProgress>,
}

/// The use cases of a process, shared by all requests.
pub struct Federation {
    /// Who leads.
    pub leadership: Arc<Leadership>,
    /// etcd.
    pub store: Store,
    /// What is known of workspaces.
    pub index: Arc<Index>,
    /// The member clusters.
    pub fleet: Arc<Fleet>,
    /// Counts workspaces.
    pub meters: Meters,
    /// About workspaces.
    pub workspaces: Workspaces,
    /// About clusters.
    pub clusters: Clusters,
    /// About stored content.
    pub stored: Stored,
    /// To be run on every replica.
    pub watches: Watches,
    /// To be run on every replica; it leads while it is elected.
    pub leader: Arc<Leader>,
    /// What is measured of the fleet.
    pub measured: FleetSources,
    /// Cancelled when the shutdown begins.
    pub closing: CancellationToken,
}

impl std::fmt::Debug for Federation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Federation").field("us", self.leadership.replica()).finish_non_exhaustive()
    }
}
