//! Deadline, outcome and fence of each call.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// Identity of a leadership; an apiserver refuses what an earlier one writes. Text of fixed order, given by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch(pub String);

/// The epoch that is stamped on every call; none by default, then calls go out under the login's own name.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<ArcSwapOption<Epoch>>);

impl Fence {
    /// Stamps calls from now on with `epoch`.
    pub fn set(&self, epoch: Option<Epoch>) {
        self.0.store(epoch.map(Arc::new));
    }
}

/// How a call failed without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection came about.
    #[error("no connection: {0}")]
    Connect(String),
    /// The limiter let it wait for too long.
    #[error("too many calls are waiting for this cluster")]
    Throttled,
    /// No answer within the deadline.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Fault {
    /// Whether nothing was sent.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Throttled)
    }
}
