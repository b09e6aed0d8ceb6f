//! Maintenance through the CLI.

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use proto::wsman::{StopWorkspaceRequest, WorkspacePhase, WorkspaceType};
use serde_json::json;
use tonic::Code;

use crate::story::{annotated, follow, forget, is, refused, request, run, start, story, until, watch};
use e2e::harness::annotations;

#[test]
fn an_admin_sets_maintenance_and_ends_it_and_the_very_next_call_keeps_to_it() -> Result<()> {
    story("upkeep", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("before", &["europe"])).await?;
        let output = story.cli(&["cluster", "maintenance", "on", "eu-1", "--for", "2h"]).await?;
        ensure!(output.code == 0 && output.stdout.contains("maintenance"), "{output:?}");
        until("every replica to show it", async || {
            let output = story.cli(&["cluster", "list", "-o", "json"]).await?;
            let clusters: serde_json::Value = serde_json::from_str(&output.stdout)?;
            ensure!(clusters[0]["status"]["maintenance"][&story.namespace].is_string(), "{clusters}");
            Ok(())
        })
        .await?;
        ensure!(start(&mut client, request("after", &["europe"])).await?.cluster == "us-1", "not kept away");
        let stop = StopWorkspaceRequest { id: "before".into(), policy: 0 };
        let status = refused(client.stop_workspace(stop.clone()).await, Code::FailedPrecondition)?;
        ensure!(status.message() == "under maintenance", "{}", status.message());
        let output = story.cli(&["cluster", "maintenance", "off", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        client.stop_workspace(stop).await.context("the stop is still refused")?;
        ensure!(
            start(&mut client, request("again", &["europe"])).await?.cluster == "eu-1",
            "still kept away"
        );
        Ok(())
    })
}

#[test]
fn maintenance_needs_an_end_to_come_and_a_namespace_that_is_there() -> Result<()> {
    story("upkeep-refused", 1, &["eu-1"], async |story| {
        let past = ["cluster", "maintenance", "on", "eu-1", "--until", "2020-01-01T00:00:00Z"];
        let output = story.cli(&past).await?;
        ensure!(output.code == 1 && output.stderr.contains("until: must be in the future"), "{output:?}");
        let output = story.cli(&["cluster", "maintenance", "on", "eu-1", "--for", "200000h"]).await?;
        ensure!(output.code == 2 && output.stderr.contains("must be at most 30 days (720h)"), "{output:?}");
        let far = (Timestamp::now() + SignedDuration::from_hours(800)).to_string();
        let output = story.cli(&["cluster", "maintenance", "on", "eu-1", "--until", &far]).await?;
        let rule = "until: must be at most 30 days (720h) from now";
        ensure!(output.code == 1 && output.stderr.contains(rule), "{output:?}");
        let elsewhere = ["cluster", "maintenance", "off", "eu-1", "--namespace", "nowhere"];
        let output = story.cli(&elsewhere).await?;
        ensure!(output.code == 1 && output.stderr.contains("nowhere is none of cluster eu-1"), "{output:?}");
        let output = story.cli(&["cluster", "maintenance", "off", "mars"]).await?;
        ensure!(output.code == 1 && output.stderr.contains("NOT_FOUND"), "{output:?}");
        Ok(())
    })
}

#[test]
fn a_task_that_ended_under_maintenance_is_put_away_when_that_has_passed_by_itself() -> Result<()> {
    story("upkeep-passes", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut wanted = annotated(request("ws", &[]), annotations::BACKUP, "hang");
        wanted.set_type(WorkspaceType::Prebuild);
        run(&mut client, wanted).await?;
        let until = Timestamp::now() + SignedDuration::from_secs(10);
        let on = ["cluster", "maintenance", "on", "eu-1", "--until", &until.to_string()];
        let output = story.cli(&on).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let pod = pods.get("prebuild-ws").await?;
        let container =
            pod.spec.and_then(|spec| spec.containers.into_iter().next()).context("no container")?;
        let ended = json!({ "status": { "phase": "Succeeded", "containerStatuses": [{
            "name": container.name, "image": container.image, "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "reason": "Completed" } },
        }] } });
        pods.patch_status("prebuild-ws", &PatchParams::default(), &Patch::Merge(ended)).await?;
        // Only the time passes.
        let mut stream = watch(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopping)).await?;
        let status = story.resources("eu-1")?.get("ws").await?.status.context("no status")?;
        let stopping = status.pod_stopping_time.context("it does not say since when")?.0;
        ensure!(stopping.as_second() >= until.as_second(), "{stopping} is before {until}");
        forget(story, "ws", annotations::BACKUP).await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}
