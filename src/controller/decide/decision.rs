//! Result of a decision: status update, actions, Kubernetes events and the next reconcile.

use jiff::Timestamp;

use super::action::Action;
use super::change::StatusChange;
use domain::pod::EventQuery;

/// Result of a decision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// The status update.
    pub status: StatusChange,
    /// Whether the status write may be debounced, because nobody acts on it. The next reconcile decides again.
    pub may_wait: bool,
    /// Actions before the status is written, in this order.
    pub actions: Vec<Action>,
    /// Whether to delete the Secrets because the workspace runs. Best effort, after the status is written: they are
    /// deleted again at the end.
    pub drop_secrets: bool,
    /// Kubernetes events to write.
    pub events: Vec<Note>,
    /// Query for the pod's events, which may explain a failure that is new. With the answer, [`decide`](super::decide) is called
    /// again.
    pub query: Option<EventQuery>,
    /// When to reconcile again if nothing changes.
    pub next_check: Option<Timestamp>,
}

/// A Kubernetes event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Reason: one that Gitpod's workspace manager also writes.
    pub reason: &'static str,
    /// Whether the type is `Warning`, not `Normal`.
    pub warning: bool,
    /// Message for people.
    pub message: String,
    /// Whether it reports a step that may be over at once; such events are debounced.
    pub passing: bool,
}
