//! Use cases over all member clusters: start, stop, observe, register; the index and its subscribers.
//!
//! Rooms, from the ground up: [`view`] holds what is known of workspaces; [`fleet`] the member clusters;
//! [`workspaces`], [`clusters`] and [`stored`] the use cases, each a struct that is given what it needs; [`metrics`]
//! counts; [`leader`] holds what only the leader runs, and the watches of etcd. `wiring` builds them;
//! [`Federation`] holds what was built.
//!
//! A start: placement by a pure function over a snapshot of the fleet, the record in etcd, then the
//! cluster. Reads come from the index; writes need the leader's term and go to the owning cluster.

pub mod clusters;
pub mod error;
mod federation;
pub mod fleet;
pub mod leader;
pub mod leadership;
mod locks;
pub mod metrics;
mod periodic;
mod reason;
pub mod stored;
pub mod view;
mod wiring;
pub mod workspaces;

pub use clusters::incarnation::Standing;
/// Errors and faults of the object store, which the API maps to status codes too.
pub use content::store::{Error as ContentError, Fault as ContentFault};
pub use error::{Error, Result};
pub use federation::{Clusters, Federation, Stored, Watches, Workspaces};
pub use fleet::FleetOptions;
pub use fleet::settings::vet::vet;
pub use fleet::settings::{Defaults, Problem};
pub use leadership::{Lead, ReplicaName};
/// Errors of the rooms behind this one, which the API maps to status codes too.
pub use member::Error as ClusterError;
pub use metrics::fleet::{FleetMetricSet, FleetMetrics};
pub use metrics::metering::Meters;
pub use metrics::workspace_gauges::{WorkspaceGauges, WorkspaceMetricSet};
pub use store::Error as StoreError;
pub use wiring::{Options, Parts};
pub use workspaces::start::Started;
