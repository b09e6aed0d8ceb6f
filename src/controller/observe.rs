//! What is seen of one workspace: reads of what is in memory, no IO.

use std::sync::Arc;

use jiff::Timestamp;

use domain::pod::{NodeFacts, PodFacts};
use k8s::resources::Workspace;

use super::Parts;
use super::decide::{NodeObservation, Observed, Readiness, Refusal};

/// What is seen, held for the length of a pass.
pub(super) struct Seen {
    pub workspace: Option<Arc<Workspace>>,
    pub pods: Vec<Arc<PodFacts>>,
    node: NodeObservation,
    maintenance_until: Option<Timestamp>,
}

impl Seen {
    /// As what is decided on.
    pub fn observed<'a>(
        &'a self,
        workspace: &'a Workspace,
        now: Timestamp,
        refusal: Option<&'a Refusal>,
    ) -> Observed<'a> {
        Observed {
            workspace,
            pods: &self.pods,
            node: self.node,
            maintenance_until: self.maintenance_until,
            refusal,
            pod_event: None,
            now,
        }
    }
}

/// Looks at a workspace, its pods, its node, and the namespace's maintenance.
pub(super) fn observe(parts: &Parts, name: &str) -> Seen {
    // The status first: pods only ever lag behind what is looked at later, and a status that knows more than the pods
    // do could look like a pod that vanished.
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
        // A node that joined just now may be seen later than the first pod on it, so one pass must have noted it.
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
