//! Errors of a member cluster, distinguished by what a caller may do next.
//!
//! Nothing here knows the client or the fence: [`client`](crate::client) converts its errors into these.

mod rule;
mod size;

use kube::core::Status;
use kube::runtime::watcher;

use domain::names::ClusterName;

pub(crate) use rule::reason;
pub use rule::{BrokenField, Rule};
pub(crate) use size::exceeded;

/// Why a call was not sent when it waited too long in the limiter.
pub(crate) const QUEUED: &str = "too many calls wait for this cluster";

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, always with the cluster it concerns. No variant ever holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("cluster {cluster}: kubeconfig field {field} {rule}")]
    Kubeconfig {
        /// The cluster.
        cluster: ClusterName,
        /// Path of the field, such as `users[].user.exec`.
        field: String,
        /// What is wrong with it.
        rule: String,
    },
    /// The apiserver answered with an error. Its text is not kept: it quotes what was sent.
    #[error("cluster {cluster}: {action} was refused: {rule} ({code}{})", after_space(reason))]
    Refused {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted, such as `create Workspace ws-1`.
        action: String,
        /// HTTP status code.
        code: u16,
        /// Machine-readable reason, such as `Forbidden`; empty where it is none of the apiserver's own.
        reason: &'static str,
        /// The rule that it broke.
        rule: Rule,
    },
    /// The object is too large for the cluster: nothing was stored, and it is refused again however often it is sent.
    #[error("cluster {cluster}: {action} was refused: the object exceeds a limit there: {limit}")]
    TooLarge {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted.
        action: String,
        /// Which limit it exceeds, without any value of the object.
        limit: String,
    },
    /// Nothing was sent: no connection.
    #[error("cluster {cluster}: {action} was not sent: {reason}")]
    Unsent {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted.
        action: String,
        /// Why.
        reason: String,
    },
    /// Nothing was sent: the call waited too long in the cluster's own limiter, which says nothing of the cluster.
    #[error("cluster {cluster}: {action} was not sent: too many calls wait for this cluster; try again")]
    Queued {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted.
        action: String,
    },
    /// It may have happened or not: a timeout, a broken connection, an answer that cannot be read.
    #[error("cluster {cluster}: {action} may or may not have happened: {reason}")]
    Ambiguous {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted.
        action: String,
        /// Why.
        reason: String,
    },
    /// This process does not lead (any more), so nothing was written.
    #[error("cluster {cluster}: {action} was not sent: this process does not lead")]
    NotLeader {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted.
        action: String,
    },
    /// The namespace does not take what was asked for, so nothing was written.
    #[error("cluster {cluster}: {action} is not allowed: {why}")]
    Disallowed {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted.
        action: String,
        /// Why: fields and objects by name, no values.
        why: String,
    },
    /// The cluster takes no writes of this leadership, so nothing was written.
    #[error("cluster {cluster} takes no writes: {reason}")]
    Fenced {
        /// The cluster.
        cluster: ClusterName,
        /// Why, and what to do.
        reason: String,
    },
}

impl Error {
    /// Whether what was attempted certainly did not happen, so that a start may go to another cluster.
    ///
    /// An apiserver that answers 500, 502 or 504 may have stored the object before it failed, so those answers are not
    /// definite; 503 is, where the apiserver itself gave it, and so is what an admission webhook denied, with any code, or failed to judge.
    pub fn is_definite_refusal(&self) -> bool {
        match self {
            Self::Kubeconfig { .. }
            | Self::TooLarge { .. }
            | Self::Unsent { .. }
            | Self::Queued { .. }
            | Self::NotLeader { .. }
            | Self::Disallowed { .. }
            | Self::Fenced { .. } => true,
            Self::Ambiguous { .. } => false,
            Self::Refused { code, reason, rule, .. } => {
                *code < 500
                    || (*code == 503 && *reason == "ServiceUnavailable")
                    || matches!(rule, Rule::Webhook(_) | Rule::WebhookFailed(_))
            }
        }
    }

    /// What went wrong, without the cluster and what was attempted.
    pub fn cause(&self) -> String {
        match self {
            Self::Kubeconfig { field, rule, .. } => format!("{field} {rule}"),
            Self::Refused { code, reason, rule, .. } => format!("{rule} ({code}{})", after_space(reason)),
            Self::Unsent { reason, .. } | Self::Ambiguous { reason, .. } | Self::Fenced { reason, .. } => {
                reason.clone()
            }
            Self::TooLarge { limit, .. } => format!("the object exceeds a limit there: {limit}"),
            Self::Disallowed { why, .. } => why.clone(),
            Self::Queued { .. } => QUEUED.to_owned(),
            Self::NotLeader { .. } => "this process does not lead".to_owned(),
        }
    }

    /// The same failure of a dry run, which certainly wrote nothing.
    #[must_use]
    pub fn of_dry_run(self) -> Self {
        if self.is_definite_refusal() {
            return self;
        }
        let reason = self.cause();
        match self {
            Self::Ambiguous { cluster, action, .. } | Self::Refused { cluster, action, .. } => {
                Self::Unsent { cluster, action, reason }
            }
            other => other,
        }
    }

    /// Whether an admission webhook denied it: its code, which may be 404 or 409, is about nothing that exists.
    pub fn is_of_webhook(&self) -> bool {
        matches!(self, Self::Refused { rule: Rule::Webhook(_), .. })
    }

    /// HTTP status code, where the apiserver answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Text of an error with its causes, each once. Leaves out what an apiserver wrote and what could not be decoded of it.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(text) = without_values(error) {
        return text;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// What may be shown of the first cause that quotes an answer; `None` where none does.
fn without_values(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let status = match (error.downcast_ref::<kube::Error>(), error.downcast_ref::<watcher::Error>()) {
            (Some(kube::Error::Api(status)), _) | (_, Some(watcher::Error::WatchError(status))) => {
                Some(&**status)
            }
            _ => error.downcast_ref::<Status>(),
        };
        if let Some(status) = status {
            return Some(answered(status));
        }
        if let Some(error) = error.downcast_ref::<serde_json::Error>() {
            return Some(unreadable(error));
        }
        cause = error.source();
    }
    None
}

/// An apiserver's answer without its text.
pub(crate) fn answered(status: &Status) -> String {
    format!("{} ({}{})", Rule::of(status), status.code, after_space(rule::reason(&status.reason)))
}

/// Its text would quote the answer, which may hold secrets.
fn unreadable(error: &serde_json::Error) -> String {
    format!("the answer is not what was asked for (line {})", error.line())
}

fn after_space(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" {reason}") }
}
