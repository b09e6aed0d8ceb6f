//! Limits that the configuration sets for workspaces.

use std::time::Duration;

/// Timeouts of a workspace, each with its start. Zero means at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Creating and initializing, since the creation; also for a workspace that nobody ever opened.
    pub startup: Duration,
    /// Pending, since the creation.
    pub initialization: Duration,
    /// A container that the kubelet cannot create or start, since its first failure.
    pub container_start: Duration,
    /// Since the last activity.
    pub regular_workspace: Duration,
    /// Since the creation, whatever happens.
    pub max_lifetime: Duration,
    /// A headless workspace, since the creation.
    pub headless_workspace: Duration,
    /// Since the last activity, once the user closed the workspace.
    pub after_close: Duration,
    /// The backup, since the stop.
    pub content_finalization: Duration,
    /// Termination of the pod, since the stop.
    pub stopping: Duration,
    /// Since the state of the pod is unknown.
    pub interrupted: Duration,
}

impl Default for Timeouts {
    /// Defaults of the configuration.
    fn default() -> Self {
        Self {
            startup: Duration::from_hours(1),
            initialization: Duration::from_mins(30),
            container_start: Duration::from_mins(5),
            regular_workspace: Duration::from_mins(30),
            max_lifetime: Duration::from_hours(36),
            headless_workspace: Duration::from_hours(1),
            after_close: Duration::from_mins(2),
            content_finalization: Duration::from_hours(1),
            stopping: Duration::from_hours(1),
            interrupted: Duration::from_mins(5),
        }
    }
}

/// Recreation of a pod that its node refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recreation {
    /// Maximum number of recreations.
    pub max_retries: u32,
    /// Delay before each.
    pub backoff: Duration,
}

impl Default for Recreation {
    fn default() -> Self {
        Self { max_retries: 3, backoff: Duration::from_secs(15) }
    }
}
