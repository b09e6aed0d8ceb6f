//! Types and reasons of a Workspace's conditions, grouped by writer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

// Written by the workspace controller.

/// True from the first time that the pod is seen.
pub const DEPLOYED: &str = "Deployed";
/// True with the failure's text; never taken back.
pub const FAILED: &str = "Failed";
/// True with the failure's text while the kubelet refuses the pod; False while and after it is made again.
pub const POD_REJECTED: &str = "PodRejected";
/// True with a task's termination message.
pub const HEADLESS_TASK_FAILED: &str = "HeadlessTaskFailed";
/// True from the first time that the workspace runs.
pub const EVER_READY: &str = "EverReady";
/// True when the node of the pod is gone.
pub const NODE_DISAPPEARED: &str = "NodeDisappeared";
/// Whether the container `workspace` runs; the node agent waits for False before it backs up.
pub const WORKSPACE_CONTAINER_RUNNING: &str = "WorkspaceContainerRunning";
/// True with the text of the limit that was reached.
pub const TIMEOUT: &str = "Timeout";
/// True while the kubelet cannot create or start the container; its transition is the clock of the limit for that.
pub const CONTAINER_START_FAILING: &str = "ContainerStartFailing";
/// True while the pod's node is not ready or its kubelet does not answer: what is known of the pod was true before that.
pub const NODE_NOT_READY: &str = "NodeNotReady";
/// True while finalizers of others hold the pod of a workspace that is over.
pub const POD_HELD: &str = "PodHeld";
/// True while the cluster refuses a write that the workspace waits for, with what it refuses and why.
pub const WRITE_REFUSED: &str = "WriteRefused";

// Written for a call.

/// Since when a user has been seen: the transition time.
pub const FIRST_USER_ACTIVITY: &str = "FirstUserActivity";
/// Whether the user closed the workspace.
pub const CLOSED: &str = "Closed";
/// True with the grace time as a Go duration.
pub const STOPPED_BY_REQUEST: &str = "StoppedByRequest";
/// True where no backup is wanted.
pub const ABORTED: &str = "Aborted";

// Written by the node agent.

/// Whether content was initialised; False with the failure's text.
pub const CONTENT_READY: &str = "ContentReady";
/// True when the backup is complete.
pub const BACKUP_COMPLETE: &str = "BackupComplete";
/// True with the failure's text; the controller writes it too, where the node is gone.
pub const BACKUP_FAILURE: &str = "BackupFailure";
/// Whether the content of a rejected pod was wiped.
pub const STATE_WIPED: &str = "StateWiped";
/// True where the workspace had to be killed before its backup.
pub const FORCE_KILLED_TASK: &str = "ForceKilledTask";
/// True while an initialisation or a backup takes long, with what it does at the moment; False once it ended.
pub const CONTENT_PROGRESS: &str = "ContentProgress";
/// True with a sentence while the storage of the workspace is full; False once it has space again.
pub const STORAGE_FULL: &str = "StorageFull";
/// Probe of existing node agents for a stale cache; means nothing to us.
pub const REFRESH: &str = "Refresh";

/// Reasons of conditions.
pub mod reason {
    /// Of what has no reason of its own: the schema asks for one.
    pub const UNKNOWN: &str = "Unknown";
    /// Of [`TIMEOUT`](super::TIMEOUT).
    pub const TIMED_OUT: &str = "TimedOut";
    /// Of what MarkActive writes.
    pub const MARK_ACTIVE_REQUEST: &str = "MarkActiveRequest";
    /// Of what StopWorkspace writes.
    pub const STOP_WORKSPACE_REQUEST: &str = "StopWorkspaceRequest";
    /// Of [`CONTENT_READY`](super::CONTENT_READY) when True.
    pub const INITIALIZATION_SUCCESS: &str = "InitializationSuccess";
    /// Of [`CONTENT_READY`](super::CONTENT_READY) when False.
    pub const INITIALIZATION_FAILURE: &str = "InitializationFailure";
    /// Of [`BACKUP_COMPLETE`](super::BACKUP_COMPLETE).
    pub const BACKUP_COMPLETE: &str = "BackupComplete";
    /// Of [`BACKUP_FAILURE`](super::BACKUP_FAILURE).
    pub const BACKUP_FAILED: &str = "BackupFailed";
    /// Of [`STORAGE_FULL`](super::STORAGE_FULL) when True.
    pub const QUOTA_REACHED: &str = "QuotaReached";
    /// Of [`STORAGE_FULL`](super::STORAGE_FULL) when False.
    pub const BELOW_QUOTA: &str = "BelowQuota";
    /// Of [`WORKSPACE_CONTAINER_RUNNING`](super::WORKSPACE_CONTAINER_RUNNING) False while its image cannot be pulled, but
    /// may be yet.
    pub const IMAGE_PULL_FAILING: &str = "ImagePullFailing";
    /// Likewise while no node fits.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// Likewise while the cluster does not take the pod.
    pub const POD_NOT_CREATED: &str = "PodNotCreated";
    /// Likewise while the kubelet cannot create or start the container, or an init container before it.
    pub const CONTAINER_NOT_STARTED: &str = "ContainerNotStarted";
    /// Of [`NODE_NOT_READY`](super::NODE_NOT_READY) where the kubelet itself says so.
    pub const NOT_READY: &str = "NotReady";
    /// Of [`NODE_NOT_READY`](super::NODE_NOT_READY) where the kubelet does not answer.
    pub const UNREACHABLE: &str = "Unreachable";
    /// Of [`POD_HELD`](super::POD_HELD).
    pub const FOREIGN_FINALIZER: &str = "ForeignFinalizer";
    /// Of [`WRITE_REFUSED`](super::WRITE_REFUSED): the deletion of the pod.
    pub const POD_NOT_DELETED: &str = "PodNotDeleted";
    /// Of [`WRITE_REFUSED`](super::WRITE_REFUSED): the removal of the manager's finalizer from the pod.
    pub const POD_NOT_RELEASED: &str = "PodNotReleased";
    /// Of [`WRITE_REFUSED`](super::WRITE_REFUSED): the deletion of the Secrets.
    pub const SECRETS_NOT_DELETED: &str = "SecretsNotDeleted";
    /// Of [`WRITE_REFUSED`](super::WRITE_REFUSED): the removal of the manager's finalizer from the Workspace.
    pub const WORKSPACE_NOT_RELEASED: &str = "WorkspaceNotReleased";
    /// Of [`WRITE_REFUSED`](super::WRITE_REFUSED): the deletion of the Workspace.
    pub const WORKSPACE_NOT_DELETED: &str = "WorkspaceNotDeleted";
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition of a type is there and True.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}
