//! Failures of a workspace, and what clients see of them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s::resources::Workspace;
use k8s_openapi::api::core::v1::{Node, Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use proto::wsman::{
    StartWorkspaceRequest, WorkspaceConditionBool, WorkspaceConditions, WorkspacePhase, WorkspaceStatus,
    WorkspaceType,
};
use serde_json::json;

use crate::bulkheads::behind_proxy;
use crate::story::{
    Client, Story, annotated, describe, follow, is, phases, request, run, start, stop, story, until, watch,
};
use e2e::harness::spaceport::get;
use e2e::harness::{Answer, NodeSize, Rule, annotations, nodes};

/// Long enough for content to be ready first.
const LATER: &str = "3s";

fn misbehaving(mode: &str) -> StartWorkspaceRequest {
    annotated(request("ws", &[]), annotations::POD, mode)
}

fn conditions(states: &[WorkspaceStatus]) -> Result<&WorkspaceConditions> {
    states.last().and_then(|status| status.conditions.as_ref()).context("no conditions")
}

/// Starts a workspace and follows it until it ends by itself.
async fn follow_to_the_end(
    client: &mut Client,
    request: StartWorkspaceRequest,
) -> Result<Vec<WorkspaceStatus>> {
    let mut stream = watch(client, &request.id).await?;
    start(client, request).await?;
    follow(&mut stream, is(WorkspacePhase::Stopped)).await
}

async fn is_gone(client: &mut Client) -> Result<()> {
    until("the workspace to be gone", async || {
        ensure!(describe(client, "ws").await?.is_none(), "it is still described");
        Ok(())
    })
    .await
}

/// One manager that recreates rejected pods after `backoff`, at most twice.
async fn with_recreation(story: &mut Story, backoff: &str) -> Result<()> {
    story.installation.overrides =
        json!({ "manager": { "podRecreationBackoff": backoff, "podRecreationMaxRetries": 2 } });
    let replica = story.installation.start("manager-0").await?;
    story.replicas.push(replica);
    story.register("eu-1").await
}

#[test]
fn a_pull_that_fails_for_a_moment_does_not_keep_a_workspace_from_running() -> Result<()> {
    story("flaky-pull", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let wanted = annotated(misbehaving("image-pull-flaky"), annotations::START_DELAY, "2s");
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, wanted).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        ensure!(phases(&seen).contains(&WorkspacePhase::Creating), "{:?}", phases(&seen));
        ensure!(conditions(&seen)?.failed.is_empty(), "{}", conditions(&seen)?.failed);
        let last = seen.last().context("nothing was seen")?;
        ensure!(last.message == "Ready.", "{}", last.message);
        Ok(())
    })
}

#[test]
fn a_failing_image_pull_is_reported_and_the_workspace_can_be_stopped() -> Result<()> {
    story("no-image", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, misbehaving("image-pull-error")).await?;
        let reported = |status: &WorkspaceStatus| {
            status.phase() == WorkspacePhase::Creating && status.message.contains("failed to pull")
        };
        follow(&mut stream, reported).await?;
        // Through the back-off that follows.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let status = describe(&mut client, "ws").await?.context("it is gone")?;
        ensure!(reported(&status), "{:?}: {}", status.phase(), status.message);
        stop(&mut client, "ws").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        ensure!(conditions(&seen)?.failed.is_empty(), "{}", conditions(&seen)?.failed);
        is_gone(&mut client).await
    })
}

#[test]
fn a_refused_pod_is_made_again_up_to_the_bound_and_then_fails() -> Result<()> {
    story("refused", 0, &[], async |story| {
        with_recreation(story, "500ms").await?;
        let mut client = story.client().await?;
        let seen = follow_to_the_end(&mut client, misbehaving("reject")).await?;
        let reported: Vec<&str> = seen.iter().map(|status| status.message.as_str()).collect();
        ensure!(
            reported.iter().any(|message| message.starts_with("The node refused the pod: ")),
            "{reported:?}"
        );
        let failed = &conditions(&seen)?.failed;
        ensure!(failed.contains("OutOfcpu") && failed.contains("made again 2 times"), "{failed}");
        let metrics =
            get(&format!("{}/metrics", story.replicas.first().context("no manager")?.health)).await?;
        for attempt in [1, 2] {
            let line = format!(
                r#"gitpod_ws_manager_mk2_workspace_recreations_total{{attempt="{attempt}",class="g1-standard",cluster="eu-1",type="Regular"}} 1"#
            );
            ensure!(metrics.lines().any(|is| is == line), "no {line} in {metrics}");
        }
        is_gone(&mut client).await
    })
}

#[test]
fn a_stop_ends_a_workspace_whose_pod_is_to_be_made_again() -> Result<()> {
    story("refused-stop", 0, &[], async |story| {
        with_recreation(story, "10m").await?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, misbehaving("reject")).await?;
        let refused = follow(&mut stream, |status| status.message.contains("refused the pod")).await?;
        let phase = refused.last().map(WorkspaceStatus::phase);
        ensure!(phase == Some(WorkspacePhase::Pending), "refused, it is {phase:?}");
        stop(&mut client, "ws").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        ensure!(conditions(&seen)?.stopped_by_request() == WorkspaceConditionBool::True, "the stop is lost");
        is_gone(&mut client).await
    })
}

#[test]
fn a_crash_fails_the_workspace_with_its_message_and_is_backed_up() -> Result<()> {
    story("crash", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let wanted = annotated(misbehaving("crash"), annotations::MESSAGE, "supervisor: no space for maps");
        let seen = follow_to_the_end(&mut client, annotated(wanted, annotations::FAIL_AFTER, LATER)).await?;
        ensure!(phases(&seen).contains(&WorkspacePhase::Running), "{:?}", phases(&seen));
        let last = conditions(&seen)?;
        ensure!(last.failed.contains("supervisor: no space for maps"), "{}", last.failed);
        ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "it was not backed up");
        is_gone(&mut client).await
    })
}

#[test]
fn a_container_out_of_memory_is_reported_as_such() -> Result<()> {
    ends_as("oom", "oom", "OOMKilled")
}

#[test]
fn an_evicted_pod_is_reported_as_such() -> Result<()> {
    ends_as("evicted", "evict", "Evicted: The node was low on resource: ephemeral-storage")
}

fn ends_as(name: &str, mode: &str, text: &str) -> Result<()> {
    story(name, 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let wanted = annotated(misbehaving(mode), annotations::FAIL_AFTER, LATER);
        let seen = follow_to_the_end(&mut client, wanted).await?;
        let last = conditions(&seen)?;
        ensure!(last.failed.contains(text), "{}", last.failed);
        ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "it was not backed up");
        is_gone(&mut client).await
    })
}

#[test]
fn a_workspace_whose_node_is_deleted_ends_and_names_the_loss() -> Result<()> {
    story("node-loss", 1, &[], async |story| {
        // Its own node, without capacity for other pods.
        let kube = story.cluster("eu-1")?.client();
        nodes::label_for_namespace(&kube, &story.namespace, false).await?;
        let size = NodeSize { pods: 1, ..NodeSize::default() };
        nodes::create(&kube, "doomed", 0..1, &size).await?;
        let nodes_of_cluster: Api<Node> = Api::all(kube.clone());
        let labels = json!({ "metadata": { "labels": {
            format!("gitpod.io/ws-daemon_ready_ns_{}", story.namespace): "true",
            format!("gitpod.io/registry-facade_ready_ns_{}", story.namespace): "true",
        } } });
        nodes_of_cluster.patch("doomed-0", &PatchParams::default(), &Patch::Merge(&labels)).await?;
        until("the node to be ready", async || {
            ensure!(nodes::is_ready(&nodes_of_cluster.get("doomed-0").await?), "it is not");
            Ok(())
        })
        .await?;
        story.register("eu-1").await?;

        let mut client = story.client().await?;
        let running = run(&mut client, request("ws", &[])).await?;
        let node = running.runtime.map(|runtime| runtime.node_name).unwrap_or_default();
        ensure!(node == "doomed-0", "it is on {node}");
        let mut stream = watch(&mut client, "ws").await?;
        nodes::delete(&kube, "doomed-0").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let failed = &conditions(&seen)?.failed;
        ensure!(failed.contains("node") && failed.contains("disappeared"), "{failed}");
        ensure!(conditions(&seen)?.final_backup_complete() != WorkspaceConditionBool::True, "a backup?");
        is_gone(&mut client).await
    })
}

#[test]
fn a_headless_task_that_completes_leaves_a_snapshot_and_no_failure() -> Result<()> {
    story("prebuild", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut wanted = annotated(misbehaving("complete"), annotations::FAIL_AFTER, LATER);
        wanted.set_type(WorkspaceType::Prebuild);
        let seen = follow_to_the_end(&mut client, wanted).await?;
        let last = conditions(&seen)?;
        ensure!(last.failed.is_empty() && last.headless_task_failed.is_empty(), "{last:?}");
        ensure!(last.snapshot == "e2e://content/ws@backup.tar", "the snapshot is {:?}", last.snapshot);
        ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "it was not backed up");
        is_gone(&mut client).await
    })
}

#[test]
fn a_failed_backup_is_reported_and_the_workspace_ends() -> Result<()> {
    story("no-backup", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, annotated(request("ws", &[]), annotations::BACKUP, "fail")).await?;
        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let last = conditions(&seen)?;
        ensure!(last.failed.contains("Backup failed: asked to fail"), "{}", last.failed);
        ensure!(
            last.final_backup_complete() == WorkspaceConditionBool::False,
            "a complete backup is reported"
        );
        is_gone(&mut client).await
    })
}

#[test]
fn a_pod_that_fits_no_node_is_reported_and_runs_once_one_fits() -> Result<()> {
    story("unschedulable", 1, &[], async |story| {
        let kube = story.cluster("eu-1")?.client();
        nodes::label_for_namespace(&kube, &story.namespace, false).await?;
        story.register("eu-1").await?;
        // Otherwise the start itself would be rejected, for want of a node.
        let unlimited = story.cli(&["cluster", "update", "eu-1", "--capacity", "unlimited"]).await?;
        ensure!(unlimited.code == 0, "{}", unlimited.stderr);
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, request("ws", &[])).await?;
        let reported = |status: &WorkspaceStatus| status.message.starts_with("No node takes its pod yet: ");
        let seen = follow(&mut stream, reported).await?;
        ensure!(phases(&seen) == [WorkspacePhase::Pending], "{:?}", phases(&seen));
        nodes::label_for_namespace(&kube, &story.namespace, true).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        ensure!(conditions(&seen)?.failed.is_empty(), "{}", conditions(&seen)?.failed);
        Ok(())
    })
}

#[test]
fn a_rejected_pod_is_reported_and_created_once_the_cluster_accepts_it() -> Result<()> {
    story("no-quota", 1, &[], async |story| {
        // Both are acknowledged before the quota exists: later starts would dry-run their pod, and be rejected.
        let proxy = behind_proxy(story, "eu-1").await?;
        let creates_pod = |call: &http::request::Parts| {
            let is_dry = call.uri.query().is_some_and(|query| query.contains("dryRun"));
            call.method == http::Method::POST && call.uri.path().ends_with("/pods") && !is_dry
        };
        proxy.rules(vec![Rule::new(creates_pod, Answer::Status(500))]);
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        let mut never = watch(&mut client, "never").await?;
        for id in ["ws", "never"] {
            start(&mut client, request(id, &[])).await?;
        }
        let quotas: Api<ResourceQuota> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let none: ResourceQuota = serde_json::from_value(json!({
            "metadata": { "name": "no-pods" }, "spec": { "hard": { "pods": "0" } },
        }))?;
        quotas.create(&PostParams::default(), &none).await?;
        until("the quota to be in force", async || {
            let status = quotas.get("no-pods").await?.status.and_then(|status| status.hard);
            ensure!(status.is_some(), "it is not");
            Ok(())
        })
        .await?;
        proxy.heal().await?;
        let reported = |status: &WorkspaceStatus| {
            status.message.starts_with("The cluster does not take its pod yet: ")
                && status.message.contains("exceeded quota")
        };
        let seen = follow(&mut stream, reported).await?;
        ensure!(phases(&seen) == [WorkspacePhase::Pending], "{:?}", phases(&seen));
        // A workspace that is stopped before it had a pod ends, too.
        follow(&mut never, reported).await?;
        stop(&mut client, "never").await?;
        follow(&mut never, is(WorkspacePhase::Stopped)).await?;
        let resources = Api::<Workspace>::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        until("the resource that never had a pod to go", async || {
            ensure!(resources.get_opt("never").await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
        let message = describe(&mut client, "ws").await?.context("it is gone")?.message;
        ensure!(
            message.starts_with("The cluster does not take its pod yet: exceeded quota: no-pods"),
            "{message}"
        );
        quotas.delete("no-pods", &DeleteParams::default()).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        ensure!(conditions(&seen)?.failed.is_empty(), "{}", conditions(&seen)?.failed);
        Ok(())
    })
}

#[test]
fn a_pod_name_in_use_is_reported_and_used_once_it_is_free() -> Result<()> {
    story("name-taken", 1, &["eu-1"], async |story| {
        let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        // On no node: KWOK acts by pod name, and pending work on the old pod would hit the new one.
        let other: Pod = serde_json::from_value(json!({
            "metadata": { "name": "ws-ws" },
            "spec": { "containers": [{ "name": "other", "image": "none" }], "schedulerName": "nobody" },
        }))?;
        pods.create(&PostParams::default(), &other).await?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, request("ws", &[])).await?;
        let reported = "The cluster does not take its pod yet: a pod ws-ws is there";
        let seen = follow(&mut stream, |status| status.message.starts_with(reported)).await?;
        ensure!(phases(&seen) == [WorkspacePhase::Pending], "{:?}", phases(&seen));
        pods.delete("ws-ws", &DeleteParams::default()).await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        let own = pods.get("ws-ws").await?.metadata.owner_references.unwrap_or_default();
        ensure!(own.iter().any(|owner| owner.kind == "Workspace"), "{own:?}");
        Ok(())
    })
}
