//! Pods and nodes, reduced to the facts that the controller decides by.

use k8s_openapi::api::core::v1::{ContainerState as K8sState, ContainerStateTerminated, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::resources::names::{FINALIZER, GROUP};
use crate::resources::{SeenCondition, SeenContainerStatus, SeenPod, SeenPodSpec, SeenPodStatus};
use domain::pod::{
    ContainerFacts, ContainerState, NodeFacts, PodFacts, PodPhase, Termination, WORKSPACE_CONTAINER,
};

/// Taint of nodes whose kubelet does not answer.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// A pod's facts; `None` where no Workspace of our group owns it as controller.
pub fn pod_facts(pod: &SeenPod) -> Option<PodFacts> {
    let meta = &pod.metadata;
    let owner = workspace_owner(meta)?;
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let text = |field: Option<&String>| field.cloned().unwrap_or_default();
    let filled = |field: Option<&String>| field.filter(|text| !text.is_empty()).cloned();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    Some(PodFacts {
        name: meta.name.clone()?,
        uid: text(meta.uid.as_ref()),
        resource_version: text(meta.resource_version.as_ref()),
        workspace: owner.name.clone(),
        workspace_uid: owner.uid.clone(),
        phase: phase(status.and_then(|status| status.phase.as_deref())),
        reason: text(status.and_then(|status| status.reason.as_ref())),
        message: text(status.and_then(|status| status.message.as_ref())),
        node_name: filled(spec.and_then(|spec| spec.node_name.as_ref())),
        pod_ip: filled(status.and_then(|status| status.pod_ip.as_ref())),
        host_ip: filled(status.and_then(|status| status.host_ip.as_ref())),
        deleting_since: meta.deletion_timestamp.as_ref().map(|time| time.0),
        has_finalizer: meta.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER),
        held_by: meta.finalizers.iter().flatten().filter(|one| *one != FINALIZER).cloned().collect(),
        unschedulable: condition(conditions, "PodScheduled", "False")
            .map(|condition| text(condition.message.as_ref().or(condition.reason.as_ref()))),
        disruption: condition(conditions, "DisruptionTarget", "True")
            .map(|condition| (text(condition.reason.as_ref()), text(condition.message.as_ref()))),
        only_others: spec.map(only_others).unwrap_or_default(),
        containers: facts(status.and_then(|status| status.container_statuses.as_deref())),
        init_containers: facts(status.and_then(|status| status.init_container_statuses.as_deref())),
        all_terminated: status.is_some_and(|status| was_refused(status) || has_ended(spec, status)),
    })
}

/// Names of the containers where none is the workspace's.
fn only_others(spec: &SeenPodSpec) -> Vec<String> {
    let names = || spec.containers.iter().map(|container| &container.name);
    // Without any name nothing is known of them.
    if names().any(|name| name.is_empty() || name == WORKSPACE_CONTAINER) {
        return Vec::new();
    }
    names().cloned().collect()
}

fn facts(statuses: Option<&[SeenContainerStatus]>) -> Vec<ContainerFacts> {
    statuses.unwrap_or_default().iter().map(container).collect()
}

/// Whether the kubelet refused a pod: it started nothing, and gives no container a status.
fn was_refused(status: &SeenPodStatus) -> bool {
    let is_none = |statuses: &Option<Vec<SeenContainerStatus>>| statuses.as_ref().is_none_or(Vec::is_empty);
    let all =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    status.phase.as_deref() == Some("Failed") && all.into_iter().all(is_none)
}

/// Whether nothing of a pod runs, by the kubelet's word: a container without a status may run. An init container that waits
/// never ran.
fn has_ended(spec: Option<&SeenPodSpec>, status: &SeenPodStatus) -> bool {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let others = [&status.init_container_statuses, &status.ephemeral_container_statuses];
    let mut others = others.into_iter().flatten().flatten();
    let is = |status: &SeenContainerStatus, wanted: fn(&K8sState) -> bool| {
        status.state.as_ref().is_some_and(wanted)
    };
    !containers.is_empty()
        && containers.len() >= spec.map_or(0, |spec| spec.containers.len())
        && containers.iter().all(|one| is(one, |state| state.terminated.is_some()))
        && !others.any(|one| is(one, |state| state.running.is_some()))
}

fn workspace_owner(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let of_our_group = |owner: &OwnerReference| {
        owner.api_version.split_once('/').is_some_and(|(group, _)| group == GROUP)
            && owner.kind == "Workspace"
    };
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true) && of_our_group(owner))
}

fn phase(text: Option<&str>) -> PodPhase {
    match text {
        Some("Pending") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        _ => PodPhase::Unknown,
    }
}

fn condition<'a>(conditions: &'a [SeenCondition], kind: &str, status: &str) -> Option<&'a SeenCondition> {
    conditions.iter().find(|condition| condition.kind == kind && condition.status == status)
}

fn container(status: &SeenContainerStatus) -> ContainerFacts {
    ContainerFacts {
        name: status.name.clone(),
        ready: status.ready,
        state: state(status.state.as_ref()),
        last_termination: status
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
            .map(termination),
    }
}

/// A state with none of its three members means waiting, as the API says.
fn state(state: Option<&K8sState>) -> ContainerState {
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        return ContainerState::Terminated(termination(ended));
    }
    if state.is_some_and(|state| state.running.is_some()) {
        return ContainerState::Running;
    }
    let waiting = state.and_then(|state| state.waiting.clone()).unwrap_or_default();
    ContainerState::Waiting {
        reason: waiting.reason.unwrap_or_default(),
        message: waiting.message.unwrap_or_default(),
    }
}

fn termination(ended: &ContainerStateTerminated) -> Termination {
    Termination {
        exit_code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended.message.clone().unwrap_or_default(),
    }
}

/// A node's facts.
pub fn node_facts(node: &Node) -> NodeFacts {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let ready = |status: &str| conditions.iter().any(|one| one.type_ == "Ready" && one.status == status);
    NodeFacts {
        name: node.metadata.name.clone().unwrap_or_default(),
        tainted: !taints.is_empty(),
        ready: ready("True"),
        // The taint goes a moment after the node has come back.
        unreachable: !ready("True")
            && (ready("Unknown") || taints.iter().any(|taint| taint.key == UNREACHABLE)),
        workload: ["regular", "headless"].into_iter().find(|kind| {
            let labels = node.metadata.labels.as_ref();
            let label = labels.and_then(|labels| labels.get(&format!("gitpod.io/workload_workspace_{kind}")));
            label.is_some_and(|value| value == "true")
        }),
    }
}

#[cfg(test)]
mod tests;
