//! The fields of pods and nodes that the controller uses. The caches hold them instead of whole objects: a pod has 8 KiB and
//! more, its facts some hundred bytes.

mod event;
mod log;
mod position;
mod session;

use jiff::Timestamp;

pub use event::{EventQuery, PodEvent, last_relevant};
pub use log::{LogOptions, pod_with_log};
pub use position::{BadPosition, Position, Untimed};
pub use session::pod_with_session;

/// Name of the container that the user works in; the others of a pod are a template's or a webhook's.
pub const WORKSPACE_CONTAINER: &str = "workspace";

/// The fields of a pod that decide about its workspace.
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
    /// Uid of that Workspace: distinguishes pods of an earlier one of the same name.
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
    /// Whether it has the manager's finalizer.
    pub has_finalizer: bool,
    /// Foreign finalizers.
    pub held_by: Vec<String>,
    /// Why the scheduler finds no node: message of `PodScheduled` False.
    pub unschedulable: Option<String>,
    /// Why the platform terminates it: reason and message of `DisruptionTarget` True (preemption, eviction, taints, node
    /// shutdown).
    pub disruption: Option<(String, String)>,
    /// Names of its containers, if its specification has none of the name [`WORKSPACE_CONTAINER`]; empty otherwise.
    pub only_others: Vec<String>,
    /// Statuses of containers, without init and ephemeral containers.
    pub containers: Vec<ContainerFacts>,
    /// Statuses of init containers, in their order.
    pub init_containers: Vec<ContainerFacts>,
    /// Whether the kubelet reported that all containers terminated: each container has such a status, and no init or
    /// ephemeral container runs. Also if it refused the pod, so that none ever ran.
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
    /// Not known.
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
    /// Its last termination, if it was restarted.
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
    /// Termination message.
    pub message: String,
}

/// The fields of a node that decide about its workspaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name.
    pub name: String,
    /// Whether it has any taint.
    pub tainted: bool,
    /// Whether `Ready` is True.
    pub ready: bool,
    /// Whether its kubelet does not answer: `Ready` is Unknown, or it has the taint for that.
    pub unreachable: bool,
    /// Kind of workspaces by its labels: `regular`, `headless`, or `None`.
    pub workload: Option<&'static str>,
}
