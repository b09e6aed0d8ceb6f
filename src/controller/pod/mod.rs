//! The pod of a workspace. Everything that can be wrong is found in [`PodInput::parse`]; building cannot fail.

mod env;
mod input;
mod shape;
mod spec;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::cluster::resources::{Workspace, WorkspaceType, names};

pub use input::PodInput;
pub use shape::shape;
pub use template::merge_templates;

/// Name of the container that the user works in.
pub const CONTAINER: &str = "workspace";

/// Name of the pod of a workspace: one workspace can never have two.
pub fn name(kind: WorkspaceType, id: &str) -> String {
    let prefix = match kind {
        WorkspaceType::Regular => "ws",
        WorkspaceType::Prebuild => "prebuild",
        WorkspaceType::ImageBuild => "imagebuild",
    };
    format!("{prefix}-{id}")
}

/// The pod.
pub fn build(input: &PodInput<'_>) -> Pod {
    let pod = Pod { metadata: metadata(input), spec: Some(pod_spec(input)), status: None };
    match input.template {
        Some(template) => template::complete(pod, template),
        None => pod,
    }
}

fn metadata(input: &PodInput<'_>) -> ObjectMeta {
    let workspace = input.workspace;
    let mut annotations = text_map([
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/path", "/metrics"),
        ("prometheus.io/port", "23000"),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ]);
    annotations.extend(workspace.metadata.annotations.clone().unwrap_or_default());
    ObjectMeta {
        name: Some(name(input.kind, input.id)),
        namespace: Some(input.settings.namespace.to_string()),
        annotations: Some(annotations),
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

fn type_label(kind: WorkspaceType) -> &'static str {
    match kind {
        WorkspaceType::Regular => "regular",
        WorkspaceType::Prebuild => "prebuild",
        WorkspaceType::ImageBuild => "imagebuild",
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
