//! The phase table: `docs/phases.md`, row by row and in its order.

use domain::workspace::Phase;

/// Input of the table: one field for each column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a column of the table")]
pub struct Facts {
    /// The pod.
    pub pod: PodState,
    /// The observed phase.
    pub phase: Phase,
    /// Whether the workspace is headless: it ends by itself.
    pub headless: bool,
    /// Whether a pod was created in this attempt.
    pub made: bool,
    /// Whether the pod was created so recently that the watch may not show it yet.
    pub unseen: bool,
    /// Whether the workspace must end: it failed, was stopped or timed out, its node is gone, or it is being deleted.
    pub doomed: bool,
    /// Whether the content needs nothing more.
    pub finished: bool,
    /// Whether the node refused the pod, and it will be recreated.
    pub refused: bool,
    /// Whether the backoff before that is over.
    pub due: bool,
    /// Whether the workspace was ever ready.
    pub ever_ready: bool,
    /// Whether the content is initialized.
    pub content_ready: bool,
    /// Whether the namespace is under maintenance.
    pub maintenance: bool,
}

/// A pod's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// No pod exists.
    Absent,
    /// The pod is terminating.
    Deleting,
    /// The pod is pending, without a node.
    Waiting,
    /// The pod has a node, and its container was not started yet.
    Creating,
    /// The container runs.
    Up {
        /// Whether the container is ready.
        ready: bool,
    },
    /// The container or the whole pod ended.
    Ended,
    /// The phase of the pod is Unknown.
    Lost,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "docs/phases.md says what each means")]
pub enum Row {
    Over,
    NeverStarted,
    ToStart,
    NotSeenYet,
    Again,
    Refused,
    Held,
    Finished,
    TaskFinished,
    Vanished,
    Ending,
    TaskEnded,
    Doomed,
    Creating,
    Pending,
    StillRunning,
    Ready,
    Initializing,
    Lost,
}

impl Row {
    /// Every row, in the order of the table.
    #[cfg(test)]
    pub const ALL: [Self; 19] = [
        Self::Over,
        Self::NeverStarted,
        Self::ToStart,
        Self::NotSeenYet,
        Self::Again,
        Self::Refused,
        Self::Held,
        Self::Finished,
        Self::TaskFinished,
        Self::Vanished,
        Self::Ending,
        Self::TaskEnded,
        Self::Doomed,
        Self::Creating,
        Self::Pending,
        Self::StillRunning,
        Self::Ready,
        Self::Initializing,
        Self::Lost,
    ];

    /// The next phase; `now` is the observed one.
    pub fn phase(self, now: Phase) -> Phase {
        match self {
            Self::NotSeenYet | Self::Held => now,
            Self::ToStart | Self::Again | Self::Pending => Phase::Pending,
            Self::Creating => Phase::Creating,
            Self::Initializing => Phase::Initializing,
            Self::StillRunning | Self::Ready => Phase::Running,
            Self::Refused | Self::Vanished | Self::Ending | Self::TaskEnded | Self::Doomed => Phase::Stopping,
            Self::Over | Self::NeverStarted | Self::Finished | Self::TaskFinished => Phase::Stopped,
            Self::Lost => Phase::Unknown,
        }
    }
}

/// The first row that matches.
pub fn row(f: &Facts) -> Row {
    use PodState::{Absent, Creating, Deleting, Ended, Lost, Up, Waiting};
    match f.pod {
        _ if f.phase == Phase::Stopped => Row::Over,
        Absent if !f.made && f.doomed => Row::NeverStarted,
        Absent if !f.made => Row::ToStart,
        Absent if f.unseen => Row::NotSeenYet,
        Absent if f.refused && f.finished && f.due => Row::Again,
        _ if f.refused => Row::Refused,
        Ended if f.headless && f.maintenance && !f.doomed && f.phase != Phase::Stopping => Row::Held,
        Absent | Deleting if f.finished => Row::Finished,
        Ended if f.headless && f.finished => Row::TaskFinished,
        Absent => Row::Vanished,
        Deleting => Row::Ending,
        Ended if f.headless => Row::TaskEnded,
        _ if f.doomed => Row::Doomed,
        Creating => Row::Creating,
        Waiting => Row::Pending,
        Up { .. } if f.ever_ready => Row::StillRunning,
        Up { ready: true } if f.content_ready => Row::Ready,
        Up { .. } => Row::Initializing,
        Ended | Lost => Row::Lost,
    }
}
