//! Reads the state of one workspace from the caches, without IO.

use std::sync::Arc;

use jiff::Timestamp;

use domain::pod::{NodeFacts, PodFacts};
use k8s::resources::Workspace;

use super::controller::Parts;
use super::decide::{NodeObservation, Observed, Readiness};

/// State of a workspace for one reconcile.
pub(super) struct Seen {
    pub workspace: Option<Arc<Workspace>>,
    pub pods: Vec<Arc<PodFacts>>,
    node: NodeObservation,
    maintenance_until: Option<Timestamp>,
}

impl Seen {
    /// The input of the decision.
    pub fn observed<'a>(&'a self, workspace: &'a Workspace, now: Timestamp) -> Observed<'a> {
        Observed {
            workspace,
            pods: &self.pods,
            node: self.node,
            maintenance_until: self.maintenance_until,
            refusal: None,
            denial: None,
            pod_event: None,
            now,
        }
    }
}

/// Reads a workspace, its pods, its node, and the maintenance of the namespace.
pub(super) fn observe(parts: &Parts, name: &str) -> Seen {
    // The Workspace first: read after the pods, its status could be newer than they are, and a pod that it mentions would
    // look vanished.
    let workspace = parts.cache.get(name);
    let pods = parts.cache.pods_of(name);
    let node = workspace.as_deref().map_or(NodeObservation::Unknown, |workspace| {
        node_name(workspace, &pods)
            .map_or(NodeObservation::Unknown, |name| observe_node(parts, workspace, name))
    });
    Seen { workspace, pods, node, maintenance_until: parts.maintenance.until() }
}

fn node_name<'a>(workspace: &'a Workspace, pods: &'a [Arc<PodFacts>]) -> Option<&'a str> {
    let uid = workspace.metadata.uid.as_deref().unwrap_or_default();
    let of_pod = pods.iter().filter(|pod| pod.workspace_uid == uid).find_map(|pod| pod.node_name.as_deref());
    of_pod.or(noted_node(workspace))
}

fn observe_node(parts: &Parts, workspace: &Workspace, name: &str) -> NodeObservation {
    match parts.nodes.get(name) {
        Some(node) => NodeObservation::Present { tainted: node.tainted, readiness: readiness(&node) },
        // A new node may be seen later than its first pod. It counts as gone only after a reconcile wrote its name to the status.
        None if parts.nodes.is_synced() && noted_node(workspace) == Some(name) => NodeObservation::Gone,
        None => NodeObservation::Unknown,
    }
}

fn readiness(node: &NodeFacts) -> Readiness {
    match (node.unreachable, node.ready) {
        (true, _) => Readiness::Unreachable,
        (false, false) => Readiness::NotReady,
        (false, true) => Readiness::Ready,
    }
}

fn noted_node(workspace: &Workspace) -> Option<&str> {
    workspace.status.as_ref()?.runtime.as_ref()?.node_name.as_deref()
}
