//! The state of the admin service, which the files of its methods share.

use std::sync::Arc;

use federation::Federation;
use tokio_util::sync::CancellationToken;

/// Implements the service.
#[derive(Debug, Clone)]
pub struct Clusters {
    pub(super) federation: Arc<Federation>,
    pub(super) shutdown: CancellationToken,
}

impl Clusters {
    /// Streams end when `shutdown` is cancelled.
    pub fn new(federation: Arc<Federation>, shutdown: CancellationToken) -> Self {
        Self { federation, shutdown }
    }
}
