//! [`Fault`]: a call without a response.

use std::time::Duration;

use crate::error;
use domain::causes;

/// How a call failed without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection came about.
    #[error("no connection: {0}")]
    Connect(String),
    /// The apiserver's certificate is not one to trust.
    #[error("{0}")]
    Untrusted(String),
    /// The limiter let it wait for too long.
    #[error("{}", error::QUEUED)]
    Throttled,
    /// No answer within the deadline.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// More came than is read.
    #[error("the {what} is longer than {} MiB", most / (1024 * 1024))]
    TooLong {
        /// An answer, or a line of a watch.
        what: &'static str,
        /// Bytes that are read.
        most: usize,
    },
}

impl Fault {
    /// Value of the metrics label `reason`.
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::Connect(_) | Self::Untrusted(_) => "connect",
            Self::Throttled => "throttled",
            Self::Timeout(_) => "timeout",
            Self::Broken(_) => "broken",
            Self::TooLong { .. } => "too_long",
        }
    }

    /// Whether nothing was sent.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Untrusted(_) | Self::Throttled)
    }

    /// Whether an error comes of an answer that was too long, however deep that is.
    pub fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
        causes::all(error).any(|cause| matches!(cause.downcast_ref(), Some(Self::TooLong { .. })))
    }
}
