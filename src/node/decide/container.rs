//! Whether the container of a workspace can still change its content.

use jiff::{SignedDuration, Timestamp};
use k8s::resources::WorkspaceStatus;
use k8s::resources::conditions::{FORCE_KILLED_TASK, WORKSPACE_CONTAINER_RUNNING};

/// From the beginning of the stop until the container is killed, as existing agents do.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// From the kill until the container is taken to be gone.
const AFTER_KILL: SignedDuration = SignedDuration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Gone,
    /// Until when it is waited for; `None` until the status changes.
    Running(Option<Timestamp>),
    /// It has to be killed.
    Stuck,
}

impl Container {
    pub(super) fn of(status: &WorkspaceStatus, is_deleted: bool, now: Timestamp) -> Self {
        // The controller keeps the resource until the pod is gone.
        if is_deleted || !status.is_true(WORKSPACE_CONTAINER_RUNNING) {
            return Self::Gone;
        }
        let killed = status.condition(FORCE_KILLED_TASK).filter(|condition| condition.status == "True");
        if let Some(killed) = killed {
            return Self::after(killed.last_transition_time.0, AFTER_KILL, now, Self::Gone);
        }
        match &status.pod_stopping_time {
            Some(began) => Self::after(began.0, PATIENCE, now, Self::Stuck),
            None => Self::Running(None),
        }
    }

    fn after(began: Timestamp, wait: SignedDuration, now: Timestamp, then: Self) -> Self {
        match began.checked_add(wait) {
            Ok(until) if now < until => Self::Running(Some(until)),
            _ => then,
        }
    }
}
