//! Guarantees of the harness to the tests that use it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use e2e::harness::{Cluster, Fleet, FleetOptions, NodeAgent, Part, annotations, node_agent::Pace};

mod faults;
mod real_node;
mod servers;

const SOON: Duration = Duration::from_secs(20);
const FINALIZER: &str = "gitpod.io/finalizer";

const CRD: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: workspaces.workspace.gitpod.io }
spec:
  group: workspace.gitpod.io
  scope: Namespaced
  names: { plural: workspaces, singular: workspace, kind: Workspace, listKind: WorkspaceList }
  versions:
    - name: v1
      served: true
      storage: true
      subresources: { status: {} }
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
---
apiVersion: workspace.gitpod.io/v1
kind: Workspace
metadata: { name: first, namespace: ws }
spec: { type: Regular }
";

async fn one_cluster() -> Result<Fleet> {
    let fleet = Fleet::boot(FleetOptions::of(1)).await?;
    fleet.clusters()[0].prepare_namespace("ws").await?;
    Ok(fleet)
}

/// A pod like those of workspaces: finalizer, required affinity, long grace period.
fn pod(name: &str, asked: &[(&str, &str)]) -> Result<Pod> {
    let keys = [
        "gitpod.io/workload_workspace_regular",
        "gitpod.io/ws-daemon_ready_ns_ws",
        "gitpod.io/registry-facade_ready_ns_ws",
    ];
    let terms = keys.map(|key| json!({ "key": key, "operator": "Exists" }));
    let annotations: serde_json::Map<_, _> = asked.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name, "finalizers": [FINALIZER], "annotations": annotations },
        "spec": {
            "serviceAccountName": "workspace",
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1800,
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": terms }],
            } } },
            "containers": [{ "name": "workspace", "image": "none", "resources": { "requests": { "cpu": "1" } } }],
        },
    }))?)
}

async fn until<K>(api: &Api<K>, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value>
where
    K: Watched,
{
    until_within(SOON, api, name, what, holds).await
}

async fn until_within<K>(
    within: Duration,
    api: &Api<K>,
    name: &str,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<Value>
where
    K: Watched,
{
    let json = |object: Option<&K>| serde_json::to_value(object).unwrap_or_default();
    let waited =
        timeout(within, await_condition(api.clone(), name, |object: Option<&K>| holds(&json(object)))).await;
    let Ok(found) = waited else {
        let now = serde_json::to_string(&api.get_opt(name).await?)?;
        anyhow::bail!("{name}: not {what} after {within:?}: {now}");
    };
    Ok(json(found?.as_ref()))
}

/// An object that can be watched.
trait Watched:
    kube::Resource + Clone + std::fmt::Debug + Send + serde::Serialize + serde::de::DeserializeOwned + 'static
{
}

impl<K> Watched for K where
    K: kube::Resource
        + Clone
        + std::fmt::Debug
        + Send
        + serde::Serialize
        + serde::de::DeserializeOwned
        + 'static
{
}

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

/// Deletes a pod, and checks that it stops, stays for its finalizer, and is removed.
async fn delete(pods: &Api<Pod>, name: &str) -> Result<()> {
    pods.delete(name, &DeleteParams::default()).await?;
    let stopped = |pod: &Value| pod["metadata"]["deletionGracePeriodSeconds"] == 0;
    let last = until(pods, name, "deleted with grace 0", stopped).await?;
    ensure!(state(&last)["running"].is_null(), "it runs on: {last}");
    ensure!(last["metadata"]["finalizers"] == json!([FINALIZER]), "the finalizer is gone: {last}");
    let patch = json!({ "metadata": { "finalizers": null } });
    pods.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    until(pods, name, "gone", Value::is_null).await?;
    Ok(())
}

/// Annotations of a pod, and the state that it then reaches.
type Case = (&'static str, &'static [(&'static str, &'static str)], fn(&Value) -> bool);

const CASES: [Case; 9] = [
    ("usual", &[], |p| {
        p["status"]["phase"] == "Running" && p["status"]["containerStatuses"][0]["ready"] == true
    }),
    ("slow", &[(annotations::POD, "slow-start"), (annotations::START_DELAY, "1s")], |p| {
        p["status"]["phase"] == "Running"
    }),
    ("unready", &[(annotations::POD, "never-ready")], |p| p["status"]["phase"] == "Running"),
    ("no-image", &[(annotations::POD, "image-pull-error")], |p| {
        state(p)["waiting"]["reason"] == "ImagePullBackOff"
    }),
    ("flaky-image", &[(annotations::POD, "image-pull-flaky"), (annotations::START_DELAY, "1s")], |p| {
        p["status"]["phase"] == "Running"
    }),
    ("rejected", &[(annotations::POD, "reject"), (annotations::REASON, "OutOfmemory")], |p| {
        p["status"]["phase"] == "Failed" && p["status"]["reason"] == "OutOfmemory"
    }),
    ("crashed", &[(annotations::POD, "crash"), (annotations::MESSAGE, "{\"message\":\"boom\"}")], |p| {
        p["status"]["phase"] == "Failed" && state(p)["terminated"]["message"] == "{\"message\":\"boom\"}"
    }),
    ("evicted", &[(annotations::POD, "evict"), (annotations::FAIL_AFTER, "100ms")], |p| {
        p["status"]["reason"] == "Evicted"
    }),
    ("completed", &[(annotations::POD, "complete")], |p| p["status"]["phase"] == "Succeeded"),
];

#[tokio::test(flavor = "multi_thread")]
async fn simulated_pods_behave_as_asked() -> Result<()> {
    let fleet = one_cluster().await?;
    let pods = Api::<Pod>::namespaced(fleet.clusters()[0].client(), "ws");
    let story = async |(name, asked, reached): Case| {
        pods.create(&PostParams::default(), &pod(name, asked)?).await?;
        until(&pods, name, "as asked", reached).await?;
        delete(&pods, name).await.with_context(|| format!("pod {name}"))
    };
    futures::future::try_join_all(CASES.map(story)).await?;
    let asked = [(annotations::POD, "oom"), (annotations::FAIL_AFTER, "0s")];
    pods.create(&PostParams::default(), &pod("oom", &asked)?).await?;
    let killed = |pod: &Value| state(pod)["terminated"]["reason"] == "OOMKilled";
    until(&pods, "oom", "out of memory", killed).await?;
    Ok(())
}

fn workspaces(cluster: &Cluster) -> Api<DynamicObject> {
    let gvk = kube::api::GroupVersionKind::gvk("workspace.gitpod.io", "v1", "Workspace");
    Api::namespaced_with(cluster.client(), "ws", &kube::api::ApiResource::from_gvk(&gvk))
}

fn has(kind: &str, status: &str) -> impl Fn(&Value) -> bool {
    move |ws: &Value| {
        let list = ws["status"]["conditions"].as_array().cloned().unwrap_or_default();
        list.iter().any(|c| c["type"] == kind && c["status"] == status)
    }
}

/// Writes the manager's fields of the status, keeping the conditions.
async fn report(api: &Api<DynamicObject>, name: &str, phase: &str, running: &str) -> Result<()> {
    loop {
        let mut ws = api.get(name).await?;
        let mut conditions = ws.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|c| c["type"] != "WorkspaceContainerRunning");
        conditions.push(json!({ "type": "WorkspaceContainerRunning", "status": running }));
        ws.data["status"]["conditions"] = json!(conditions);
        ws.data["status"]["phase"] = json!(phase);
        ws.data["status"]["runtime"] = json!({ "nodeName": "node" });
        match api.replace_status(name, &PostParams::default(), &ws).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => return other.map(|_| ()).context("cannot write the status"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_agent_initialises_and_backs_up() -> Result<()> {
    let fleet = one_cluster().await?;
    let cluster = &fleet.clusters()[0];
    let _agent = NodeAgent::start(&cluster.client(), Pace::default());
    cluster.apply_yaml(CRD).await?;
    let api = workspaces(cluster);
    for (name, kind, asked) in
        [("bad", "Regular", annotations::INIT), ("lost", "Prebuild", annotations::BACKUP)]
    {
        let text = format!(
            "apiVersion: workspace.gitpod.io/v1\nkind: Workspace\nmetadata: {{ name: {name}, namespace: ws, \
             annotations: {{ {asked}: fail }} }}\nspec: {{ type: {kind} }}\n"
        );
        cluster.apply_yaml(&text).await?;
    }
    for name in ["first", "bad", "lost"] {
        report(&api, name, "Initializing", "True").await?;
    }
    until(&api, "first", "initialised", has("ContentReady", "True")).await?;
    until(&api, "bad", "failed", has("ContentReady", "False")).await?;
    until(&api, "lost", "initialised", has("ContentReady", "True")).await?;
    for running in ["True", "False"] {
        report(&api, "first", "Stopping", running).await?;
        report(&api, "lost", "Stopping", running).await?;
    }
    let first = until(&api, "first", "backed up", has("BackupComplete", "True")).await?;
    ensure!(first["status"]["git"]["branch"] == "main" && first["status"]["snapshot"].is_null(), "{first}");
    let lost = until(&api, "lost", "not backed up", has("BackupFailure", "True")).await?;
    ensure!(lost["status"]["snapshot"].is_string(), "{lost}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apiserver_comes_back_at_its_address() -> Result<()> {
    let fleet = one_cluster().await?;
    let cluster = &fleet.clusters()[0];
    let pods = Api::<Pod>::namespaced(cluster.client(), "ws");
    cluster.pause(Part::ApiServer).await?;
    ensure!(
        timeout(Duration::from_secs(1), pods.get_opt("none")).await.is_err(),
        "a frozen apiserver answered"
    );
    cluster.resume(Part::ApiServer).await?;
    ensure!(timeout(SOON, pods.get_opt("none")).await??.is_none(), "there is a pod");
    cluster.stop_apiserver().await?;
    ensure!(pods.get_opt("none").await.is_err(), "a stopped apiserver answered");
    cluster.start_apiserver().await?;
    pods.create(&PostParams::default(), &pod("after", &[])?).await?;
    until(&pods, "after", "running", |pod| pod["status"]["phase"] == "Running").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_lets_spaceport_use_its_prefix_alone() -> Result<()> {
    let fleet = Fleet::boot(FleetOptions::of(0)).await?;
    let mut client = fleet.etcd().connect().await?;
    client.put("/spaceport/key", "value", None).await?;
    ensure!(client.put("/other/key", "value", None).await.is_err(), "wrote outside its prefix");
    fleet.etcd().stop().await?;
    fleet.etcd().start().await?;
    let mut client = fleet.etcd().connect().await?;
    ensure!(client.get("/spaceport/key", None).await?.count() == 1, "the value is gone");
    Ok(())
}
