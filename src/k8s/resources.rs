//! The custom resources of a member cluster: the contract with node agents, registry facades and proxies, of Spaceport or
//! not.
//!
//! Field names, types and rules are those of existing installations. Stricter rules (port range, unique ports, non-empty
//! owner) reject bad objects and accept every valid one.

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
pub use schema::{BASE64, rule_messages};
pub use seen_pod::{SeenCondition, SeenContainer, SeenContainerStatus, SeenPod, SeenPodSpec, SeenPodStatus};
pub use snapshot::{Snapshot, SnapshotSpec, SnapshotStatus};
pub use workspace::{
    Admission, Image, Initializer, Ownership, Port, Timeout, Workspace, WorkspaceImage, WorkspaceSpec,
};
pub use workspace_status::{
    ImageInfo, InitializerMetric, InitializerMetrics, OwnerToken, Runtime, Storage, WorkspaceStatus,
};
