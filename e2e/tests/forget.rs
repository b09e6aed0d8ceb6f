//! A cluster that was deregistered by force: no other cluster gets its name while workspaces are recorded under it, and
//! an admin can give these up.

use anyhow::{Context as _, Result, ensure};
use proto::wsman::{WorkspaceConditionBool, WorkspacePhase};
use tonic::Code;

use crate::adopt::{deregister_by_force, not_done, pods, reported, standing};
use crate::story::{Story, describe, follow, is, refused, request, run, start, stop, story, until, watch};
use e2e::harness::spaceport::Output;

/// The reason in these stories.
const REASON: &str = "the-datacentre-burned-down";

/// Registers the story's `ap-1` as `eu-1`; returns output and exit code.
async fn register_another(story: &Story) -> Result<Output> {
    story.try_to_register("eu-1", "europe", &story.kubeconfigs["ap-1"]).await
}

/// Asserts that the workspace is neither deleted nor stopped.
async fn runs_on(story: &Story, id: &str) -> Result<()> {
    let there = story.resources("eu-1")?.get(id).await?;
    ensure!(there.metadata.deletion_timestamp.is_none(), "it is being deleted");
    let phase = there.status.map(|status| status.phase).unwrap_or_default();
    ensure!(phase == domain::workspace::Phase::Running, "it is {phase:?}");
    ensure!(pods(story, id).await?.1.len() == 1, "its pod is gone");
    Ok(())
}

#[test]
fn the_name_of_a_lost_cluster_goes_to_no_other_until_its_workspaces_are_given_up_and_all_are_told()
-> Result<()> {
    story("forget", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        let before = run(&mut client, request("ws", &["europe"])).await?;
        ensure!(before.cluster == "eu-1", "it is on {}", before.cluster);
        let said = not_done(story, &["forget", "eu-1", "--yes", "--reason", REASON]).await?;
        ensure!(said.contains("cluster eu-1 is registered"), "{said}");
        deregister_by_force(story, "eu-1").await?;

        let other = register_another(story).await?;
        ensure!(other.code == 1 && other.stderr.contains("FAILED_PRECONDITION"), "{other:?}");
        for part in ["is not the one that was deregistered", "1 workspaces", "ws", "cluster forget eu-1"] {
            ensure!(other.stderr.contains(part), "{part}: {}", other.stderr);
        }
        let file = story.installation.cluster_file("eu-1", "europe", &story.kubeconfigs["ap-1"])?;
        let looked = story.cli(&["cluster", "doctor", "-o", "wide", "-f", &file.to_string_lossy()]).await?;
        ensure!(looked.stdout.contains("is not the one that was deregistered"), "{}", looked.stdout);
        let page = story.cli(&["status"]).await?.stdout;
        ensure!(page.contains("1 of eu-1, which is not registered"), "{page}");
        let plan = reported(story, &["forget", "eu-1"]).await?;
        ensure!(plan["left"] == 1 && plan["givenUp"] == 0 && plan["workspaces"][0]["id"] == "ws", "{plan}");
        ensure!(standing(story, "eu-1", "ws").await? == "LEFT", "the plan was carried out");

        let mut streams = Vec::new();
        for replica in &story.replicas {
            let mut client = story.installation.workspaces(replica).await?;
            streams.push(watch(&mut client, "ws").await?);
        }
        let done = reported(story, &["forget", "eu-1", "--yes", "--reason", REASON]).await?;
        ensure!(done["givenUp"] == 1 && done["left"] == 0, "{done}");
        for stream in &mut streams {
            let seen = follow(stream, is(WorkspacePhase::Stopped)).await?;
            let [last] = &seen[..] else { anyhow::bail!("more was reported: {seen:?}") };
            ensure!(last.message == format!("given up with cluster eu-1: {REASON}"), "{last:?}");
            ensure!(last.cluster == "eu-1" && !last.reachable, "{last:?}");
            ensure!(last.status_version > before.status_version, "{before:?} {last:?}");
        }
        runs_on(story, "ws").await?;
        ensure!(describe(&mut client, "ws").await?.is_none(), "it is still shown");
        // Its long-lived id is free; its own id is not, as after any end.
        let mut next = request("next", &[]);
        next.metadata.as_mut().context("no metadata")?.meta_id = "meta-ws".to_owned();
        ensure!(start(&mut client, next).await?.cluster == "us-1", "it was placed elsewhere");
        refused(client.start_workspace(request("ws", &[])).await, Code::AlreadyExists)?;
        let again = reported(story, &["forget", "eu-1"]).await?;
        ensure!(again["left"] == 0, "{again}");
        let page = story.cli(&["status"]).await?.stdout;
        ensure!(!page.contains("not registered"), "{page}");
        let other = register_another(story).await?;
        ensure!(other.code == 0, "{}", other.stderr);
        Ok(())
    })
}

#[test]
fn a_cluster_that_comes_back_after_it_was_given_up_loses_nothing_and_is_adopted() -> Result<()> {
    story("forget-back", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        deregister_by_force(story, "eu-1").await?;
        let mut stream = watch(&mut client, "ws").await?;
        reported(story, &["forget", "eu-1", "--yes", "--reason", REASON]).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let stopped = seen.last().context("nothing was seen")?.status_version;

        story.register("eu-1").await?;
        until("it to be a stray", async || {
            let found = standing(story, "eu-1", "ws").await?;
            ensure!(found == "UNKNOWN", "it is {found}");
            Ok(())
        })
        .await?;
        // By then all records there are settled.
        run(&mut client, request("after", &[])).await?;
        stop(&mut client, "after").await?;
        runs_on(story, "ws").await?;
        ensure!(describe(&mut client, "ws").await?.is_none(), "it is shown without a record");

        let done = reported(story, &["adopt", "eu-1", "ws", "--yes"]).await?;
        ensure!(done[0]["outcome"] == "ADOPTED", "{done}");
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        let seen = seen.last().context("nothing was seen")?;
        ensure!(seen.status_version > stopped, "the version fell from {stopped}: {seen:?}");
        runs_on(story, "ws").await?;
        stop(&mut client, "ws").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "stopped without its backup");
        Ok(())
    })
}

#[test]
fn workspaces_that_are_alive_in_their_cluster_under_another_name_are_adopted_and_not_given_up() -> Result<()>
{
    story("forget-alive", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        deregister_by_force(story, "eu-1").await?;
        let renamed = story.try_to_register("eu-2", "europe", &story.kubeconfigs["eu-1"]).await?;
        ensure!(renamed.code == 0, "{}", renamed.stderr);
        until("the workspace to be seen there", async || {
            let found = standing(story, "eu-2", "ws").await?;
            ensure!(found == "LEFT", "it is {found}");
            Ok(())
        })
        .await?;
        let said = not_done(story, &["forget", "eu-1", "--yes", "--reason", REASON]).await?;
        ensure!(said.contains("cluster eu-1 is registered as eu-2"), "{said}");
        let done = reported(story, &["adopt", "eu-2", "ws", "--yes"]).await?;
        ensure!(done[0]["outcome"] == "ADOPTED", "{done}");
        let status = describe(&mut client, "ws").await?.context("it is gone")?;
        ensure!(status.cluster == "eu-2", "it is on {}", status.cluster);
        runs_on(story, "ws").await
    })
}

#[test]
fn a_cluster_whose_uid_was_not_noted_is_known_by_its_workspaces() -> Result<()> {
    story("forget-unknown", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        deregister_by_force(story, "eu-1").await?;
        let mut etcd = story.fleet.etcd().connect().await?;
        let noted = format!("/spaceport/{}/departed/eu-1", story.namespace);
        ensure!(etcd.delete(noted, None).await?.deleted() == 1, "nothing was noted");

        let other = register_another(story).await?;
        ensure!(other.code == 1, "it was registered: {}", other.stdout);
        ensure!(other.stderr.contains("holds none of its workspaces"), "{}", other.stderr);
        story.register("eu-1").await?;
        ensure!(standing(story, "eu-1", "ws").await? == "ADOPTED", "it was not brought back");
        runs_on(story, "ws").await
    })
}
