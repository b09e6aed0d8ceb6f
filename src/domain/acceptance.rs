//! Whether a namespace of a cluster accepts new workspaces, their changes and their pods, learned from its responses. Pure.
//!
//! Times are readings of one monotonic clock, given by the caller.

mod changes;
mod failure;
mod pods;
mod rejections;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use changes::Change;
use changes::Failures;
use failure::{Failure, fail};
use pods::Pods;
pub use rejections::RejectedStart;
use rejections::Rejections;

/// Why nothing can be created in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceEnding {
    /// The namespace is being deleted.
    Terminating,
    /// The namespace does not exist.
    Missing,
}

impl NamespaceEnding {
    /// End of a sentence about the namespace.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Terminating => "it is being deleted",
            Self::Missing => "it does not exist",
        }
    }
}

/// Result of dry runs of the leader's own Workspace, which no caller's request can influence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Canary {
    /// They are accepted, or none was sent yet.
    #[default]
    Accepted,
    /// They fail.
    Failing,
    /// A webhook does not support dry runs.
    Blind,
}

/// What the leader learned of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acceptance {
    ending: Option<NamespaceEnding>,
    /// Whether an answer suggests that the namespace does not exist, and it was not read since.
    is_doubted: bool,
    workspaces: Option<Failure>,
    /// Whether it was the Secrets of a start that failed.
    do_secrets_fail: bool,
    canary: Canary,
    rejections: Rejections,
    status: Failures,
    objects: Failures,
    pods: Pods,
}

impl Acceptance {
    /// The namespace is terminating or missing; `None` if it exists again.
    pub fn ends(&mut self, ending: Option<NamespaceEnding>) {
        (self.ending, self.is_doubted) = (ending, false);
    }

    /// An answer suggests that the namespace does not exist: it is to be read.
    pub fn doubt(&mut self) {
        self.is_doubted = true;
    }

    /// A Workspace with its Secrets, or a dry run of them, was accepted.
    pub fn workspace_accepted(&mut self) {
        (self.workspaces, self.do_secrets_fail) = (None, false);
    }

    /// A start was accepted.
    pub fn start_accepted(&mut self) {
        self.workspace_accepted();
        self.rejections = Rejections::default();
    }

    /// A start was rejected by a rule of the namespace.
    pub fn start_rejected(&mut self, now: Duration, start: RejectedStart<'_>, reason: String) {
        self.rejections.add(now, start, reason);
    }

    /// The leader's own dry run was accepted.
    pub fn canary_accepted(&mut self) {
        self.workspace_accepted();
        self.canary = Canary::Accepted;
    }

    /// The leader's own dry run failed.
    pub fn canary_failed(&mut self, now: Duration, reason: String) {
        self.canary = Canary::Failing;
        fail(&mut self.workspaces, now, reason);
    }

    /// A webhook does not support dry runs, so the leader's own is no evidence.
    pub fn canary_blind(&mut self) {
        self.canary = Canary::Blind;
    }

    /// Whether something failed and the leader has not yet tried or read itself what shows whether the cluster is the cause.
    pub fn is_unexplained(&self) -> bool {
        self.is_doubted
            || self.workspaces.is_some() && self.canary == Canary::Accepted
            || self.pods.is_own_wanted()
            || Change::ALL.into_iter().any(|change| self.changes(change).is_untried())
    }

    /// Creating a Workspace timed out, or failed for a reason other than the request.
    pub fn workspace_failed(&mut self, now: Duration, reason: String) {
        fail(&mut self.workspaces, now, reason);
    }

    /// As [`Acceptance::workspace_failed`], of the Secrets that are created before it.
    pub fn secrets_failed(&mut self, now: Duration, reason: String) {
        self.do_secrets_fail = true;
        fail(&mut self.workspaces, now, reason);
    }

    /// Whether creating the Secrets of starts fails, so that a dry run includes them.
    pub fn do_secrets_fail(&self) -> bool {
        self.do_secrets_fail
    }

    /// A change of a Workspace, or a dry run of one, was accepted.
    pub fn changed(&mut self, change: Change) {
        self.changes_mut(change).succeeded();
    }

    /// A change of a Workspace was denied, or got no answer.
    pub fn change_failed(&mut self, change: Change, now: Duration, workspace: &str, reason: String) {
        self.changes_mut(change).failed(now, workspace, reason);
    }

    /// The leader tried a change of this kind itself.
    pub fn change_tried(&mut self, change: Change) {
        self.changes_mut(change).tried();
    }

    /// Why changes of a kind fail; `None` if they do not, or none was tried for two minutes.
    pub fn changes_fail(&self, change: Change, now: Duration) -> Option<&str> {
        self.changes(change).reason(now)
    }

    /// Whether changes of a kind failed for this Workspace.
    pub fn change_fails_for(&self, change: Change, workspace: &str) -> bool {
        self.changes(change).is_of(workspace)
    }

    /// A pod, or a dry run of one, was accepted.
    pub fn pod_accepted(&mut self) {
        self.pods.accepted();
    }

    /// A pod was rejected.
    pub fn pod_rejected(&mut self, now: Duration, reason: String) {
        self.pods.rejected(now, reason);
    }

    /// A pod, or a dry run of one, got no answer, or a webhook for it could not be called.
    pub fn pod_unanswered(&mut self, now: Duration, reason: String) {
        self.pods.unanswered(now, reason);
    }

    /// The leader's own dry run of a pod was accepted.
    pub fn own_pod_accepted(&mut self) {
        self.pods.own_accepted();
    }

    /// The leader's own dry run of a pod was rejected.
    pub fn own_pod_rejected(&mut self, now: Duration, reason: String) {
        self.pods.own_rejected(now, reason);
    }

    /// The leader's own dry run of a pod got no answer.
    pub fn own_pod_unanswered(&mut self, now: Duration, reason: String) {
        self.pods.own_unanswered(now, reason);
    }

    /// A webhook for pods does not support dry runs, so the leader's own is no evidence.
    pub fn own_pod_blind(&mut self) {
        self.pods.own_blind();
    }

    /// Whether the last pod got no answer, so that the leader dry-runs its own.
    pub fn are_pods_silent(&self) -> bool {
        self.pods.is_silent()
    }

    /// Whether the namespace is terminating or missing.
    pub fn ending(&self) -> Option<NamespaceEnding> {
        self.ending
    }

    /// Why creating Workspaces fails; `None` if it does not.
    pub fn workspaces_fail(&self) -> Option<&str> {
        self.workspaces.as_ref().map(|failure| failure.reason.as_str())
    }

    /// Why starts go elsewhere if they can.
    pub fn last_choice(&self, now: Duration) -> Option<String> {
        self.rejections.last_choice(now)
    }

    /// Why the last pod was rejected or got no answer, in the last 10 minutes; `None` if one was accepted since.
    pub fn pods_rejected(&self, now: Duration) -> Option<&str> {
        self.pods.reason(now)
    }

    /// Why no start is placed there now. A failed start alone is not enough, because its own content may be the cause: the leader's
    /// dry run must fail, too, or not be supported. Of changes, several Workspaces must fail.
    pub fn closed(&self, now: Duration) -> Option<String> {
        if let Some(ending) = self.ending {
            return Some(ending.describe().to_owned());
        }
        let failing = self.workspaces.as_ref().filter(|_| self.canary != Canary::Accepted);
        if let Some(failure) = failing.filter(|failure| !failure.is_due(now)) {
            return Some(format!("creating workspaces fails: {}", failure.reason));
        }
        let of_several = |change: &Change| self.changes(*change).is_of_several(now);
        let changes = Change::ALL.into_iter().find(of_several);
        changes
            .and_then(|change| Some(format!("{}: {}", change.describe(), self.changes_fail(change, now)?)))
            .or_else(|| self.pods.closed(now))
    }

    fn changes(&self, change: Change) -> &Failures {
        match change {
            Change::Status => &self.status,
            Change::Object => &self.objects,
        }
    }

    fn changes_mut(&mut self, change: Change) -> &mut Failures {
        match change {
            Change::Status => &mut self.status,
            Change::Object => &mut self.objects,
        }
    }
}
