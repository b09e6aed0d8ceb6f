//! The node agent beside simulated nodes: it finds the workspaces of its node where the apiserver selects them and where it
//! cannot, and shows on the node that it is there. Content on real nodes has stories of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::Request;
use k8s::resources::crds;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::story::smallest_spec;
use e2e::harness::real_node::available;
use e2e::harness::spaceport::{NAMESPACE, SECRETS_NAMESPACE, prepare_namespaces, program};
use e2e::harness::{Cluster, Fleet, FleetOptions, Launch, Process, block_on, until};

const SOON: Duration = Duration::from_secs(40);
const GRACE: Duration = Duration::from_secs(30);
const WORKSPACES: &str = "/apis/workspace.gitpod.io/v1/namespaces/workspaces/workspaces";
const LABEL: &str = "gitpod.io/ws-daemon_ready_ns_workspaces";

#[test]
fn an_agent_finds_the_workspaces_of_its_node_with_and_without_selectable_fields() -> Result<()> {
    if !available("an agent beside simulated nodes")? {
        return Ok(());
    }
    block_on(async {
        let fleet = Fleet::boot(FleetOptions::of(1)).await?;
        let cluster = &fleet.clusters()[0];
        let nodes = Api::<Node>::all(cluster.client()).list(&ListParams::default()).await?;
        let names: Vec<String> = nodes.iter().map(kube::ResourceExt::name_any).collect();
        let [own, other, ..] = names.as_slice() else { bail!("fewer than two nodes") };
        for selects in [false, true] {
            define(cluster, selects).await?;
            prepare_namespaces(cluster, NAMESPACE, SECRETS_NAMESPACE).await?;
            let client = cluster.client();
            let name = |name: &str| format!("{name}-{selects}");
            create(&client, &name("early"), own).await?;
            create(&client, &name("theirs"), other).await?;
            label(&client, own, None).await?;
            let agent = start(cluster, own, selects).await?;
            ready(&client, &name("early")).await?;
            // It gets its node after it was created, as a workspace does.
            create(&client, &name("late"), own).await?;
            ready(&client, &name("late")).await?;
            until(SOON, "the label of the node", async || {
                ensure!(labelled(&client, own).await?, "the node has no label");
                Ok(())
            })
            .await?;
            ensure!(conditions(&client, &name("theirs")).await?.is_empty(), "it acted on another node's");
            agent.stop(GRACE).await?;
            ensure!(!labelled(&client, own).await?, "the label is still there");
        }
        Ok(())
    })
}

/// Installs the definitions, and waits until the apiserver serves them so.
async fn define(cluster: &Cluster, selects: bool) -> Result<()> {
    for crd in crds() {
        let mut crd = serde_json::to_value(&crd)?;
        if !selects {
            for version in crd["spec"]["versions"].as_array_mut().into_iter().flatten() {
                version
                    .as_object_mut()
                    .context("a version")?
                    .remove("selectableFields")
                    .context("no fields")?;
            }
        }
        cluster.apply_yaml(&crd.to_string()).await?;
    }
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &node_resource());
    until(SOON, "the apiserver to serve the definitions", async || {
        let answer = api.list(&ListParams::default().fields("status.runtime.nodeName=x")).await;
        ensure!(answer.is_ok() == selects, "{:?}", answer.err());
        Ok(())
    })
    .await
}

fn node_resource() -> kube::api::ApiResource {
    kube::api::ApiResource::erase::<k8s::resources::Workspace>(&())
}

/// A workspace that is to be initialized on a node, with its pod.
async fn create(client: &Client, name: &str, node: &str) -> Result<()> {
    let workspace = json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "metadata": { "name": name },
        "spec": smallest_spec(name),
    });
    let made = send(client, Request::post(WORKSPACES), "application/json", &workspace).await?;
    let owner = json!({ "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "name": name,
        "uid": made["metadata"]["uid"], "controller": true });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("ws-{name}"), "ownerReferences": [owner] },
        "spec": { "nodeName": node, "serviceAccountName": "workspace",
            "containers": [{ "name": "workspace", "image": "none" }] },
    });
    send(client, Request::post("/api/v1/namespaces/workspaces/pods"), "application/json", &pod).await?;
    let status =
        json!({ "status": { "podStarts": 1, "phase": "Creating", "runtime": { "nodeName": node } } });
    let request = Request::patch(format!("{WORKSPACES}/{name}/status"));
    send(client, request, "application/merge-patch+json", &status).await?;
    Ok(())
}

async fn send(client: &Client, request: http::request::Builder, kind: &str, body: &Value) -> Result<Value> {
    let request = request.header(http::header::CONTENT_TYPE, kind).body(serde_json::to_vec(body)?)?;
    client.request(request).await.with_context(|| format!("write {body}"))
}

async fn label(client: &Client, node: &str, value: Option<&str>) -> Result<()> {
    let patch = json!({ "metadata": { "labels": { LABEL: value } } });
    let request = Request::patch(format!("/api/v1/nodes/{node}"));
    send(client, request, "application/merge-patch+json", &patch).await.map(|_| ())
}

async fn labelled(client: &Client, node: &str) -> Result<bool> {
    let node = Api::<Node>::all(client.clone()).get(node).await?;
    Ok(node.labels().contains_key(LABEL))
}

async fn conditions(client: &Client, name: &str) -> Result<Vec<Value>> {
    let request = Request::get(format!("{WORKSPACES}/{name}")).body(Vec::new())?;
    let workspace: Value = client.request(request).await?;
    Ok(workspace["status"]["conditions"].as_array().cloned().unwrap_or_default())
}

async fn ready(client: &Client, name: &str) -> Result<()> {
    until(SOON, "the content to be ready", async || {
        let conditions = conditions(client, name).await?;
        let is_ready = |one: &Value| one["type"] == "ContentReady" && one["status"] == "True";
        ensure!(conditions.iter().any(is_ready), "{name}: {conditions:?}");
        Ok(())
    })
    .await
}

/// Starts the agent of a simulated node on this machine.
async fn start(cluster: &Cluster, node: &str, selects: bool) -> Result<Process> {
    let folder = cluster.dir().join(format!("agent-{selects}"));
    let host_path = folder.join("workspaces");
    fs::create_dir_all(&host_path)?;
    let config = folder.join("node.json");
    fs::write(&config, configuration(cluster, node, &folder, &host_path).to_string())?;
    let args = vec!["node".to_owned(), "--config".to_owned(), config.display().to_string()];
    let launch = Launch::new(&format!("agent of {node}"), &program()?, args, &folder.join("agent.log"));
    Process::start(cluster.assets(), &launch).await
}

fn configuration(cluster: &Cluster, node: &str, folder: &Path, host_path: &Path) -> Value {
    json!({
        "node": {
            "name": node, "namespaces": [{ "namespace": NAMESPACE, "secretsNamespace": SECRETS_NAMESPACE }],
            "workspaceHostPath": host_path, "kubeconfig": cluster.kubeconfig(), "diskGuard": { "minFree": "0" },
        },
        "content": { "storage": { "kind": "local", "local": { "path": folder.join("store") } } },
        "health": { "addr": "127.0.0.1:0" }, "prometheus": { "addr": "" },
    })
}
