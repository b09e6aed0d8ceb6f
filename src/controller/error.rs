//! Why a reconcile failed.

use std::time::Duration;

/// Why a reconcile failed. It is retried with a backoff.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to the cluster failed.
    #[error(transparent)]
    Cluster(#[from] member::Error),
    /// A pod of this name existed, and was deleted before its owner could be read.
    #[error("a pod {pod} existed a moment ago")]
    NameTaken {
        /// Name of the pod.
        pod: String,
    },
    /// The cluster rejected the pod for a reason that may pass.
    #[error("pod creation rejected: {0}")]
    PodRejected(String),
    /// The cluster refused a write; the status says so.
    #[error("{0}")]
    Denied(String),
    /// The reconcile exceeded its deadline.
    #[error("the reconcile exceeded its deadline of {0:?}")]
    Deadline(Duration),
}
