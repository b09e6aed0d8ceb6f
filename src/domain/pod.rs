//! What the controller needs to know of a pod and its node. Kept instead of the whole objects: a pod as Kubernetes
//! gives it is 8 KiB and more, its facts are some hundred bytes.

mod event;
mod log;
mod position;

use jiff::Timestamp;

pub use event::{EventQuery, PodEvent, last_relevant};
pub use log::{LogOptions, pod_with_log};
pub use position::{BadPosition, Position, Untimed};

/// A pod, reduced to what decides about its workspace.
#[derive(Debug, Clone, PartialEq)]
pub struct PodFacts {
    /// Name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Name of the Workspace that owns it as controller.
    pub workspace: String,
    /// Uid of that Workspace, so that a pod of an earlier one of the same name is told apart.
    pub workspace_uid: String,
    /// `status.phase`.
    pub phase: PodPhase,
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// `spec.nodeName`, once scheduled.
    pub node_name: Option<String>,
    /// `status.podIP`.
    pub pod_ip: Option<String>,
    /// `status.hostIP`.
    pub host_ip: Option<String>,
    /// `metadata.deletionTimestamp`.
    pub deleting_since: Option<Timestamp>,
    /// Whether our finalizer is on it.
    pub has_finalizer: bool,
    /// Finalizers of others.
    pub held_by: Vec<String>,
    /// Why the scheduler finds no node: message of `PodScheduled` False.
    pub unschedulable: Option<String>,
    /// Why the platform ends it: reason and message of `DisruptionTarget` True (preemption, eviction, taints, node
    /// shutdown).
    pub disruption: Option<(String, String)>,
    /// Statuses of containers; those of init containers and ephemeral ones are left out.
    pub containers: Vec<ContainerFacts>,
    /// Statuses of init containers, in their order.
    pub init_containers: Vec<ContainerFacts>,
    /// Whether the kubelet reported every container terminated: each of the pod's has a status that says so, and no init or
    /// ephemeral container runs; or it refused the pod, and none ever ran.
    pub all_terminated: bool,
}

/// `status.phase` of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PodPhase {
    /// Not all containers were started yet.
    Pending,
    /// Bound to a node, at least one container runs.
    Running,
    /// All containers ended with exit code 0.
    Succeeded,
    /// All containers ended, at least one in failure, or the node refused it.
    Failed,
    /// Cannot be told.
    #[default]
    Unknown,
}

/// A container's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Name; the one that matters most is `workspace`.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Its state.
    pub state: ContainerState,
    /// How it ended before, where it was started again.
    pub last_termination: Option<Termination>,
}

/// A container's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Not started.
    Waiting {
        /// Such as `ContainerCreating` or `ErrImagePull`.
        reason: String,
        /// Detail.
        message: String,
    },
    /// Started.
    Running,
    /// Ended.
    Terminated(Termination),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// Exit code.
    pub exit_code: i32,
    /// Such as `Completed`, `Error` or `OOMKilled`.
    pub reason: String,
    /// What it left as its termination message.
    pub message: String,
}

/// A node, reduced likewise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name.
    pub name: String,
    /// Whether it has any taint.
    pub tainted: bool,
    /// Whether `Ready` is True.
    pub ready: bool,
    /// Whether its kubelet does not answer: `Ready` is Unknown, or the taint for that is on it.
    pub unreachable: bool,
    /// What its labels say it is for: `regular`, `headless`, or nothing of ours.
    pub workload: Option<&'static str>,
}
