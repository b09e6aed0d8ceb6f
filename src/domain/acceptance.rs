//! Whether a namespace of a cluster accepts new workspaces and their pods, learned from its responses. Pure.
//!
//! Times are readings of one monotonic clock, given by the caller.

use std::time::Duration;

/// Without a working canary, one start is tried so long after the last failure; doubled with each further failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Upper bound of that backoff.
const RETRY_AFTER_MOST: Duration = Duration::from_mins(5);
/// How long after a rejected pod each start dry-runs its own pod.
const REMEMBERED: Duration = Duration::from_mins(10);

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

/// A failure and when it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    at: Duration,
    reason: String,
    /// Failures in a row.
    count: u32,
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
    workspaces: Option<Failure>,
    canary: Canary,
    pods: Option<Failure>,
}

impl Acceptance {
    /// The namespace is terminating or missing; `None` if it exists again.
    pub fn ends(&mut self, ending: Option<NamespaceEnding>) {
        self.ending = ending;
    }

    /// A Workspace, or a dry run of one, was accepted.
    pub fn workspace_accepted(&mut self) {
        self.workspaces = None;
    }

    /// The leader's own dry run was accepted.
    pub fn canary_accepted(&mut self) {
        (self.workspaces, self.canary) = (None, Canary::Accepted);
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

    /// Whether a start failed and the leader's own dry run has not yet shown whether the cluster or the start is the cause.
    pub fn is_unexplained(&self) -> bool {
        self.workspaces.is_some() && self.canary == Canary::Accepted
    }

    /// Creating a Workspace timed out, or failed for a reason other than the request.
    pub fn workspace_failed(&mut self, now: Duration, reason: String) {
        fail(&mut self.workspaces, now, reason);
    }

    /// A pod, or a dry run of one, was accepted.
    pub fn pod_accepted(&mut self) {
        self.pods = None;
    }

    /// A pod was rejected, or a webhook could not be called for it.
    pub fn pod_rejected(&mut self, now: Duration, reason: String) {
        fail(&mut self.pods, now, reason);
    }

    /// Whether the namespace is terminating or missing.
    pub fn ending(&self) -> Option<NamespaceEnding> {
        self.ending
    }

    /// Why creating Workspaces fails; `None` if it does not.
    pub fn workspaces_fail(&self) -> Option<&str> {
        self.workspaces.as_ref().map(|failure| failure.reason.as_str())
    }

    /// Why a pod was rejected in the last 10 minutes; `None` if one was accepted since.
    pub fn pods_rejected(&self, now: Duration) -> Option<&str> {
        let recent = self.pods.as_ref().filter(|failure| now.saturating_sub(failure.at) < REMEMBERED);
        recent.map(|failure| failure.reason.as_str())
    }

    /// Why no start is placed there now. A failed start alone is not enough, because its own content may be the cause: the leader's
    /// dry run must fail, too, or not be supported.
    pub fn closed(&self, now: Duration) -> Option<String> {
        if let Some(ending) = self.ending {
            return Some(ending.describe().to_owned());
        }
        let failure = self.workspaces.as_ref().filter(|_| self.canary != Canary::Accepted)?;
        let doublings = failure.count.saturating_sub(1).min(10);
        let pause = RETRY_AFTER.saturating_mul(1 << doublings).min(RETRY_AFTER_MOST);
        let is_due = now.saturating_sub(failure.at) >= pause;
        (!is_due).then(|| format!("creating workspaces fails: {}", failure.reason))
    }
}

fn fail(failure: &mut Option<Failure>, at: Duration, reason: String) {
    let count = failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
    *failure = Some(Failure { at, reason, count });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_failed_start_closes_a_namespace_only_if_the_leaders_dry_run_fails_too() {
        let mut learned = Acceptance::default();
        learned.workspace_failed(at(1), "no answer within 3s".to_owned());
        assert_eq!((learned.closed(at(2)), learned.is_unexplained()), (None, true));
        assert_eq!(learned.workspaces_fail(), Some("no answer within 3s"));
        learned.canary_failed(at(3), "no answer within 3s".to_owned());
        assert!(learned.closed(at(4)).unwrap().contains("no answer within 3s"));
        assert!(!learned.is_unexplained());
        learned.canary_accepted();
        assert_eq!((learned.closed(at(4)), learned.workspaces_fail()), (None, None));
    }

    #[test]
    fn without_dry_runs_a_start_is_tried_after_a_backoff_that_doubles_up_to_five_minutes() {
        let mut learned = Acceptance::default();
        learned.canary_blind();
        let mut now = 0;
        for pause in [30, 60, 120, 240, 300, 300] {
            learned.workspace_failed(at(now), "webhook".to_owned());
            assert!(learned.closed(at(now + pause - 1)).is_some(), "{pause}");
            assert_eq!(learned.closed(at(now + pause)), None, "{pause}");
            now += pause;
        }
        learned.workspace_accepted();
        assert_eq!(learned.closed(at(now)), None);
    }

    #[test]
    fn rejected_pods_do_not_close_the_namespace_and_are_forgotten_after_ten_minutes() {
        let mut learned = Acceptance::default();
        learned.pod_rejected(at(0), "exceeded quota: q".to_owned());
        assert_eq!(learned.closed(at(1)), None);
        assert_eq!(learned.pods_rejected(at(599)), Some("exceeded quota: q"));
        assert_eq!(learned.pods_rejected(at(600)), None);
        learned.pod_rejected(at(700), "exceeded quota: q".to_owned());
        learned.pod_accepted();
        assert_eq!(learned.pods_rejected(at(701)), None);
    }

    #[test]
    fn a_terminating_namespace_is_closed() {
        let mut learned = Acceptance::default();
        learned.ends(Some(NamespaceEnding::Terminating));
        learned.workspace_accepted();
        assert!(learned.closed(at(9999)).unwrap().contains("being deleted"));
        learned.ends(None);
        assert_eq!(learned.closed(at(9999)), None);
    }
}
