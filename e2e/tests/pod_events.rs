//! Failures include the last event of the pod, which only the cluster's events have.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use proto::wsman::{WorkspaceConditions, WorkspacePhase, WorkspaceStatus};
use serde_json::json;

use crate::story::{Story, annotated, follow, is, request, run, start, story, watch};
use e2e::harness::annotations;

/// Writes an event of the workspace's pod, like a kubelet or a controller.
async fn tell(story: &Story, kind: &str, reason: &str, message: &str) -> Result<()> {
    let client = story.cluster("eu-1")?.client();
    let pod = Api::<Pod>::namespaced(client.clone(), &story.namespace).get("ws-ws").await?;
    let now = jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string();
    let event: Event = serde_json::from_value(json!({
        "metadata": { "name": format!("ws-ws.{}", reason.to_lowercase()), "namespace": story.namespace },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "name": "ws-ws", "namespace": story.namespace,
            "uid": pod.metadata.uid,
        },
        "type": kind, "reason": reason, "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now,
    }))?;
    Api::<Event>::namespaced(client, &story.namespace).create(&PostParams::default(), &event).await?;
    Ok(())
}

fn conditions(seen: &[WorkspaceStatus]) -> Result<WorkspaceConditions> {
    seen.last().and_then(|status| status.conditions.clone()).context("no conditions")
}

#[test]
fn a_removed_pod_is_reported_with_who_removed_it() -> Result<()> {
    story("event-vanished", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        tell(story, "Normal", "TaintManagerEviction", "Marking for deletion Pod event-vanished/ws-ws")
            .await?;
        let pods = Api::<Pod>::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let mut stream = watch(&mut client, "ws").await?;
        let bare = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        pods.patch("ws-ws", &PatchParams::default(), &bare).await?;
        pods.delete("ws-ws", &DeleteParams::default().grace_period(0)).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let failed = conditions(&seen)?.failed;
        let reported =
            "(last event of its pod: TaintManagerEviction: Marking for deletion Pod event-vanished/ws-ws)";
        ensure!(failed.contains("vanished") && failed.ends_with(reported), "{failed}");
        Ok(())
    })
}

#[test]
fn a_pod_that_does_not_start_in_time_is_reported_with_its_last_event() -> Result<()> {
    story("event-startup", 0, &[], async |story| {
        story.installation.overrides = json!({ "manager": { "timeouts": { "startup": "12s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, annotated(request("ws", &[]), annotations::INIT, "hang")).await?;
        follow(&mut stream, is(WorkspacePhase::Initializing)).await?;
        tell(story, "Warning", "FailedMount", "MountVolume.SetUp failed: no such volume").await?;
        tell(story, "Normal", "Pulled", "Container image is present").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let timeout = conditions(&seen)?.timeout;
        ensure!(timeout.starts_with("workspace timed out after startup ("), "{timeout}");
        let reported = "(last event of its pod: FailedMount: MountVolume.SetUp failed: no such volume)";
        ensure!(timeout.ends_with(reported), "{timeout}");
        Ok(())
    })
}
