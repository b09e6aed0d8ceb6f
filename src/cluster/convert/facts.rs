//! Pods and nodes, reduced to what decides.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::domain::pod::{NodeFacts, PodFacts};

/// A pod's facts; `None` where no Workspace of our group owns it as controller.
pub fn pod_facts(pod: &Pod) -> Option<PodFacts> {
    let _ = pod;
    todo!()
}

/// A node's facts.
pub fn node_facts(node: &Node) -> NodeFacts {
    let _ = node;
    todo!()
}
