//! Failed changes of Workspaces that exist: of their status, or of the object itself.
//!
//! One Workspace may be the cause of its own failure. Several in a row, with no success in between, are the namespace's.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long a failure counts after it was last seen: longer than the longest backoff and the deadline of a reconcile.
const COUNTED: Duration = Duration::from_mins(2);
/// Workspaces that must fail before starts avoid the namespace.
const SEVERAL: usize = 2;
/// Workspaces that are remembered.
const MOST: usize = 16;

/// What of a Workspace is changed. Admission webhooks and rights distinguish the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its status, by the subresource.
    Status,
    /// Its metadata and spec; also the removal of its finalizer.
    Object,
}

impl Change {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Status, Self::Object];

    /// Which changes fail, for a sentence.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Status => "writing the status of workspaces fails",
            Self::Object => "changing workspaces fails",
        }
    }
}

/// Failures of one kind of change since the last success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Failures {
    /// When each Workspace last failed, by its name.
    failed: BTreeMap<String, Duration>,
    reason: String,
    /// Whether the leader has not tried the change itself since the last failure.
    is_untried: bool,
}

impl Failures {
    pub fn failed(&mut self, now: Duration, workspace: &str, reason: String) {
        self.failed.retain(|_, at| counts(*at, now));
        if self.failed.len() < MOST || self.failed.contains_key(workspace) {
            self.failed.insert(workspace.to_owned(), now);
        }
        (self.reason, self.is_untried) = (reason, true);
    }

    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub fn tried(&mut self) {
        self.is_untried = false;
    }

    pub fn is_untried(&self) -> bool {
        self.is_untried
    }

    /// Why the last change failed, while it counts.
    pub fn reason(&self, now: Duration) -> Option<&str> {
        (self.recent(now) > 0).then_some(self.reason.as_str())
    }

    /// Whether the failures are of so many Workspaces that starts avoid the namespace.
    pub fn is_of_several(&self, now: Duration) -> bool {
        self.recent(now) >= SEVERAL
    }

    pub fn is_of(&self, workspace: &str) -> bool {
        self.failed.contains_key(workspace)
    }

    fn recent(&self, now: Duration) -> usize {
        self.failed.values().filter(|at| counts(**at, now)).count()
    }
}

fn counts(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) < COUNTED
}
