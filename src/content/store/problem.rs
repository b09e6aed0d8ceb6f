//! Causes that this room puts into the errors of the client library, and finds there again.

use http::StatusCode;

/// Error code of requests whose time is too far from the store's.
pub(super) const SKEWED: &str = "RequestTimeTooSkewed";

/// A response that is an error.
#[derive(Debug, thiserror::Error)]
#[error("the store answered {status} ({code})")]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Error code of S3 or GCS, such as `SlowDown`.
    pub(super) code: String,
}

/// Why credentials cannot be used. Never quotes their files.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct CredentialProblem(pub(super) String);

impl From<CredentialProblem> for object_store::Error {
    fn from(problem: CredentialProblem) -> Self {
        Self::Generic { store: "credentials", source: Box::new(problem) }
    }
}
