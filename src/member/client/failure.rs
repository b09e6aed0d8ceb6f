//! Conversion of client errors into [`Error`].

use kube::core::Status;

use crate::error::{Error, Rule, chain, exceeded, reason};
use domain::names::ClusterName;
use k8s::resources::names::FENCE;

use super::fault::Fault;

impl Error {
    /// Converts a client error into what a caller may do next.
    pub fn from_kube(cluster: &ClusterName, action: impl Into<String>, error: kube::Error) -> Self {
        let (cluster, action) = (cluster.clone(), action.into());
        match error {
            kube::Error::Api(status) => Self::from_status(cluster, action, &status),
            kube::Error::Service(error) => match error.downcast::<Fault>() {
                Ok(fault) if *fault == Fault::Throttled => Self::Queued { cluster, action },
                Ok(fault) if fault.is_unsent() => Self::Unsent { cluster, action, reason: fault.to_string() },
                Ok(fault) => Self::Ambiguous { cluster, action, reason: fault.to_string() },
                Err(error) => Self::Ambiguous { cluster, action, reason: chain(&*error) },
            },
            kube::Error::BuildRequest(error) => Self::Unsent { cluster, action, reason: error.to_string() },
            other => Self::Ambiguous { cluster, action, reason: chain(&other) },
        }
    }

    fn from_status(cluster: ClusterName, action: String, status: &Status) -> Self {
        let rule = Rule::of(status);
        // A webhook writes causes and texts of its own.
        let limit = if matches!(rule, Rule::Webhook(_)) { None } else { exceeded(status) };
        if let Some(limit) = limit {
            return Self::TooLarge { cluster, action, limit };
        }
        if is_of_fence(&rule) {
            return Self::Fenced { cluster, reason: format!("{action} was refused: {rule}") };
        }
        Self::Refused { cluster, action, code: status.code, reason: reason(&status.reason), rule }
    }
}

/// Whether a policy of the fence denied the request.
fn is_of_fence(rule: &Rule) -> bool {
    matches!(rule, Rule::Policy { name, .. } if name.starts_with(FENCE))
}
