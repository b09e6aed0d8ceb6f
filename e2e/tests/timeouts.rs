//! Time limits of a workspace: configured, requested, and set later.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use proto::wsman::{
    MarkActiveRequest, SetTimeoutRequest, StartWorkspaceRequest, TimeoutType, WorkspaceConditionBool,
    WorkspacePhase, WorkspaceStatus, WorkspaceType,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::story::{
    Client, Story, annotated, describe, follow, forget, is, request, run, stop, story, watch,
};
use e2e::harness::annotations;

/// One manager with other limits.
async fn with_timeouts(story: &mut Story, timeouts: Value) -> Result<Client> {
    story.installation.overrides = json!({ "manager": { "timeouts": timeouts } });
    let replica = story.installation.start("manager-0").await?;
    story.replicas.push(replica);
    story.register("eu-1").await?;
    story.client().await
}

async fn mark_active(client: &mut Client, closed: bool) -> Result<()> {
    client.mark_active(MarkActiveRequest { id: "ws".into(), closed, ignore_if_active: false }).await?;
    Ok(())
}

async fn set_timeout(client: &mut Client, limit: TimeoutType, duration: &str) -> Result<()> {
    let r#type = limit.into();
    client.set_timeout(SetTimeoutRequest { id: "ws".into(), duration: duration.into(), r#type }).await?;
    Ok(())
}

/// Waits until the workspace has ended; returns the text of its timeout.
async fn timed_out(client: &mut Client) -> Result<String> {
    let mut stream = watch(client, "ws").await?;
    let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
    let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
    ensure!(last.failed.is_empty(), "it failed: {}", last.failed);
    ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "it was not backed up");
    Ok(last.timeout.clone())
}

#[test]
fn a_workspace_that_nobody_uses_any_more_is_stopped_and_backed_up() -> Result<()> {
    story("idle", 0, &[], async |story| {
        let mut client = with_timeouts(story, json!({ "regularWorkspace": "3s" })).await?;
        run(&mut client, request("ws", &[])).await?;
        mark_active(&mut client, false).await?;
        let text = timed_out(&mut client).await?;
        ensure!(text.starts_with("workspace timed out after period of inactivity ("), "{text}");
        ensure!(text.ends_with("took longer than 00h00m"), "{text}");
        Ok(())
    })
}

#[test]
fn a_timeout_set_later_counts_at_once() -> Result<()> {
    story("set-timeout", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        mark_active(&mut client, false).await?;
        set_timeout(&mut client, TimeoutType::WorkspaceTimeout, "2s").await?;
        let text = timed_out(&mut client).await?;
        ensure!(text.contains("period of inactivity"), "{text}");
        Ok(())
    })
}

#[test]
fn activity_postpones_the_end_of_an_idle_workspace() -> Result<()> {
    story("postponed", 0, &[], async |story| {
        let mut client = with_timeouts(story, json!({ "regularWorkspace": "6s" })).await?;
        run(&mut client, request("ws", &[])).await?;
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            mark_active(&mut client, false).await?;
            sleep(Duration::from_secs(1)).await;
        }
        let status = describe(&mut client, "ws").await?.context("it is gone")?;
        ensure!(status.phase() == WorkspacePhase::Running, "it is {:?}", status.phase());
        let text = timed_out(&mut client).await?;
        ensure!(text.contains("period of inactivity"), "{text}");
        Ok(())
    })
}

#[test]
fn the_maximum_lifetime_of_a_request_ends_a_workspace_in_use() -> Result<()> {
    story("lifetime", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut wanted: StartWorkspaceRequest = request("ws", &[]);
        wanted.spec.as_mut().context("no spec")?.maximum_lifetime = "8s".into();
        run(&mut client, wanted).await?;
        mark_active(&mut client, false).await?;
        let text = timed_out(&mut client).await?;
        ensure!(text.contains("maximum lifetime"), "{text}");
        Ok(())
    })
}

#[test]
fn a_workspace_closed_by_its_user_is_stopped_unless_opened_again() -> Result<()> {
    story("closed", 0, &[], async |story| {
        let mut client = with_timeouts(story, json!({ "afterClose": "5s" })).await?;
        run(&mut client, request("ws", &[])).await?;
        mark_active(&mut client, true).await?;
        mark_active(&mut client, false).await?;
        sleep(Duration::from_secs(7)).await;
        let status: WorkspaceStatus = describe(&mut client, "ws").await?.context("it is gone")?;
        ensure!(status.phase() == WorkspacePhase::Running, "opened again, it is {:?}", status.phase());
        set_timeout(&mut client, TimeoutType::ClosedTimeout, "2s").await?;
        mark_active(&mut client, true).await?;
        let text = timed_out(&mut client).await?;
        ensure!(text.contains("after being closed"), "{text}");
        Ok(())
    })
}

#[test]
fn a_backup_that_hangs_is_given_up_at_its_limit_and_says_where_the_content_is() -> Result<()> {
    story("hung-backup", 0, &[], async |story| {
        let mut client = with_timeouts(story, json!({ "contentFinalization": "3s" })).await?;
        run(&mut client, annotated(request("ws", &[]), annotations::BACKUP, "hang")).await?;
        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(last.failed.contains("gave up waiting"), "{}", last.failed);
        ensure!(last.failed.contains("the content is still on node"), "{}", last.failed);
        ensure!(last.timeout.contains("after backup"), "{}", last.timeout);
        ensure!(
            last.final_backup_complete() == WorkspaceConditionBool::False,
            "a complete backup is reported"
        );
        Ok(())
    })
}

#[test]
fn a_headless_task_that_takes_too_long_is_stopped_and_backed_up() -> Result<()> {
    story("long-task", 0, &[], async |story| {
        let mut client = with_timeouts(story, json!({ "headlessWorkspace": "6s" })).await?;
        let mut wanted = request("ws", &[]);
        wanted.set_type(WorkspaceType::Prebuild);
        run(&mut client, wanted).await?;
        let text = timed_out(&mut client).await?;
        ensure!(text.contains("running the headless workspace"), "{text}");
        Ok(())
    })
}

#[test]
fn a_limit_counts_on_over_a_change_of_the_leader_and_ends_a_workspace_once() -> Result<()> {
    const LIMIT: SignedDuration = SignedDuration::from_secs(40);
    story("limit-failover", 2, &["eu-1"], async |story| {
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let doomed = story.replicas.remove(at);
        let mut client = story.client().await?;
        let mut wanted = annotated(request("ws", &[]), annotations::BACKUP, "hang");
        wanted.spec.as_mut().context("no spec")?.timeout = "40s".into();
        run(&mut client, wanted).await?;
        let mut stream = watch(&mut client, "ws").await?;
        let workspaces = story.resources("eu-1")?;
        // It was idle for most of its time. If a new leader restarted the clock, it would run far longer.
        let active = Timestamp::now() - SignedDuration::from_secs(30);
        let patch = Patch::Merge(json!({ "status": { "lastActivity": active.to_string() } }));
        workspaces.patch_status("ws", &PatchParams::default(), &patch).await?;
        let killed = Timestamp::now();
        doomed.process.kill().await?;

        let mut seen = follow(&mut stream, is(WorkspacePhase::Stopping)).await?;
        let status = workspaces.get("ws").await?.status.context("no status")?;
        let fired =
            status.condition("Timeout").context("it has no condition Timeout")?.last_transition_time.0;
        ensure!(fired.as_second() >= (active + LIMIT).as_second(), "{fired} is early: {active}");
        ensure!(fired < killed + LIMIT, "{fired} is late: its clock began again after {killed}");
        forget(story, "ws", annotations::BACKUP).await?;
        seen.extend(follow(&mut stream, is(WorkspacePhase::Stopped)).await?);
        let reported: BTreeSet<&str> =
            seen.iter().filter_map(|status| status.conditions.as_ref()).map(|all| &*all.timeout).collect();
        ensure!(reported.iter().filter(|text| !text.is_empty()).count() == 1, "{reported:?}");
        let events: Api<Event> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let timed_out = events.list(&ListParams::default().fields("reason=TimedOut")).await?.items;
        ensure!(timed_out.len() == 1, "{timed_out:?}");
        Ok(())
    })
}
