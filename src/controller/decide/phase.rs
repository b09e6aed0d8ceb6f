//! The phase table: `docs/phases.md`, row by row and in its order.

use k8s::resources::Phase;

/// What the phase is looked up by. One field a column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a column of the table")]
pub struct Facts {
    /// The pod.
    pub pod: PodState,
    /// The phase so far.
    pub phase: Phase,
    /// Whether it ends by itself.
    pub headless: bool,
    /// Whether a pod was made in this attempt.
    pub made: bool,
    /// Whether a pod was made so recently that it may not be seen yet.
    pub unseen: bool,
    /// Whether it has to end: failed, stopped, timed out, its node gone, or being deleted.
    pub doomed: bool,
    /// Whether nothing is left to be done with the content.
    pub finished: bool,
    /// Whether its pod was refused by the node, and it will be tried again.
    pub refused: bool,
    /// Whether the wait before that is over.
    pub due: bool,
    /// Whether it ever ran.
    pub ever_ready: bool,
    /// Whether its content was laid in.
    pub content_ready: bool,
    /// Whether the namespace is under maintenance.
    pub maintenance: bool,
}

/// A pod's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// There is none.
    Absent,
    /// It is being deleted.
    Deleting,
    /// Pending, without a node.
    Waiting,
    /// It has a node, and its container was not started yet.
    Creating,
    /// Its container runs.
    Up {
        /// Whether its container is ready.
        ready: bool,
    },
    /// Its container ended, or it did as a whole.
    Ended,
    /// Unknown.
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

    /// The phase that the row leads to; `now` is the phase so far.
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
