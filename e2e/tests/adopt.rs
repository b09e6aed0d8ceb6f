//! What a cluster holds without a record, or against one: told by `cluster diff`, and acted on only by an admin.

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use spaceport::cluster::resources::Workspace;
use spaceport::proto::wsman::WorkspacePhase;

use crate::story::{Story, describe, follow, is, request, run, stop, story, until, watch};

/// Label value of another kind of manager.
const OTHER: &str = "ws-manager-mk2";
/// Our own.
const OURS: &str = "spaceport";

/// A Workspace that no start asked for.
fn by_hand(id: &str, manager: &str) -> Result<Workspace> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
        "metadata": {
            "name": id,
            "labels": { "gitpod.io/managed-by": manager, "workspaceID": format!("meta-{id}"), "owner": "jane" },
            "finalizers": ["gitpod.io/finalizer"],
        },
        "spec": {
            "ownership": { "owner": "jane", "workspaceID": format!("meta-{id}") },
            "type": "Regular", "class": "g1-standard",
            "image": { "workspace": { "ref": "image:1" }, "ide": { "web": "", "supervisor": "" } },
            "initializer": "CgA=", "workspaceLocation": "/", "admission": { "level": "Owner" }, "ports": [],
        },
    }))?)
}

/// Makes a Workspace that no start asked for.
async fn make(story: &Story, cluster: &str, id: &str, manager: &str) -> Result<()> {
    story.resources(cluster)?.create(&PostParams::default(), &by_hand(id, manager)?).await?;
    Ok(())
}

/// Takes a Workspace away as nobody should: without its backup.
async fn vanish(story: &Story, cluster: &str, id: &str) -> Result<()> {
    let workspaces = story.resources(cluster)?;
    let bare = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    workspaces.patch(id, &PatchParams::default(), &bare).await?;
    workspaces.delete(id, &DeleteParams::default()).await?;
    Ok(())
}

/// Runs a verb that must succeed, and reads what it prints.
async fn told(story: &Story, args: &[&str]) -> Result<Value> {
    let line: Vec<&str> = ["cluster"].iter().chain(args).chain(&["-o", "json"]).copied().collect();
    let output = story.cli(&line).await?;
    ensure!(output.code == 0, "{args:?}: {}{}", output.stdout, output.stderr);
    Ok(serde_json::from_str(&output.stdout)?)
}

/// How a workspace stands in a cluster.
async fn standing(story: &Story, cluster: &str, id: &str) -> Result<String> {
    let diff = told(story, &["diff", cluster, "--all"]).await?;
    let row = diff["workspaces"].as_array().into_iter().flatten().find(|row| row["id"] == id);
    Ok(row.and_then(|row| row["standing"].as_str()).unwrap_or("ABSENT").to_owned())
}

/// A condition of a cluster.
async fn condition(story: &Story, cluster: &str, kind: &str) -> Result<Value> {
    let shown = told(story, &["show", cluster]).await?;
    let conditions = shown["status"]["conditions"].as_array().into_iter().flatten();
    conditions.cloned().find(|one| one["type"] == kind).with_context(|| format!("no {kind} in {shown}"))
}

async fn deregister_by_force(story: &Story, cluster: &str) -> Result<()> {
    let output = story.cli(&["cluster", "deregister", cluster, "--force"]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    Ok(())
}

#[test]
fn a_cluster_that_comes_back_is_compared_with_its_records_and_nothing_is_deleted() -> Result<()> {
    story("back", 2, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        for id in ["kept", "lost"] {
            run(&mut client, request(id, &[])).await?;
        }
        ensure!(condition(story, "eu-1", "NoStrays").await?["state"] == "TRUE", "there are strays");
        deregister_by_force(story, "eu-1").await?;
        let diff = told(story, &["diff", "eu-1"]).await?;
        ensure!(diff["registered"] == false, "{diff}");
        for id in ["kept", "lost"] {
            ensure!(standing(story, "eu-1", id).await? == "LEFT", "{diff}");
        }
        vanish(story, "eu-1", "lost").await?;
        make(story, "eu-1", "stray", OURS).await?;
        make(story, "eu-1", "theirs", OTHER).await?;

        story.register("eu-1").await?;
        let expected =
            [("kept", "ADOPTED"), ("lost", "FINISHED"), ("stray", "UNKNOWN"), ("theirs", "FOREIGN")];
        until("everything to be told apart", async || {
            for (id, expected) in expected {
                let found = standing(story, "eu-1", id).await?;
                ensure!(found == expected, "{id} is {found}");
            }
            Ok(())
        })
        .await?;
        let output = story.cli(&["cluster", "diff", "eu-1"]).await?;
        ensure!(!output.stdout.contains("kept"), "what agrees was told: {}", output.stdout);
        ensure!(output.stdout.contains("1 unknown") && output.stdout.contains(OTHER), "{}", output.stdout);
        until("the stray to be a condition", async || {
            let strays = condition(story, "eu-1", "NoStrays").await?;
            ensure!(strays["state"] == "FALSE", "{strays}");
            let message = strays["message"].as_str().unwrap_or_default();
            ensure!(message.starts_with("1 without a record: stray"), "{strays}");
            Ok(())
        })
        .await?;
        ensure!(describe(&mut client, "stray").await?.is_none(), "it is shown without a record");
        for id in ["stray", "theirs"] {
            let there = story.resources("eu-1")?.get(id).await?;
            ensure!(there.metadata.deletion_timestamp.is_none(), "{id} is being deleted");
        }
        // What came back is looked after as before.
        let mut kept = watch(&mut client, "kept").await?;
        follow(&mut kept, is(WorkspacePhase::Running)).await?;
        stop(&mut client, "kept").await?;
        follow(&mut kept, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}

#[test]
fn an_empty_cluster_and_one_that_is_unknown_say_so() -> Result<()> {
    story("nothing", 1, &["eu-1"], async |story| {
        let output = story.cli(&["cluster", "diff", "eu-1"]).await?;
        ensure!(output.code == 0 && output.stdout == "eu-1: no workspaces\n", "{output:?}");
        let output = story.cli(&["cluster", "diff", "nobody"]).await?;
        ensure!(output.code == 1 && output.stderr.contains("NOT_FOUND"), "{output:?}");
        deregister_by_force(story, "eu-1").await?;
        let output = story.cli(&["cluster", "diff", "eu-1"]).await?;
        ensure!(output.code == 1 && output.stderr.contains("NOT_FOUND"), "{output:?}");
        story.register("eu-1").await
    })
}
