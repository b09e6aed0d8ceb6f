//! Resources of nodes, pods and quotas, as placement counts them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node as K8sNode, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, ResourceQuota, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as K8sQuantity;

use crate::resources::{SeenContainer, SeenPodSpec};
use domain::class::Quantity;
use domain::placement::capacity::{
    Node, Operator, QuotaLeft, Requirement, Resources, Shape, Taint, Toleration,
};

type Amounts = BTreeMap<String, K8sQuantity>;

/// A node as far as it decides where pods can go.
pub fn node(node: &K8sNode) -> Node {
    let spec = node.spec.as_ref();
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Node {
        name: node.metadata.name.as_deref().unwrap_or_default().into(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints: taints
            .iter()
            .filter(|taint| taint.effect != "PreferNoSchedule")
            .map(|taint| Taint {
                key: taint.key.clone(),
                value: text(&taint.value),
                effect: taint.effect.clone(),
            })
            .collect(),
        ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        allocatable: resources(status.and_then(|status| status.allocatable.as_ref())),
    }
}

/// What a quota has left for pods; `None` if its scopes count only some pods, which is not known here.
pub fn quota_left(quota: &ResourceQuota) -> Option<QuotaLeft> {
    let spec = quota.spec.as_ref()?;
    if spec.scope_selector.is_some() || spec.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty()) {
        return None;
    }
    let status = quota.status.as_ref()?;
    let amount = |all: Option<&Amounts>, name: &str| all?.get(name)?.0.parse::<Quantity>().ok();
    let left = |names: [&str; 2], of: fn(&Quantity) -> u64| {
        let each = names.into_iter().filter_map(|name| {
            let hard = amount(status.hard.as_ref(), name)?;
            let used = amount(status.used.as_ref(), name).map_or(0, |used| of(&used));
            Some(of(&hard).saturating_sub(used))
        });
        each.min()
    };
    Some(QuotaLeft {
        name: quota.metadata.name.clone().unwrap_or_default(),
        cpu: left(["cpu", "requests.cpu"], Quantity::milli),
        memory: left(["memory", "requests.memory"], Quantity::value),
        storage: left(["ephemeral-storage", "requests.ephemeral-storage"], Quantity::value),
        pods: left(["pods", "count/pods"], Quantity::value),
    })
}

/// What a pod asks of its node, counted as the scheduler does: containers and sidecars together, or the largest
/// init container with the sidecars before it where that is more; with overhead.
pub fn pod_requests(spec: &SeenPodSpec) -> Resources {
    let mut running = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let asked = container_requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running = running + asked;
            peak = peak.max(&running);
        } else {
            peak = peak.max(&(running + asked));
        }
    }
    for container in &spec.containers {
        running = running + container_requests(container);
    }
    let mut asked = running.max(&peak);
    // Of a pod as a whole, requests replace the sum of its containers'.
    if let Some(whole) = &spec.resources {
        let given = requests(Some(whole));
        let or = |given: u64, counted: u64| if given > 0 { given } else { counted };
        asked.cpu = or(given.cpu, asked.cpu);
        asked.memory = or(given.memory, asked.memory);
    }
    Resources { pods: 1, ..asked + resources(spec.overhead.as_ref()) }
}

/// What a pod asks of the nodes that take it.
pub fn shape(spec: &PodSpec) -> Shape {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let equal = |(key, value): (&String, &String)| Requirement {
        label: Some(key.clone()),
        operator: Operator::In,
        values: vec![value.clone()],
    };
    Shape {
        requests: pod_requests(&spec.into()),
        all: spec.node_selector.iter().flatten().map(equal).collect(),
        any: required.map_or_else(Vec::new, |one| one.node_selector_terms.iter().map(term).collect()),
        tolerations: spec
            .tolerations
            .iter()
            .flatten()
            .map(|toleration| {
                let any_value = toleration.operator.as_deref() == Some("Exists");
                let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
                Toleration {
                    key: given(&toleration.key),
                    value: (!any_value).then(|| toleration.value.clone().unwrap_or_default()),
                    effect: given(&toleration.effect),
                }
            })
            .collect(),
    }
}

fn term(term: &NodeSelectorTerm) -> Vec<Requirement> {
    let labels = term.match_expressions.iter().flatten().map(|one| requirement(one, Some(one.key.clone())));
    let fields = term.match_fields.iter().flatten().map(|one| requirement(one, None));
    labels.chain(fields).collect()
}

fn requirement(one: &NodeSelectorRequirement, label: Option<String>) -> Requirement {
    let operator = match one.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        _ => Operator::Exists,
    };
    Requirement { label, operator, values: one.values.clone().unwrap_or_default() }
}

fn container_requests(container: &SeenContainer) -> Resources {
    requests(container.resources.as_ref())
}

/// What is limited and not requested is requested as much as it is limited, as an apiserver fills it in.
fn requests(given: Option<&ResourceRequirements>) -> Resources {
    let Some(given) = given else { return Resources::default() };
    let mut all = given.limits.clone().unwrap_or_default();
    all.extend(given.requests.clone().unwrap_or_default());
    resources(Some(&all))
}

/// What cannot be read counts nothing: an apiserver takes no such quantity.
fn resources(amounts: Option<&Amounts>) -> Resources {
    let amount = |name: &str| amounts?.get(name)?.0.parse::<Quantity>().ok();
    let whole = |name: &str| amount(name).map_or(0, |amount| amount.value());
    Resources {
        cpu: amount("cpu").map_or(0, |amount| amount.milli()),
        memory: whole("memory"),
        storage: whole("ephemeral-storage"),
        pods: whole("pods"),
    }
}

#[cfg(test)]
mod tests;
