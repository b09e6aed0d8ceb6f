//! Errors of the agent's calls to the apiserver. They name the object, never its content.

/// Why a call to the apiserver failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The login cannot be used.
    #[error(
        "cannot log in to the apiserver by {login}: {reason}; correct node.kubeconfig, or give the pod a service account"
    )]
    Login {
        /// The file, or the service account.
        login: String,
        /// Why.
        reason: String,
    },
    /// The apiserver rejected a call, or did not answer.
    #[error("failed to {action}: {reason}")]
    Call {
        /// What was asked for, with the object.
        action: String,
        /// Code and reason of the answer.
        reason: String,
        /// HTTP status, if there was an answer.
        code: Option<u16>,
    },
    /// It has a form that this version does not know.
    #[error("{what} cannot be decoded; does another version's resource definition serve it?")]
    Undecodable {
        /// The object.
        what: String,
    },
    /// Nobody waits for the result any more.
    #[error("{what} is not this node's any more: {why}")]
    Gone {
        /// The object.
        what: String,
        /// It was deleted, replaced, or moved.
        why: &'static str,
    },
}

impl Error {
    /// From the client's error.
    pub fn of_call(action: impl Into<String>, error: &kube::Error) -> Self {
        let (reason, code) = match error {
            // The message may quote the object.
            kube::Error::Api(status) => {
                (format!("the apiserver answers {} {}", status.code, status.reason), Some(status.code))
            }
            kube::Error::SerdeError(_) => ("the answer cannot be decoded".to_owned(), None),
            other => (format!("no answer from the apiserver: {}", chain(other)), None),
        };
        Self::Call { action: action.into(), reason, code }
    }

    /// For a call that had no answer within its deadline.
    pub fn late(action: impl Into<String>, deadline: std::time::Duration) -> Self {
        let reason = format!("no answer from the apiserver within {deadline:?}");
        Self::Call { action: action.into(), reason, code: None }
    }

    /// Whether the apiserver answered with this HTTP status.
    pub fn is_code(&self, wanted: u16) -> bool {
        matches!(self, Self::Call { code: Some(code), .. } if *code == wanted)
    }

    /// Whether a repeated call may succeed.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Call { code, .. } => code.is_none_or(|code| code == 409 || code == 429 || code >= 500),
            Self::Login { .. } | Self::Undecodable { .. } | Self::Gone { .. } => false,
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
