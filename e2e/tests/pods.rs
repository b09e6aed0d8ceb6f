//! Pods as real clusters make and keep them: with containers of a mesh, rejected by webhooks, not started by their
//! node, on a node that goes silent, held by a foreign finalizer. The test acts as the kubelet of its own node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use proto::spaceport::v1::workspace_manager_client::WorkspaceManagerClient as EndedClient;
use proto::spaceport::v1::{DescribeEndedRequest, EndedWorkspace};
use proto::wsman::{
    GetWorkspacesRequest, WorkspaceConditionBool, WorkspaceConditions, WorkspacePhase, WorkspaceStatus,
    WorkspaceType,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::story::{
    Story, describe, follow, is, phases, refused, request, run, start, stop, story, until, watch,
};
use e2e::harness::nodes;

/// A kubelet's heartbeat, well below the timeout of node controllers.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A foreign finalizer.
const HOLD: &str = "e2e.example.com/hold";

/// The kubelet of a node in `eu-1` that only takes the story's pods.
struct Kubelet {
    pods: Api<Pod>,
    nodes: Api<Node>,
    node: String,
    ready: Arc<Mutex<&'static str>>,
    heartbeat: JoinHandle<()>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

async fn report_node(nodes: &Api<Node>, name: &str, ready: &str) -> Result<()> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = json!({ "type": "Ready", "status": ready, "reason": "Test", "message": "",
        "lastHeartbeatTime": now, "lastTransitionTime": now });
    let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
    nodes.patch_status(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

impl Kubelet {
    /// Removes the story's namespace from all other nodes.
    async fn open(story: &Story) -> Result<Self> {
        let client = story.cluster("eu-1")?.client();
        nodes::label_for_namespace(&client, &story.namespace, false).await?;
        let (nodes, node) = (Api::<Node>::all(client.clone()), format!("{}-node", story.namespace));
        let size = json!({ "cpu": "64", "memory": "256Gi", "pods": "10" });
        let object = json!({
            "metadata": { "name": node },
            "spec": { "taints": [{ "key": "e2e.spaceport.dev/by-hand", "effect": "NoSchedule" }] },
            "status": { "allocatable": size, "capacity": size },
        });
        nodes.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        report_node(&nodes, &node, "True").await?;
        let ready = Arc::new(Mutex::new("True"));
        let heartbeat = tokio::spawn({
            let (nodes, node, ready) = (nodes.clone(), node.clone(), Arc::clone(&ready));
            async move {
                loop {
                    tokio::time::sleep(HEARTBEAT).await;
                    let now = *ready.lock();
                    drop(report_node(&nodes, &node, now).await);
                }
            }
        });
        let pods = Api::namespaced(client, &story.namespace);
        Ok(Self { pods, nodes, node, ready, heartbeat })
    }

    /// Waits for the status of the node's condition `Ready`, from its kubelet or, if that is silent, from the node
    /// controller.
    async fn is_ready(&self, status: &'static str) -> Result<()> {
        *self.ready.lock() = status;
        report_node(&self.nodes, &self.node, status).await
    }

    /// Binds a pod to the node, as the scheduler does; returns the names of its containers.
    async fn bind(&self, pod: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        until("the pod to be made", async || {
            let spec = self.pods.get(pod).await?.spec.context("no spec")?;
            names = spec.containers.into_iter().map(|container| container.name).collect();
            Ok(())
        })
        .await?;
        let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod },
            "target": { "apiVersion": "v1", "kind": "Node", "name": self.node } });
        let params = PostParams::default();
        let _: Value = self.pods.create_subresource("binding", pod, &params, &binding).await?;
        Ok(names)
    }

    /// Reports the status of a pod.
    async fn report(&self, pod: &str, phase: &str, containers: &[(&str, bool, Value)]) -> Result<()> {
        let of = |(name, ready, state): &(&str, bool, Value)| json!({ "name": name, "ready": ready, "state": state, "restartCount": 0, "image": "i", "imageID": "" });
        let patch = json!({ "status": {
            "phase": phase, "containerStatuses": containers.iter().map(of).collect::<Vec<_>>() } });
        self.pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Ends a pod once it is deleted.
    async fn end(&self, pod: &str, containers: &[&str]) -> Result<()> {
        until("the pod to be deleted", async || {
            let deleted = self.pods.get(pod).await?.metadata.deletion_timestamp;
            deleted.map(drop).context("it is not")
        })
        .await?;
        let ended: Vec<_> = containers.iter().map(|name| (*name, false, ended(0))).collect();
        self.report(pod, "Succeeded", &ended).await?;
        match self.pods.delete(pod, &DeleteParams::default().grace_period(0)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(Into::into),
        }
    }
}

fn runs() -> Value {
    json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } })
}

fn ended(exit_code: i32) -> Value {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    json!({ "terminated": { "exitCode": exit_code, "reason": reason } })
}

fn waits(reason: &str, message: &str) -> Value {
    json!({ "waiting": { "reason": reason, "message": message } })
}

fn conditions(status: &WorkspaceStatus) -> Result<&WorkspaceConditions> {
    status.conditions.as_ref().context("no conditions")
}

/// Otherwise a start that fits no node would be rejected.
async fn unlimited(story: &Story) -> Result<()> {
    let unlimited = story.cli(&["cluster", "update", "eu-1", "--capacity", "unlimited"]).await?;
    ensure!(unlimited.code == 0, "{}", unlimited.stderr);
    Ok(())
}

/// The apiserver adds two containers to every pod of the namespace, like a mesh's webhook.
async fn add_sidecars(story: &Story) -> Result<()> {
    let client = story.cluster("eu-1")?.client();
    let container = |list: &str, name: &str, more: &str| {
        format!(
            "Object.spec.{list}{{name: \"{name}\", image: \"mesh\"{more}, \
             securityContext: Object.spec.{list}.securityContext{{runAsNonRoot: true}}}}"
        )
    };
    let expression = format!(
        "Object{{spec: Object.spec{{containers: [{}], initContainers: [{}]}}}}",
        container("containers", "mesh", ""),
        container("initContainers", "proxy", ", restartPolicy: \"Always\""),
    );
    let policy = json!({
        "metadata": { "name": "e2e-mesh" },
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": { "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["pods"] }] },
            "mutations": [{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": expression } }],
        },
    });
    let namespace = json!({ "matchLabels": { "kubernetes.io/metadata.name": story.namespace } });
    let binding = json!({
        "metadata": { "name": "e2e-mesh" },
        "spec": { "policyName": "e2e-mesh", "matchResources": { "namespaceSelector": namespace } },
    });
    let params = PostParams::default();
    let policies = Api::<MutatingAdmissionPolicy>::all(client.clone());
    policies.create(&params, &serde_json::from_value(policy)?).await?;
    let bindings = Api::<MutatingAdmissionPolicyBinding>::all(client.clone());
    bindings.create(&params, &serde_json::from_value(binding)?).await?;
    let pods: Api<Pod> = Api::namespaced(client, &story.namespace);
    until("the policy to be in force", async || {
        let made = dry_run(&pods).await??;
        let spec = made.spec.context("no spec")?;
        ensure!(spec.containers.len() == 2 && spec.init_containers.is_some(), "{spec:?}");
        Ok(())
    })
    .await
}

/// Result of creating a plain pod.
async fn dry_run(pods: &Api<Pod>) -> Result<kube::Result<Pod>> {
    let pod = serde_json::from_value(json!({
        "metadata": { "name": "trial" }, "spec": { "containers": [{ "name": "workspace", "image": "i" }] },
    }))?;
    Ok(pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await)
}

#[test]
fn sidecars_of_a_mesh_decide_nothing_and_a_silent_node_is_reported() -> Result<()> {
    story("mesh", 1, &[], async |story| {
        add_sidecars(story).await?;
        let kubelet = Kubelet::open(story).await?;
        story.register("eu-1").await?;
        unlimited(story).await?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, request("ws", &[])).await?;
        let containers = kubelet.bind("ws-ws").await?;
        ensure!(containers == ["workspace", "mesh"], "{containers:?}");

        let pull = waits("ErrImagePull", "image:1: not found");
        kubelet.report("ws-ws", "Running", &[("mesh", true, runs()), ("workspace", false, pull)]).await?;
        let reported = "Its image cannot be pulled yet: image:1: not found";
        let seen = follow(&mut stream, |status| status.message == reported).await?;
        ensure!(!phases(&seen).contains(&WorkspacePhase::Running), "{:?}", phases(&seen));
        // A container of the mesh does not start, so the pod as a whole is Pending.
        let back_off = waits("ImagePullBackOff", "no mesh");
        kubelet.report("ws-ws", "Pending", &[("mesh", false, back_off), ("workspace", true, runs())]).await?;
        follow(&mut stream, |status| status.message == "Ready.").await?;

        kubelet.report("ws-ws", "Running", &[("mesh", false, ended(1)), ("workspace", true, runs())]).await?;
        kubelet.is_ready("Unknown").await?;
        let silent = format!("Its node {} does not answer: nobody knows how its pod is.", kubelet.node);
        let mut seen = follow(&mut stream, |status| status.message == silent).await?;
        kubelet.is_ready("False").await?;
        let unready = format!("Its node {} is not ready.", kubelet.node);
        // The taint for an unreachable node may stay a moment longer.
        seen.extend(follow(&mut stream, |status| status.message == unready).await?);
        kubelet.is_ready("True").await?;
        seen.extend(follow(&mut stream, |status| status.message == "Ready.").await?);
        ensure!(phases(&seen) == [WorkspacePhase::Running], "{:?}", phases(&seen));

        stop(&mut client, "ws").await?;
        kubelet.end("ws-ws", &["workspace", "mesh"]).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let last = conditions(seen.last().context("nothing was seen")?)?;
        ensure!(last.failed.is_empty(), "{}", last.failed);
        ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "it was not backed up");
        task_beside_a_mesh(story, &kubelet).await?;
        nodes::delete(&story.cluster("eu-1")?.client(), &kubelet.node).await
    })
}

/// A task ends although the mesh's container still runs.
async fn task_beside_a_mesh(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let mut client = story.client().await?;
    let mut wanted = request("task", &[]);
    wanted.set_type(WorkspaceType::Prebuild);
    let mut stream = watch(&mut client, "task").await?;
    start(&mut client, wanted).await?;
    kubelet.bind("prebuild-task").await?;
    let beside = |state: Value| [("workspace", false, state), ("mesh", true, runs())];
    kubelet.report("prebuild-task", "Running", &beside(runs())).await?;
    let ready = |status: &WorkspaceStatus| {
        status.phase() == WorkspacePhase::Initializing && status.initializer_metrics.is_some()
    };
    follow(&mut stream, ready).await?;
    kubelet.report("prebuild-task", "Running", &beside(ended(0))).await?;
    let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
    let last = conditions(seen.last().context("nothing was seen")?)?;
    ensure!(last.failed.is_empty() && last.headless_task_failed.is_empty(), "{last:?}");
    ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "it was not backed up");
    kubelet.end("prebuild-task", &["workspace", "mesh"]).await
}

/// How a workspace ended, as a replica reports it to a client, or to the admin.
async fn ended_of(
    story: &Story,
    replica: usize,
    name: Option<&str>,
    id: &str,
) -> Result<Result<EndedWorkspace, Status>> {
    let replica = story.replicas.get(replica).context("no manager")?;
    let channel = match name {
        Some(name) => {
            let identity = story.installation.authority().client(name, &[])?;
            story.installation.channel(&replica.endpoint, Some(&identity)).await?
        }
        None => story.installation.client_channel(replica).await?,
    };
    let answer = EndedClient::new(channel).describe_ended(DescribeEndedRequest { id: id.to_owned() }).await;
    Ok(answer.map(|answer| answer.into_inner().workspace.unwrap_or_default()))
}

#[test]
fn a_container_that_is_not_created_fails_in_time_and_its_end_is_described_afterwards() -> Result<()> {
    story("not-created", 0, &[], async |story| {
        story.installation.overrides = json!({
            "manager": { "timeouts": { "containerStart": "2s" } },
            "rpcServer": { "clients": { "scopes": [
                { "commonName": "team-a", "owners": ["jane"] }, { "commonName": "team-b", "owners": ["bob"] },
            ] } },
        });
        for n in 0..2 {
            story.replicas.push(story.installation.start(&format!("manager-{n}")).await?);
        }
        let kubelet = Kubelet::open(story).await?;
        story.register("eu-1").await?;
        unlimited(story).await?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, request("ws", &[])).await?;
        kubelet.bind("ws-ws").await?;
        let error = waits("CreateContainerError", "no such device");
        kubelet.report("ws-ws", "Pending", &[("workspace", false, error)]).await?;
        let reported = "Its container cannot be started yet: CreateContainerError: no such device";
        follow(&mut stream, |status| status.message == reported).await?;
        let live = ended_of(story, 0, None, "ws").await?;
        ensure!(live.as_ref().is_err_and(|status| status.code() == Code::FailedPrecondition), "{live:?}");
        kubelet.end("ws-ws", &["workspace"]).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let failed = conditions(seen.last().context("nothing was seen")?)?.failed.clone();
        let text = "the container cannot be started: CreateContainerError: no such device";
        ensure!(failed.starts_with(text), "{failed}");

        for replica in 0..2 {
            until("the end to be recorded", async || {
                let ended = ended_of(story, replica, Some("team-a"), "ws").await??;
                let conditions = ended.conditions.clone().unwrap_or_default();
                ensure!(conditions.failed == failed, "{ended:?}");
                ensure!(ended.message == format!("Failed: {failed}"), "{}", ended.message);
                ensure!(ended.last_phase() == WorkspacePhase::Creating, "{:?}", ended.last_phase());
                ensure!((ended.cluster.as_str(), ended.owner.as_str()) == ("eu-1", "jane"), "{ended:?}");
                let seconds = |at: Option<prost_types::Timestamp>| at.map(|at| at.seconds);
                let (at, until) = (seconds(ended.ended_at), seconds(ended.id_taken_until));
                ensure!(at.is_some() && until > at, "{ended:?}");
                Ok(())
            })
            .await?;
            let (his, unknown) = (
                ended_of(story, replica, Some("team-b"), "ws").await?,
                ended_of(story, replica, Some("team-b"), "unknown").await?,
            );
            let words = |answer: Result<EndedWorkspace, Status>| {
                answer.map_err(|status| (status.code(), status.message().replace("unknown", "ws")))
            };
            let his = words(his);
            ensure!(his == words(unknown), "a workspace of another owner differs from none: {his:?}");
            ensure!(matches!(&his, Err((Code::NotFound, _))), "{his:?}");
        }
        ensure!(describe(&mut client, "ws").await?.is_none(), "it is still described");
        let listed = client.get_workspaces(GetWorkspacesRequest::default()).await?.into_inner().status;
        ensure!(listed.is_empty(), "{listed:?}");
        let shown = story.cli(&["workspace", "show", "ws", "-o", "json"]).await?;
        ensure!(shown.code == 0, "{}", shown.stderr);
        let view: Value = serde_json::from_str(&shown.stdout)?;
        ensure!(view["phase"] == "STOPPED" && view["conditions"]["failed"] == failed.as_str(), "{view}");
        nodes::delete(&story.cluster("eu-1")?.client(), &kubelet.node).await
    })
}

#[test]
fn a_dead_webhook_for_pods_is_reported_at_once_and_the_pod_is_created_without_it() -> Result<()> {
    story("pod-webhook", 1, &["eu-1"], async |story| {
        let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(story.cluster("eu-1")?.client());
        let webhook = json!({
            "metadata": { "name": "e2e-pod-webhook" },
            "webhooks": [{
                "name": "dead.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1, "failurePolicy": "Fail",
                "clientConfig": { "url": "https://127.0.0.1:1/" },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": story.namespace } },
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                }],
            }],
        });
        webhooks.create(&PostParams::default(), &serde_json::from_value(webhook)?).await?;
        let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        until("the webhook to be called", async || {
            let made = dry_run(&pods).await?;
            let refusal = made.err().context("it is not")?.to_string();
            ensure!(refusal.contains("failed calling webhook"), "{refusal}");
            Ok(())
        })
        .await?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, request("ws", &[])).await?;
        let reported =
            "The cluster does not take its pod yet: admission webhook dead.example.com could not be called";
        let seen = follow(&mut stream, |status| status.message == reported).await?;
        ensure!(phases(&seen) == [WorkspacePhase::Pending], "{:?}", phases(&seen));
        webhooks.delete("e2e-pod-webhook", &DeleteParams::default()).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        let failed = &conditions(seen.last().context("nothing was seen")?)?.failed;
        ensure!(failed.is_empty(), "{failed}");
        Ok(())
    })
}

/// Pods that `cluster diff` lists as left, each with its finalizer.
async fn pods_left(story: &Story) -> Result<Vec<(String, String)>> {
    let diff = story.cli(&["cluster", "diff", "eu-1", "-o", "json"]).await?;
    ensure!(diff.code == 0, "{}", diff.stderr);
    let diff: Value = serde_json::from_str(&diff.stdout)?;
    let rows = diff["workspaces"].as_array().context("no rows")?;
    let left = rows.iter().filter(|row| row["standing"] == "POD_LEFT");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(left.map(|row| (text(&row["pod"]), text(&row["heldBy"]))).collect())
}

#[test]
fn a_finalizer_of_somebody_else_on_a_pod_is_named_and_holds_the_meta_id_for_a_limited_time() -> Result<()> {
    story("pod-held", 0, &[], async |story| {
        story.installation.overrides =
            json!({ "manager": { "timeouts": { "contentFinalization": "8s", "stopping": "8s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let hold = Patch::Merge(json!({ "metadata": { "finalizers": ["gitpod.io/finalizer", HOLD] } }));
        pods.patch("ws-ws", &PatchParams::default(), &hold).await?;

        let stopped = story.cli(&["workspace", "stop", "ws", "--wait"]).await?;
        ensure!(stopped.code == 0, "{}", stopped.stderr);
        let held = format!("Its pod ws-ws is held by finalizer {HOLD}.");
        let reported = format!("meta id meta-ws stays taken: {held}");
        ensure!(stopped.stderr.contains(&reported), "{}", stopped.stderr);
        let status = describe(&mut client, "ws").await?.context("it is gone")?;
        ensure!(status.message == format!("Stopped on request. {held}"), "{}", status.message);
        ensure!(status.held == held, "{}", status.held);
        let mut next = request("next", &[]);
        next.metadata.get_or_insert_default().meta_id = "meta-ws".to_owned();
        refused(client.start_workspace(next.clone()).await, Code::AlreadyExists)?;

        let resources = story.resources("eu-1")?;
        until("the resource to go", async || {
            ensure!(resources.get_opt("ws").await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
        ensure!(pods.get_opt("ws-ws").await?.is_some(), "the pod is gone, whoever holds it");
        until("the meta id to be free", async || Ok(client.start_workspace(next.clone()).await.map(drop)?))
            .await?;
        let mut stream = watch(&mut client, "ws").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        ensure!(seen.last().is_some_and(|status| status.id == "next"), "{:?}", phases(&seen));
        let left = pods_left(story).await?;
        ensure!(left == [("ws-ws".to_owned(), HOLD.to_owned())], "{left:?}");
        let ended = ended_of(story, 0, None, "ws").await??;
        ensure!(ended.message.contains(&held), "{}", ended.message);

        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        pods.patch("ws-ws", &PatchParams::default(), &free).await?;
        until("the pod to be listed no more", async || {
            ensure!(pods_left(story).await?.is_empty(), "it is");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_finalizer_of_somebody_else_on_a_refused_pod_is_named_and_fails_the_workspace_at_the_limit() -> Result<()>
{
    story("refused-held", 0, &[], async |story| {
        story.installation.overrides =
            json!({ "manager": { "timeouts": { "contentFinalization": "8s", "stopping": "8s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let kubelet = Kubelet::open(story).await?;
        story.register("eu-1").await?;
        unlimited(story).await?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, request("ws", &[])).await?;
        kubelet.bind("ws-ws").await?;
        let (params, pods) = (PatchParams::default(), &kubelet.pods);
        let hold = Patch::Merge(json!({ "metadata": { "finalizers": ["gitpod.io/finalizer", HOLD] } }));
        pods.patch("ws-ws", &params, &hold).await?;
        let refusal = json!({ "status": { "phase": "Failed", "reason": "OutOfcpu",
            "message": "Pod was rejected: Node didn't have enough resource: cpu" } });
        pods.patch_status("ws-ws", &params, &Patch::Merge(refusal)).await?;

        let held = format!("Its pod ws-ws is held by finalizer {HOLD}.");
        let waits = |status: &WorkspaceStatus| {
            status.phase() == WorkspacePhase::Pending && status.message.contains(&held)
        };
        follow(&mut stream, waits).await?;

        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let failed = seen.last().and_then(|status| status.conditions.as_ref()).map(|all| all.failed.clone());
        let failed = failed.context("no conditions")?;
        let told = format!("no other pod can be made: the refused pod ws-ws stays, held by finalizer {HOLD}");
        ensure!(failed.contains(&told), "{failed}");
        until("the resource to go", async || {
            ensure!(story.resources("eu-1")?.get_opt("ws").await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
        let left = pods_left(story).await?;
        ensure!(left == [("ws-ws".to_owned(), HOLD.to_owned())], "{left:?}");
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        pods.patch("ws-ws", &params, &free).await?;
        Ok(())
    })
}
