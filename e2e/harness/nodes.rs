//! Simulated nodes with the labels of workspace nodes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{Namespace, Node, ServiceAccount},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

/// Capacity of one simulated node.
#[derive(Clone, Debug)]
pub struct NodeSize {
    /// CPU, such as `64` or `500m`.
    pub cpu: String,
    /// Memory, such as `256Gi`.
    pub memory: String,
    /// Ephemeral storage.
    pub storage: String,
    /// Number of pods.
    pub pods: u32,
}

impl Default for NodeSize {
    /// Practically unlimited.
    fn default() -> Self {
        Self { cpu: "4000".into(), memory: "16Ti".into(), storage: "1Pi".into(), pods: 10_000 }
    }
}

/// Creates the nodes `<prefix>-<i>` for each `i` of `numbers`.
pub async fn create(
    client: &Client,
    prefix: &str,
    numbers: std::ops::Range<usize>,
    size: &NodeSize,
) -> Result<()> {
    let api = Api::<Node>::all(client.clone());
    let create = |i: usize| {
        let api = api.clone();
        async move {
            let name = format!("{prefix}-{i}");
            let node = node(&name, size)?;
            api.create(&PostParams::default(), &node)
                .await
                .with_context(|| format!("cannot create node {name}"))
        }
    };
    stream::iter(numbers).map(create).buffer_unordered(8).try_collect::<Vec<_>>().await?;
    Ok(())
}

fn node(name: &str, size: &NodeSize) -> Result<Node> {
    let resources = json!({
        "cpu": size.cpu, "memory": size.memory, "ephemeral-storage": size.storage, "pods": size.pods.to_string(),
    });
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "annotations": { "kwok.x-k8s.io/node": "fake" },
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "gitpod.io/workload_workspace_regular": "true", "gitpod.io/workload_workspace_headless": "true",
            },
        },
        "status": { "allocatable": resources, "capacity": resources },
    }))
    .context("cannot make a node")
}

/// Creates `namespace` with the service account `workspace`, and labels every node as serving it.
pub async fn prepare_namespace(client: &Client, namespace: &str) -> Result<()> {
    // Another field manager than for files: otherwise their labels would be removed.
    let params = PatchParams::apply("e2e-namespace").force();
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
    Api::<Namespace>::all(client.clone())
        .patch(namespace, &params, &Patch::Apply(object))
        .await
        .with_context(|| format!("cannot create namespace {namespace}"))?;
    let object = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "workspace" } });
    Api::<ServiceAccount>::namespaced(client.clone(), namespace)
        .patch("workspace", &params, &Patch::Apply(object))
        .await
        .with_context(|| format!("cannot create service account workspace in {namespace}"))?;
    label_for_namespace(client, namespace, true).await
}

/// Labels every node as having (`ready`) or not having a ready node agent and registry facade of `namespace`.
pub async fn label_for_namespace(client: &Client, namespace: &str, ready: bool) -> Result<()> {
    let value = if ready { json!("true") } else { json!(null) };
    let labels = BTreeMap::from([
        (format!("gitpod.io/ws-daemon_ready_ns_{namespace}"), value.clone()),
        (format!("gitpod.io/registry-facade_ready_ns_{namespace}"), value),
    ]);
    let patch = json!({ "metadata": { "labels": labels } });
    let api = Api::<Node>::all(client.clone());
    for node in api.list(&ListParams::default()).await.context("cannot list nodes")? {
        let name = node.name_any();
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => {}
            // Another test deleted it.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error).with_context(|| format!("cannot label node {name}")),
        }
    }
    Ok(())
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Deletes a node, as a cloud does when a machine goes away.
pub async fn delete(client: &Client, name: &str) -> Result<()> {
    let api = Api::<Node>::all(client.clone());
    api.delete(name, &DeleteParams::default()).await.with_context(|| format!("cannot delete node {name}"))?;
    Ok(())
}
