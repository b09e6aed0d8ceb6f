//! Whether pods are accepted, rejected, or get no answer, as from a webhook that stays silent.

use std::time::Duration;

use super::failure::{Failure, fail};

/// How long after a rejected pod each start dry-runs its own pod.
const REMEMBERED: Duration = Duration::from_mins(10);
/// How long starts stay away for the leader's own dry run after a pod without an answer.
const ASKED: Duration = Duration::from_secs(10);

/// The leader's own dry run of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Own {
    /// None is wanted, or it was answered.
    #[default]
    Answered,
    /// A pod got no answer, and the leader's own is to show whether the cluster or the pod is the cause.
    Wanted(Duration),
    /// It got no answer.
    Unanswered,
    /// A webhook does not support dry runs.
    Blind,
}

/// What is known of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pods {
    failure: Option<Failure>,
    /// Whether the last pod got no answer.
    is_silent: bool,
    own: Own,
}

impl Pods {
    pub fn accepted(&mut self) {
        *self = Self::default();
    }

    /// An answer shows that webhooks answer, unless the leader's own pod got none: the rule may come before the webhook.
    pub fn rejected(&mut self, now: Duration, reason: String) {
        fail(&mut self.failure, now, reason);
        if self.own != Own::Unanswered {
            (self.is_silent, self.own) = (false, Own::Answered);
        }
    }

    pub fn unanswered(&mut self, now: Duration, reason: String) {
        fail(&mut self.failure, now, reason);
        self.is_silent = true;
        if matches!(self.own, Own::Answered | Own::Wanted(_)) {
            self.own = Own::Wanted(now);
        }
    }

    /// The leader's own pod was accepted. Where it got no answer before, the cause is gone; else it may be the pod of a start.
    pub fn own_accepted(&mut self) {
        if self.own == Own::Unanswered {
            self.accepted();
        }
        (self.is_silent, self.own) = (false, Own::Answered);
    }

    pub fn own_rejected(&mut self, now: Duration, reason: String) {
        self.own = Own::Answered;
        self.rejected(now, reason);
    }

    pub fn own_unanswered(&mut self, now: Duration, reason: String) {
        fail(&mut self.failure, now, reason);
        (self.is_silent, self.own) = (true, Own::Unanswered);
    }

    pub fn own_blind(&mut self) {
        self.own = Own::Blind;
    }

    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    pub fn is_own_wanted(&self) -> bool {
        self.is_silent && matches!(self.own, Own::Wanted(_))
    }

    pub fn reason(&self, now: Duration) -> Option<&str> {
        let recent = self.failure.as_ref().filter(|failure| now.saturating_sub(failure.at) < REMEMBERED);
        recent.map(|failure| failure.reason.as_str())
    }

    pub fn closed(&self, now: Duration) -> Option<String> {
        let failure = self.failure.as_ref().filter(|_| self.is_silent)?;
        let is_closed = match self.own {
            Own::Answered => false,
            Own::Wanted(since) => now.saturating_sub(since) < ASKED,
            Own::Unanswered | Own::Blind => !failure.is_due(now),
        };
        is_closed.then(|| format!("pods get no answer: {}", failure.reason))
    }
}
