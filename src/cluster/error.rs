//! What can go wrong with a member cluster, told apart by what a caller may do next.

use crate::domain::names::ClusterName;

use super::client::Fault;

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
    /// The apiserver answered with an error.
    #[error("cluster {cluster}: {action} was refused: {message} ({code} {reason})")]
    Refused {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted, such as `create Workspace ws-1`.
        action: String,
        /// HTTP status code.
        code: u16,
        /// Machine-readable reason, such as `Forbidden`.
        reason: String,
        /// The apiserver's message.
        message: String,
    },
    /// Nothing was sent: no connection, or no turn in our own limiter.
    #[error("cluster {cluster}: {action} was not sent: {reason}")]
    Unsent {
        /// The cluster.
        cluster: ClusterName,
        /// What was attempted.
        action: String,
        /// Why.
        reason: String,
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
    /// definite; 503 is, where the apiserver itself gave it, and so is a failed admission webhook.
    pub fn is_definite_refusal(&self) -> bool {
        match self {
            Self::Kubeconfig { .. } | Self::Unsent { .. } | Self::NotLeader { .. } | Self::Fenced { .. } => {
                true
            }
            Self::Ambiguous { .. } => false,
            Self::Refused { code, reason, message, .. } => {
                *code < 500
                    || (*code == 503 && reason == "ServiceUnavailable")
                    || message.contains("failed calling webhook")
            }
        }
    }

    /// What went wrong, without the cluster and what was attempted.
    pub fn cause(&self) -> String {
        match self {
            Self::Kubeconfig { field, rule, .. } => format!("{field} {rule}"),
            Self::Refused { code, reason, message, .. } => format!("{message} ({code} {reason})"),
            Self::Unsent { reason, .. } | Self::Ambiguous { reason, .. } | Self::Fenced { reason, .. } => {
                reason.clone()
            }
            Self::NotLeader { .. } => "this process does not lead".to_owned(),
        }
    }

    /// HTTP status code, where the apiserver answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Sorts a client error into what a caller may do next.
    pub(super) fn from_kube(cluster: &ClusterName, action: impl Into<String>, error: kube::Error) -> Self {
        let (cluster, action) = (cluster.clone(), action.into());
        match error {
            kube::Error::Api(status) if super::fence::is_refusal(&status.message) => Self::Fenced {
                cluster,
                reason: format!("{action} was refused: {}", shorten(&status.message)),
            },
            kube::Error::Api(status) => Self::Refused {
                cluster,
                action,
                code: status.code,
                reason: status.reason.clone(),
                message: shorten(&status.message),
            },
            kube::Error::Service(error) => match error.downcast::<Fault>() {
                Ok(fault) if fault.is_unsent() => Self::Unsent { cluster, action, reason: fault.to_string() },
                Ok(fault) => Self::Ambiguous { cluster, action, reason: fault.to_string() },
                Err(error) => Self::Ambiguous { cluster, action, reason: chain(&*error) },
            },
            kube::Error::BuildRequest(error) => Self::Unsent { cluster, action, reason: error.to_string() },
            // Its text would quote the answer, which may hold secrets.
            kube::Error::SerdeError(error) => Self::Ambiguous {
                cluster,
                action,
                reason: format!("the answer is not what was asked for (line {})", error.line()),
            },
            other => Self::Ambiguous { cluster, action, reason: chain(&other) },
        }
    }
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
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

/// Refusals quote what they refuse; some of it is enough.
fn shorten(message: &str) -> String {
    const MOST: usize = 512;
    if message.chars().count() <= MOST {
        return message.to_owned();
    }
    message.chars().take(MOST).chain(['…']).collect()
}
