//! Two managers: one leads, the other serves reads, forwards writes, and takes over.

use anyhow::{Context as _, Result, ensure};
use proto::wsman::WorkspacePhase;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::story::{SOON, describe, follow, is, refused, request, run, start, stop, story, until, watch};
use e2e::harness::Signal;

#[test]
fn a_standby_serves_reads_and_streams_and_passes_writes_on() -> Result<()> {
    story("standby", 2, &["eu-1"], async |story| {
        let leader = story.leader().await?;
        let standby = story.replicas.iter().find(|replica| replica.name != leader).context("no standby")?;
        let mut client = story.installation.workspaces(standby).await?;
        let status = run(&mut client, request("ws", &[])).await?;
        ensure!(status.reachable && status.cluster == "eu-1", "{status:?}");
        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}

#[test]
fn the_standby_takes_over_from_a_killed_leader_and_workspaces_go_on() -> Result<()> {
    story("failover", 2, &["eu-1", "us-1"], async |story| {
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let dead = story.replicas.remove(at);
        let mut client = story.client().await?;
        let first = start(&mut client, request("before", &["europe"])).await?;
        let mut stream = watch(&mut client, "before").await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        dead.process.kill().await?;
        let after = run(&mut client, request("after", &["north-america"])).await?;
        ensure!(after.cluster == "us-1", "{after:?}");
        let again = start(&mut client, request("before", &["europe"])).await?;
        ensure!(first == again, "a repeated call got another answer from the new leader");
        stop(&mut client, "before").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        ensure!(story.leader().await? != leader, "the dead replica leads");
        Ok(())
    })
}

#[test]
fn a_leader_that_ends_cleanly_hands_over_without_its_lease_running_out() -> Result<()> {
    story("handover", 0, &[], async |story| {
        // A write waits 12 s for a leader: far less than this lease.
        story.installation.overrides =
            json!({ "federation": { "leader": { "lease": "60s", "renew": "2s", "stopAfter": "4s" } } });
        for name in ["manager-0", "manager-1"] {
            story.replicas.push(story.installation.start(name).await?);
        }
        story.register("eu-1").await?;
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let old = story.replicas.remove(at);
        let mut client = story.client().await?;
        old.process.signal(Signal::Term).await?;
        start(&mut client, request("ws", &[])).await?;
        let code = old.process.exited(SOON).await?;
        ensure!(code == 0, "the old leader ended with {code}");
        Ok(())
    })
}

#[test]
fn a_start_without_a_leader_says_that_nothing_was_changed() -> Result<()> {
    story("no-leader", 0, &[], async |story| {
        // The lease outlives the 12 s that a write waits for a leader.
        story.installation.overrides =
            json!({ "federation": { "leader": { "lease": "60s", "renew": "2s", "stopAfter": "4s" } } });
        for name in ["manager-0", "manager-1"] {
            story.replicas.push(story.installation.start(name).await?);
        }
        story.register("eu-1").await?;
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let dead = story.replicas.remove(at);
        let mut client = story.client().await?;
        dead.process.kill().await?;
        let status = refused(client.start_workspace(request("ws", &[])).await, Code::Unavailable)?;
        ensure!(status.message().ends_with("; nothing was changed"), "{}", status.message());
        let reason = status.get_details_error_info().map(|info| info.reason);
        ensure!(reason.as_deref() == Some("NOT_SERVED"), "{reason:?}");
        ensure!(describe(&mut client, "ws").await?.is_none(), "it was started");
        Ok(())
    })
}

#[test]
fn a_restarted_manager_knows_everything_that_ran() -> Result<()> {
    story("restart", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let before = run(&mut client, request("ws", &[])).await?;
        story.replicas.remove(0).process.kill().await?;
        let replica = story.installation.start("manager-new").await?;
        story.replicas.push(replica);
        let mut client = story.client().await?;
        until("the workspace to be known", async || {
            let after = describe(&mut client, "ws").await?.context("it is not known")?;
            ensure!(after.status_version >= before.status_version, "its version fell");
            ensure!(after.phase() == WorkspacePhase::Running, "it is {:?}", after.phase());
            Ok(())
        })
        .await
    })
}
