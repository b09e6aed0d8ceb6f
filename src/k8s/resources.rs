//! The custom resources of a member cluster: the contract with node agents, registry facades and proxies, of which
//! ours are only one kind.
//!
//! Field names, types and rules are those that exist; what is stricter here (port range, unique ports, non-empty
//! owner) keeps bad objects out without touching good ones.

pub mod conditions;
mod crd;
mod env;
pub mod names;
mod schema;
mod seen_pod;
mod snapshot;
mod workspace;
mod workspace_status;

#[cfg(test)]
mod tests;

pub use crd::{crds, to_yaml};
pub use env::EnvVar;
pub(super) use schema::BASE64;
pub use schema::rule_messages;
pub use seen_pod::{SeenCondition, SeenContainer, SeenContainerStatus, SeenPod, SeenPodSpec, SeenPodStatus};
pub use snapshot::{Snapshot, SnapshotSpec, SnapshotStatus};
pub use workspace::{
    Admission, AdmissionLevel, Git, IdeImage, Image, Initializer, Ownership, Port, PortProtocol, Timeout,
    Workspace, WorkspaceImage, WorkspaceSpec, WorkspaceType,
};
pub use workspace_status::{
    GitStatus, ImageInfo, InitializerMetric, InitializerMetrics, OwnerToken, Phase, Runtime, Storage,
    WorkspaceStatus,
};
