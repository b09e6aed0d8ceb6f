//! Draining a cluster: which workspaces run on, which are stopped and how fast, and what keeps a drain open.

use anyhow::{Context as _, Result, bail, ensure};
use proto::spaceport::v1::drain::State;
use proto::spaceport::v1::{
    CordonRequest, Drain, GetDrainRequest, UncordonRequest, WatchDrainRequest, WatchDrainResponse,
    cluster_manager_client::ClusterManagerClient,
};
use proto::wsman::{MarkActiveRequest, WorkspaceConditionBool, WorkspacePhase};
use serde_json::Value;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::bulkheads::{begin, behind_proxy};
use crate::story::{
    Client, SOON, Story, annotated, describe, follow, is, refused, request, run, start, stop, story, watch,
};
use e2e::harness::{Fault, annotations};

/// A client of the admin API, at the first replica.
async fn admin(story: &Story) -> Result<ClusterManagerClient<Channel>> {
    story.installation.clusters(story.replicas.first().context("no manager runs")?).await
}

/// Runs `cluster drain …`, which must succeed; returns its output.
pub async fn drain(story: &Story, args: &[&str]) -> Result<Value> {
    let line: Vec<&str> = ["cluster", "drain"].iter().chain(args).chain(&["-o", "json"]).copied().collect();
    let output = story.cli(&line).await?;
    ensure!(output.code == 0, "{args:?}: {}", output.stderr);
    Ok(serde_json::from_str(&output.stdout)?)
}

/// Runs `cluster drain …`, which must be rejected; returns its output.
async fn not_drained(story: &Story, args: &[&str]) -> Result<String> {
    let line: Vec<&str> = ["cluster", "-o", "wide", "drain"].iter().chain(args).copied().collect();
    let output = story.cli(&line).await?;
    ensure!(output.code == 1, "{args:?} was taken: {}", output.stdout);
    Ok(output.stderr)
}

pub async fn watch_drain(story: &Story) -> Result<Streaming<WatchDrainResponse>> {
    let request = WatchDrainRequest { name: "eu-1".into() };
    Ok(admin(story).await?.watch_drain(request).await?.into_inner())
}

/// Reads the progress until it is as wanted; returns everything seen.
pub async fn progress(
    stream: &mut Streaming<WatchDrainResponse>,
    wanted: impl Fn(&Drain) -> bool,
) -> Result<Vec<Drain>> {
    let mut seen = Vec::new();
    let reading = async {
        while let Some(update) = stream.message().await? {
            let drain = update.drain.context("no drain")?;
            let done = wanted(&drain);
            seen.push(drain);
            if done {
                return Ok(());
            }
        }
        bail!("the stream ended")
    };
    let outcome = timeout(SOON, reading).await.context("it took too long").and_then(|done| done);
    outcome.with_context(|| format!("last seen: {:?}", seen.last()))?;
    Ok(seen)
}

pub fn in_state(state: State) -> impl Fn(&Drain) -> bool {
    move |drain| drain.state() == state
}

async fn mark_active(client: &mut Client, id: &str, closed: bool) -> Result<()> {
    client.mark_active(MarkActiveRequest { id: id.into(), closed, ignore_if_active: false }).await?;
    Ok(())
}

#[test]
fn a_plan_changes_nothing_and_a_drain_empties_a_cluster_that_can_then_be_taken_out() -> Result<()> {
    story("drain", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("idle", &["europe"])).await?;
        let task = annotated(request("task", &["europe"]), annotations::POD, "complete");
        let mut task = annotated(task, annotations::FAIL_AFTER, "8s");
        task.r#type = 1;
        run(&mut client, task).await?;
        let plan = drain(story, &["eu-1", "--idle", "1ms", "--dry-run"]).await?;
        ensure!(plan["state"] == "PLANNED" && plan["counts"]["total"] == 2, "{plan}");
        ensure!(plan["workspaces"][0]["id"] == "idle" && plan["workspaces"][0]["fate"] == "DUE", "{plan}");
        ensure!(plan["workspaces"][0]["room"] == "us-1", "{plan}");
        ensure!(plan["workspaces"][1]["fate"] == "FINISHES", "{plan}");
        ensure!(plan["workspaces"][1]["room"] == "", "a task that runs to its end goes nowhere: {plan}");
        ensure!(not_drained(story, &["show", "eu-1"]).await?.contains("has no drain"), "the plan was kept");

        let mut idle = watch(&mut client, "idle").await?;
        drain(story, &["eu-1", "--idle", "1ms"]).await?;
        let again = drain(story, &["start", "eu-1", "--idle", "1ms"]).await?;
        ensure!(again["counts"]["total"] == 2, "a repeat started another drain: {again}");
        let elsewhere = start(&mut client, request("elsewhere", &["europe"])).await?;
        ensure!(elsewhere.cluster == "us-1", "a draining cluster got a workspace");
        let mut pinned = request("pinned", &[]);
        let spec = pinned.spec.as_mut().context("no spec")?;
        spec.placement.as_mut().context("no placement")?.cluster = "eu-1".into();
        let status = refused(client.start_workspace(pinned).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("eu-1 is being drained"), "{}", status.message());
        let seen = follow(&mut idle, is(WorkspacePhase::Stopped)).await?;
        let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(
            last.final_backup_complete() == WorkspaceConditionBool::True,
            "it was stopped without its backup"
        );
        ensure!(seen.iter().any(|status| status.draining), "subscribers got no deadline");

        let mut stream = watch_drain(story).await?;
        let seen = progress(&mut stream, in_state(State::Drained)).await?;
        let last = seen.last().and_then(|drain| drain.counts).context("no counts")?;
        ensure!(last.stopped == 1 && last.left == 0, "the task was stopped, or not waited for: {last:?}");
        let done = drain(story, &["eu-1", "--idle", "1ms"]).await?;
        ensure!(done["state"] == "DRAINED", "a repeat started another drain: {done}");
        let output = story.cli(&["cluster", "list"]).await?;
        ensure!(output.stdout.contains("drain drained"), "{}", output.stdout);
        let output = story.cli(&["cluster", "deregister", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.register("eu-1").await?;
        ensure!(
            start(&mut client, request("back", &["europe"])).await?.cluster == "eu-1",
            "the drain outlived its cluster"
        );
        Ok(())
    })
}

#[test]
fn a_busy_workspace_runs_until_the_deadline_which_its_user_sees() -> Result<()> {
    story("drain-busy", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("busy", &["europe"])).await?;
        run(&mut client, request("idle", &["europe"])).await?;
        mark_active(&mut client, "busy", false).await?;
        let mut busy = watch(&mut client, "busy").await?;
        let began = drain(story, &["eu-1", "--idle", "1h", "--deadline", "2h"]).await?;
        ensure!(began["counts"]["leftAlone"] == 2 && began["state"] == "DRAINING", "{began}");
        let reported = follow(&mut busy, |status| status.draining).await?;
        let reported =
            reported.last().and_then(|status| status.draining_until).context("no deadline was reported")?;
        // Paused, it stops no workspace, not even at the deadline.
        drain(story, &["pause", "eu-1"]).await?;
        let paused = drain(story, &["eu-1", "--idle", "1h", "--deadline", "1ms"]).await?;
        ensure!(paused["state"] == "PAUSED", "{paused}");
        let sooner =
            follow(&mut busy, |status| status.draining_until.is_some_and(|at| at.seconds < reported.seconds));
        let sooner = sooner.await?;
        ensure!(
            sooner.iter().all(|status| status.phase() == WorkspacePhase::Running),
            "stopped while paused"
        );
        drain(story, &["resume", "eu-1"]).await?;
        follow(&mut busy, is(WorkspacePhase::Stopped)).await?;
        progress(&mut watch_drain(story).await?, in_state(State::Drained)).await?;
        Ok(())
    })
}

#[test]
fn a_cancelled_drain_lets_workspaces_in_and_an_uncordon_does_not_end_one_under_way() -> Result<()> {
    story("drain-cancel", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        let mut stream = watch(&mut client, "ws").await?;
        drain(story, &["eu-1"]).await?;
        follow(&mut stream, |status| status.draining).await?;
        let mut api = admin(story).await?;
        let status =
            refused(api.uncordon(UncordonRequest { name: "eu-1".into() }).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("cancel the drain first"), "{}", status.message());
        let cancelled = drain(story, &["cancel", "eu-1"]).await?;
        ensure!(cancelled["state"] == "CANCELLED" && cancelled["counts"]["left"] == 1, "{cancelled}");
        drain(story, &["cancel", "eu-1"]).await?;
        follow(&mut stream, |status| !status.draining).await?;
        ensure!(start(&mut client, request("new", &["europe"])).await?.cluster == "eu-1", "still kept away");
        let said = not_drained(story, &["pause", "eu-1"]).await?;
        ensure!(said.contains("is not being drained"), "{said}");
        let said = not_drained(story, &["nowhere"]).await?;
        ensure!(said.contains("cluster nowhere is not registered"), "{said}");
        Ok(())
    })
}

#[test]
fn a_drain_without_capacity_elsewhere_is_rejected_with_the_reasons() -> Result<()> {
    story("drain-room", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        admin(story).await?.cordon(CordonRequest { name: "us-1".into() }).await?;
        let said = not_drained(story, &["eu-1", "--idle", "1ms"]).await?;
        ensure!(said.contains("FAILED_PRECONDITION") && said.contains("us-1 is cordoned"), "{said}");
        let plan = drain(story, &["eu-1", "--idle", "1ms", "--dry-run"]).await?;
        ensure!(plan["workspaces"][0]["noRoom"] == "us-1 is cordoned", "{plan}");
        ensure!(
            start(&mut client, request("more", &["europe"])).await?.cluster == "eu-1",
            "a refused drain keeps workspaces away"
        );
        drain(story, &["eu-1", "--idle", "1ms", "--accept-no-room"]).await?;
        progress(&mut watch_drain(story).await?, in_state(State::Drained)).await?;
        Ok(())
    })
}

#[test]
fn lost_capacity_blocks_a_drain_until_it_is_back() -> Result<()> {
    story("drain-blocked", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        drain(story, &["eu-1"]).await?;
        let mut api = admin(story).await?;
        api.cordon(CordonRequest { name: "us-1".into() }).await?;
        drain(story, &["eu-1", "--idle", "1ms"]).await?;
        let mut stream = watch_drain(story).await?;
        let seen = progress(&mut stream, in_state(State::Blocked)).await?;
        let blocked = seen.last().context("nothing was seen")?;
        ensure!(blocked.reason.contains("no other cluster has capacity"), "{}", blocked.reason);
        api.uncordon(UncordonRequest { name: "us-1".into() }).await?;
        progress(&mut stream, in_state(State::Drained)).await?;
        Ok(())
    })
}

#[test]
fn a_failed_backup_keeps_the_drain_open_until_it_is_accepted_even_under_another_leader() -> Result<()> {
    story("drain-unsaved", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, annotated(request("lost", &["europe"]), annotations::BACKUP, "fail")).await?;
        run(&mut client, request("good", &["europe"])).await?;
        drain(story, &["eu-1", "--idle", "1ms"]).await?;
        let held =
            |drain: &Drain| drain.state() == State::Blocked && drain.counts.is_some_and(|c| c.left == 0);
        let seen = progress(&mut watch_drain(story).await?, held).await?;
        let unsaved = &seen.last().context("nothing was seen")?.unsaved;
        ensure!(unsaved.len() == 1 && unsaved[0].id == "lost", "{unsaved:?}");
        ensure!(unsaved[0].reason.contains("asked to fail"), "{unsaved:?}");
        kill_leader(story).await?;
        progress(&mut watch_drain(story).await?, held).await?;
        let said = not_drained(story, &["accept", "eu-1", "good"]).await?;
        ensure!(said.contains("good is none that ended without a backup"), "{said}");
        drain(story, &["accept", "eu-1", "lost"]).await?;
        progress(&mut watch_drain(story).await?, in_state(State::Drained)).await?;
        Ok(())
    })
}

async fn kill_leader(story: &mut Story) -> Result<()> {
    let leader = story.leader().await?;
    let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
    story.replicas.remove(at).process.kill().await?;
    Ok(())
}

#[test]
fn stops_keep_to_their_bounds_and_the_next_leader_goes_on_where_the_killed_one_was() -> Result<()> {
    story("drain-failover", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        for n in 0..5 {
            let slow =
                annotated(request(&format!("ws-{n}"), &["europe"]), annotations::BACKUP_DELAY_MS, "1500");
            run(&mut client, slow).await?;
        }
        let options = ["eu-1", "--idle", "1ms", "--concurrent", "2", "--rate", "600/min"];
        drain(story, &options).await?;
        let mut seen =
            progress(&mut watch_drain(story).await?, |d| d.counts.is_some_and(|c| c.in_flight == 2)).await?;
        kill_leader(story).await?;
        let mut stream = watch_drain(story).await?;
        seen.extend(progress(&mut stream, in_state(State::Drained)).await?);
        for drain in &seen {
            let counts = drain.counts.context("no counts")?;
            ensure!(counts.in_flight <= 2 && counts.stopping <= 2, "too many at once: {counts:?}");
        }
        let last = seen.last().and_then(|drain| drain.counts).context("no counts")?;
        ensure!(last.stopped == 5 && last.left == 0, "{last:?}");
        ensure!(seen.last().is_some_and(|drain| drain.unsaved.is_empty()), "content is said to be lost");
        let answer = admin(story).await?.get_drain(GetDrainRequest { name: "eu-1".into() }).await?;
        ensure!(answer.into_inner().drain.is_some_and(|drain| drain.state() == State::Drained), "not kept");
        Ok(())
    })
}

#[test]
fn a_drain_goes_on_under_maintenance_and_waiting_for_it_ends_with_it() -> Result<()> {
    story("drain-upkeep", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        let output = story.cli(&["cluster", "maintenance", "on", "eu-1", "--for", "2h"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        ensure!(stop(&mut client, "ws").await.is_err(), "a user's stop was taken");
        let output = story.cli(&["cluster", "drain", "eu-1", "--idle", "1ms", "--wait"]).await?;
        ensure!(output.code == 0 && output.stderr.contains("1/1  drained"), "{output:?}");
        ensure!(describe(&mut client, "ws").await?.is_none(), "it is still there");
        let output = story.cli(&["cluster", "uncordon", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let shown = drain(story, &["show", "eu-1"]).await?;
        ensure!(shown["state"] == "CANCELLED", "an uncordon did not end it: {shown}");
        Ok(())
    })
}

#[test]
fn a_drain_of_an_unreachable_cluster_waits_for_it_and_loses_nothing() -> Result<()> {
    story("drain-away", 0, &[], async |story| {
        begin(story).await?;
        story.register("us-1").await?;
        let proxy = behind_proxy(story, "eu-1").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        let mut seen = watch(&mut client, "ws").await?;
        proxy.set(Fault::BlackHole).await?;
        follow(&mut seen, |status| !status.reachable).await?;
        drain(story, &["eu-1", "--idle", "1ms"]).await?;
        let mut progressing = watch_drain(story).await?;
        progress(&mut progressing, |drain| drain.counts.is_some_and(|counts| counts.stopping == 1)).await?;
        let status = describe(&mut client, "ws").await?.context("it is gone")?;
        ensure!(status.phase() == WorkspacePhase::Running && !status.reachable, "{status:?}");
        proxy.heal().await?;
        let states = follow(&mut seen, is(WorkspacePhase::Stopped)).await?;
        let last = states.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(
            last.final_backup_complete() == WorkspaceConditionBool::True,
            "it was stopped without its backup"
        );
        progress(&mut progressing, in_state(State::Drained)).await?;
        Ok(())
    })
}
