//! The policies of `deploy/node` on a real apiserver: an agent with the token of its pod writes to objects of its own node only,
//! and there only what is its own.

use anyhow::{Context as _, Result, bail, ensure};
use http::Request;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::story::smallest_spec;
use e2e::harness::assets::source_dir;
use e2e::harness::cluster::client_of;
use e2e::harness::spaceport::{NAMESPACE, kubeconfig, prepare_without_pod_policy};
use e2e::harness::{Cluster, Fleet, FleetOptions, block_on, until};

const SYSTEM: &str = "spaceport-system";
const AGENT: &str = "spaceport-node";
const SOON: std::time::Duration = std::time::Duration::from_secs(40);
const MERGE: &str = "application/merge-patch+json";
const WORKSPACES: &str = "/apis/workspace.gitpod.io/v1/namespaces/workspaces/workspaces";
const SNAPSHOTS: &str = "/apis/workspace.gitpod.io/v1/namespaces/workspaces/snapshots";
const PODS: &str = "/api/v1/namespaces/workspaces/pods";

/// A write, and what the policy says about it: nothing if it is accepted.
type Case = (&'static str, String, Value, Option<&'static str>);

#[test]
fn an_agent_writes_to_objects_of_its_own_node_only() -> Result<()> {
    block_on(async {
        let fleet = Fleet::boot(FleetOptions::of(1)).await?;
        let cluster = &fleet.clusters()[0];
        prepare_without_pod_policy(cluster).await?;
        let nodes = Api::<Node>::all(cluster.client()).list(&ListParams::default()).await?;
        let names: Vec<String> = nodes.iter().map(kube::ResourceExt::name_any).collect();
        let [own, other, ..] = names.as_slice() else { bail!("fewer than two nodes") };
        for file in ["rbac.yaml", "policy.yaml", "daemonset.yaml"] {
            cluster.apply_file(&source_dir().join("../deploy/node").join(file)).await?;
        }
        objects(cluster, own, "own").await?;
        objects(cluster, other, "other").await?;
        let agent = agent_on(cluster, own).await?;
        until(SOON, "the policies to be enforced", async || {
            for (of, path) in [("other", WORKSPACES), ("other", SNAPSHOTS)] {
                let path = format!("{path}/{of}/status");
                let body = json!({ "status": { "completed": true, "snapshot": "x" } });
                let refusal = send(&agent, "PATCH", &path, &body).await?;
                ensure!(
                    refusal.is_some_and(|text| text.contains("ValidatingAdmissionPolicy")),
                    "{path} is open"
                );
            }
            let refusal =
                send(&agent, "PATCH", &format!("/api/v1/nodes/{other}"), &label(&ready(), "true")).await?;
            ensure!(refusal.is_some_and(|text| text.contains("ValidatingAdmissionPolicy")), "nodes are open");
            let refusal = send(&agent, "DELETE", &format!("{PODS}/ws-other"), &Value::Null).await?;
            ensure!(refusal.is_some_and(|text| text.contains("ValidatingAdmissionPolicy")), "pods are open");
            Ok(())
        })
        .await?;
        let mut wrong = Vec::new();
        for case in cases(own, other) {
            check(&agent, case, &mut wrong).await?;
        }
        let unbound = client_with(cluster, "unbound", &token(cluster, json!({})).await?).await?;
        for (method, path, body, _) in cases(own, other) {
            let says = if path.starts_with("/api/v1/nodes") { "its own node only" } else { "" };
            check(&unbound, (method, path, body, Some(says)), &mut wrong).await?;
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

fn cases(own: &str, other: &str) -> Vec<Case> {
    const ITS_NODE: Option<&str> = Some("the Workspace is not on the node of this agent");
    const ITS_FIELDS: Option<&str> = Some("a node agent changes conditions, git, imageInfo");
    const ITS_CONDITIONS: Option<&str> = Some("a node agent changes its own conditions only");
    let workspace = |name: &str| format!("{WORKSPACES}/{name}/status");
    let snapshot = |name: &str| format!("{SNAPSHOTS}/{name}/status");
    let node = |name: &str| format!("/api/v1/nodes/{name}");
    let status = |fields: Value| json!({ "status": fields });
    let ready_now = conditions(&[deployed(), condition("ContentReady"), condition("StorageFull")]);
    vec![
        ("PATCH", workspace("own"), status(ready_now.clone()), None),
        (
            "PATCH",
            workspace("own"),
            status(json!({ "imageInfo": { "totalSize": 1 }, "snapshot": "x" })),
            None,
        ),
        ("PATCH", workspace("own"), status(json!({ "git": { "branch": "main" } })), None),
        ("PATCH", workspace("other"), status(ready_now), ITS_NODE),
        ("PATCH", workspace("other"), status(json!({ "runtime": { "nodeName": own } })), ITS_NODE),
        ("PATCH", workspace("own"), status(json!({ "runtime": { "nodeName": other } })), ITS_FIELDS),
        ("PATCH", workspace("own"), status(json!({ "phase": "Stopped" })), ITS_FIELDS),
        ("PATCH", workspace("own"), status(json!({ "ownerToken": "mine" })), ITS_FIELDS),
        ("PATCH", workspace("own"), status(conditions(&[deployed(), condition("Failed")])), ITS_CONDITIONS),
        ("PATCH", workspace("own"), status(conditions(&[condition("ContentReady")])), ITS_CONDITIONS),
        ("PATCH", snapshot("own"), status(json!({ "completed": true, "url": "x" })), None),
        (
            "PATCH",
            snapshot("other"),
            status(json!({ "completed": true })),
            Some("the Snapshot is not for the node"),
        ),
        ("PATCH", node(own), label(&ready(), "true"), None),
        ("PATCH", node(own), json!({ "metadata": { "labels": { ready(): null } } }), None),
        ("PATCH", node(own), label("spaceport.dev/storage-quota", "measured"), None),
        ("PATCH", node(other), label(&ready(), "true"), Some("a node agent changes its own node only")),
        (
            "PATCH",
            node(own),
            label("gitpod.io/workload_workspace_regular", "false"),
            Some("changes the labels"),
        ),
        ("PATCH", node(own), label("example.com/new", "x"), Some("changes the labels")),
        (
            "PATCH",
            node(own),
            json!({ "spec": { "unschedulable": true } }),
            Some("changes labels of its node only"),
        ),
        (
            "PATCH",
            node(own),
            json!({ "metadata": { "annotations": { "a": "b" } } }),
            Some("changes labels of its node only"),
        ),
        ("DELETE", format!("{PODS}/ws-own"), Value::Null, None),
        ("DELETE", format!("{PODS}/ws-other"), Value::Null, Some("deletes pods of its own node only")),
        ("DELETE", format!("{PODS}/plain-own"), Value::Null, Some("deletes pods of Workspaces only")),
    ]
}

async fn check(client: &Client, (method, path, body, expected): Case, wrong: &mut Vec<String>) -> Result<()> {
    let refusal = send(client, method, &path, &body).await?;
    let is_right = match (&refusal, expected) {
        (None, None) => true,
        (Some(text), Some(says)) => text.contains("ValidatingAdmissionPolicy") && text.contains(says),
        _ => false,
    };
    if !is_right {
        wrong.push(format!("{method} {path} {body}: {refusal:?} instead of {expected:?}"));
    }
    Ok(())
}

/// Sends a dry-run write. Returns why it is refused.
async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<Option<String>> {
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}?dryRun=All"))
        .header(http::header::CONTENT_TYPE, MERGE)
        .body(bytes)?;
    match client.request_text(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => bail!("{method} {path}: {error}"),
    }
}

fn ready() -> String {
    format!("gitpod.io/ws-daemon_ready_ns_{NAMESPACE}-policy")
}

fn label(name: &str, value: &str) -> Value {
    json!({ "metadata": { "labels": { name: value } } })
}

fn deployed() -> Value {
    condition("Deployed")
}

fn condition(kind: &str) -> Value {
    json!({ "type": kind, "status": "True", "reason": "Unknown", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" })
}

fn conditions(list: &[Value]) -> Value {
    json!({ "conditions": list })
}

/// A Workspace with its pod, a Snapshot and another pod, on a node.
async fn objects(cluster: &Cluster, node: &str, name: &str) -> Result<()> {
    let client = cluster.client();
    let workspace = json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "metadata": { "name": name },
        "spec": smallest_spec(name),
    });
    let snapshot = json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Snapshot", "metadata": { "name": name },
        "spec": { "nodeName": node, "workspaceID": name },
    });
    let made = post(&client, WORKSPACES, &workspace).await?;
    post(&client, SNAPSHOTS, &snapshot).await?;
    let status = json!({ "status": { "podStarts": 1, "phase": "Running", "runtime": { "nodeName": node },
        "conditions": [deployed()] } });
    let request = Request::patch(format!("{WORKSPACES}/{name}/status"))
        .header(http::header::CONTENT_TYPE, MERGE)
        .body(serde_json::to_vec(&status)?)?;
    client.request_text(request).await.context("the status of a Workspace")?;
    let owner = json!({ "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "name": name,
        "uid": made["metadata"]["uid"], "controller": true });
    for (prefix, owners) in [("ws", json!([owner])), ("plain", json!([]))] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("{prefix}-{name}"), "ownerReferences": owners },
            "spec": { "nodeName": node, "serviceAccountName": "workspace",
                "containers": [{ "name": "c", "image": "none" }] },
        });
        post(&client, PODS, &pod).await?;
    }
    Ok(())
}

async fn post(client: &Client, path: &str, object: &Value) -> Result<Value> {
    let request = Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(object)?)?;
    client.request(request).await.with_context(|| format!("create {object}"))
}

/// A client with the token of an agent's pod on a node, as the kubelet mounts it.
async fn agent_on(cluster: &Cluster, node: &str) -> Result<Client> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), SYSTEM);
    let pod = serde_json::from_value(json!({
        "metadata": { "name": "agent" },
        "spec": { "nodeName": node, "serviceAccountName": AGENT, "automountServiceAccountToken": false,
            "containers": [{ "name": "c", "image": "none" }] },
    }))?;
    let pod = pods.create(&PostParams::default(), &pod).await.context("a pod of the agent")?;
    let bound =
        json!({ "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "agent", "uid": pod.uid() } });
    client_with(cluster, "agent", &token(cluster, bound).await?).await
}

async fn token(cluster: &Cluster, spec: Value) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), SYSTEM);
    let mut request = json!({ "spec": { "audiences": [], "expirationSeconds": 3600 } });
    for (key, value) in spec.as_object().into_iter().flatten() {
        request["spec"][key] = value.clone();
    }
    let request: TokenRequest = serde_json::from_value(request)?;
    let made = accounts.create_token_request(AGENT, &PostParams::default(), &request).await?;
    made.status.and_then(|status| status.token).context("no token")
}

async fn client_with(cluster: &Cluster, name: &str, token: &str) -> Result<Client> {
    let path = cluster.dir().join(format!("{name}.kubeconfig"));
    std::fs::write(&path, kubeconfig(&cluster.api(), cluster.ca_pem(), token)?)?;
    client_of(&path).await
}
