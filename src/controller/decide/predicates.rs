//! Predicates over the status and the spec of a workspace: whether it must end, and whether its content needs more.

use domain::duration::GoDuration;
use domain::workspace::Kind;
use k8s::resources::conditions;
use k8s::resources::{Workspace, WorkspaceStatus};

/// Whether the node refused the pod of this attempt.
pub(super) fn is_refused(status: &WorkspaceStatus) -> bool {
    status.is_true(conditions::POD_REJECTED)
}

/// Whether the workspace must end: it failed, was stopped or timed out, its node is gone, or it is being deleted.
pub(super) fn is_doomed(status: &WorkspaceStatus, workspace: &Workspace) -> bool {
    let refused = is_refused(status);
    // A pod that a node refused can run on another node.
    let node_lost = status.is_true(conditions::NODE_DISAPPEARED) && !refused;
    workspace.metadata.deletion_timestamp.is_some()
        || node_lost
        || [conditions::FAILED, conditions::STOPPED_BY_REQUEST, conditions::TIMEOUT]
            .iter()
            .any(|kind| status.is_true(kind))
}

/// Whether the content needs nothing more: it is backed up, cannot be, or need not be.
pub(super) fn is_finished(status: &WorkspaceStatus, kind: Kind) -> bool {
    if is_refused(status) {
        return status.condition(conditions::STATE_WIPED).is_some()
            || status.is_true(conditions::NODE_DISAPPEARED);
    }
    kind == Kind::ImageBuild
        || !status.is_true(conditions::CONTENT_READY)
        || [
            conditions::BACKUP_COMPLETE,
            conditions::BACKUP_FAILURE,
            conditions::ABORTED,
            conditions::NODE_DISAPPEARED,
        ]
        .iter()
        .any(|kind| status.is_true(kind))
}

/// Grace period of the stop request in seconds; `None` for the pod's own.
pub(super) fn grace(status: &WorkspaceStatus) -> Option<u32> {
    let stop = status.condition(conditions::STOPPED_BY_REQUEST).filter(|stop| stop.status == "True")?;
    let grace = stop.message.parse::<GoDuration>().ok()?.to_std().ok()?;
    u32::try_from(grace.as_secs()).ok()
}

/// Whether the content is backed up, or there is none to keep.
pub(super) fn is_safe(status: &WorkspaceStatus, kind: Kind) -> bool {
    let is = |kinds: &[&str]| kinds.iter().any(|kind| status.is_true(kind));
    if is_refused(status) {
        return is(&[conditions::STATE_WIPED, conditions::NODE_DISAPPEARED]);
    }
    kind == Kind::ImageBuild
        || !is(&[conditions::CONTENT_READY])
        || is(&[conditions::BACKUP_COMPLETE, conditions::ABORTED])
}
