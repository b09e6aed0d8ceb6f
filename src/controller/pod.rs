//! Builds the pod of a workspace. [`PodInput::parse`] finds every problem; building cannot fail.

mod check;
mod env;
mod input;
mod name;
mod shape;
mod spec;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::settings::Settings;
use domain::class::Quantity;
use domain::workspace::Kind;
use k8s::resources::{Workspace, names};

pub use check::problems;
pub use input::PodInput;
pub use name::{CONTAINER, name};
pub use shape::{sample, sample_workspace, shape};
pub use template::merge_templates;

/// Builds the pod from checked input, completed by the class's template.
pub fn build(input: &PodInput<'_>) -> Pod {
    let pod = Pod { metadata: metadata(input), spec: Some(pod_spec(input)), status: None };
    let mut pod = match input.template {
        Some(template) => template::complete(pod, template),
        None => pod,
    };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    for (key, value) in annotations_of_client(input) {
        // Annotations of the manager and of the admin's template win.
        annotations.entry(key.clone()).or_insert_with(|| value.clone());
    }
    pod
}

/// The pod of a Workspace that is not created yet; `None` if its input is invalid.
pub fn planned(mut workspace: Workspace, settings: &Settings) -> Option<Pod> {
    workspace.metadata.uid = Some("00000000-0000-0000-0000-000000000000".to_owned());
    PodInput::parse(&workspace, settings).ok().map(|input| build(&input))
}

/// The Workspace's annotations that the configuration allows on pods.
fn annotations_of_client<'a>(input: &'a PodInput<'_>) -> impl Iterator<Item = (&'a String, &'a String)> {
    let all = input.workspace.metadata.annotations.iter().flatten();
    all.filter(|(key, _)| input.settings.pod_annotations.allows(key))
}

/// Annotations for node agents, scrapers and autoscalers. Of the Workspace's annotations only two switches are copied, which
/// have no field in the spec; limits are those of the class, as the pod's resources are.
fn managed_annotations(input: &PodInput<'_>) -> BTreeMap<String, String> {
    let cpu = &input.class.limits.cpu;
    let limit = |quantity: &Quantity| (!quantity.is_zero()).then(|| quantity.as_str().to_owned());
    let switch = |key: &str| {
        let value = input.workspace.metadata.annotations.as_ref().and_then(|all| all.get(key));
        value.filter(|value| *value == "true").cloned()
    };
    let some = [
        (names::CPU_MIN_LIMIT, limit(&cpu.min)),
        (names::CPU_BURST_LIMIT, limit(&cpu.burst)),
        (names::CONNECTION_LIMIT, switch(names::CONNECTION_LIMIT)),
        (names::PSI, switch(names::PSI)),
    ];
    let mut annotations = text_map([
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/path", "/metrics"),
        ("prometheus.io/port", "23000"),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ]);
    annotations.extend(some.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    annotations
}

fn metadata(input: &PodInput<'_>) -> ObjectMeta {
    let workspace = input.workspace;
    ObjectMeta {
        name: Some(name(input.kind, input.id)),
        namespace: Some(input.settings.namespace.to_string()),
        annotations: Some(managed_annotations(input)),
        labels: Some(labels(input)),
        finalizers: Some(vec![names::FINALIZER.to_owned()]),
        owner_references: Some(vec![owner_reference(workspace)]),
        ..ObjectMeta::default()
    }
}

fn labels(input: &PodInput<'_>) -> BTreeMap<String, String> {
    let ownership = &input.workspace.spec.ownership;
    let headless = if input.headless() { "true" } else { "false" };
    text_map([
        ("app", "gitpod"),
        ("component", "workspace"),
        (names::META_ID, &ownership.workspace_id),
        (names::WORKSPACE_ID, input.id),
        (names::OWNER, &ownership.owner),
        (names::WORKSPACE_TYPE, type_label(input.kind)),
        (names::MANAGED_BY, names::MANAGER),
        (names::INSTANCE_ID, input.id),
        (names::HEADLESS, headless),
        (names::NETWORK_POLICY, "default"),
    ])
}

fn type_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Regular => "regular",
        Kind::Prebuild => "prebuild",
        Kind::ImageBuild => "imagebuild",
    }
}

fn owner_reference(workspace: &Workspace) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/v1", names::GROUP),
        kind: "Workspace".to_owned(),
        name: workspace.metadata.name.clone().unwrap_or_default(),
        uid: workspace.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn pod_spec(input: &PodInput<'_>) -> PodSpec {
    let settings = input.settings;
    PodSpec {
        hostname: Some(input.workspace.spec.ownership.workspace_id.clone()),
        automount_service_account_token: Some(false),
        service_account_name: Some("workspace".to_owned()),
        scheduler_name: (!settings.scheduler_name.is_empty()).then(|| settings.scheduler_name.clone()),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(1800),
        security_context: Some(spec::pod_security(settings)),
        affinity: Some(spec::affinity(input)),
        tolerations: Some(spec::tolerations()),
        volumes: Some(spec::volumes(input)),
        containers: vec![spec::container(input)],
        ..PodSpec::default()
    }
}

fn text_map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
