//! Observed state of one workspace: the input of a decision.

use std::sync::Arc;

use jiff::Timestamp;

use domain::pod::{PodEvent, PodFacts};
use k8s::resources::Workspace;

/// Observed state of one workspace.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The Workspace resource.
    pub workspace: &'a Workspace,
    /// Pods whose owner has this name, including those of earlier Workspaces of the same name.
    pub pods: &'a [Arc<PodFacts>],
    /// The node of the pod.
    pub node: NodeObservation,
    /// Until when the namespace is under maintenance; may be in the past.
    pub maintenance_until: Option<Timestamp>,
    /// The cluster's rejection of the pod in this reconcile.
    pub refusal: Option<&'a Refusal>,
    /// The write that the cluster refused in this reconcile.
    pub denial: Option<&'a Denial>,
    /// The pod's event that an earlier decision of this reconcile queried.
    pub pod_event: Option<&'a PodEvent>,
    /// Current time.
    pub now: Timestamp,
}

/// Observed state of the workspace's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeObservation {
    /// The workspace has no node yet, or nodes were not listed yet.
    Unknown,
    /// The node exists.
    Present {
        /// Whether it has any taint.
        tainted: bool,
        /// Whether its kubelet answers.
        readiness: Readiness,
    },
    /// The node was deleted.
    Gone,
}

/// Whether a node's kubelet answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It answers, and the node is ready.
    Ready,
    /// It answers, and reports the node as not ready.
    NotReady,
    /// It does not answer: the statuses of the node's pods are outdated.
    Unreachable,
}

/// The cluster rejected a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The cluster's reason.
    pub message: String,
    /// Whether a retry cannot succeed, as for a pod that is not valid.
    pub is_final: bool,
}

/// The cluster refused a write of this reconcile. It is retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Which write: the reason of the condition `WriteRefused`.
    pub reason: &'static str,
    /// What was refused and why, as a clause.
    pub message: String,
}
