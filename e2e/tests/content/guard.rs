//! What protects a node and the content on it: the disk guard, and backups of workspaces whose resources were deleted by force.

use anyhow::{Context as _, Result, ensure};
use k8s::resources::Workspace;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::input::small_disk;
use super::life::{backup, is_backed_up};
use super::stage::{Life, Stage, stage};
use crate::story::until;

/// Whether the second node takes workspaces.
async fn takes(stage: &Stage) -> Result<bool> {
    let cluster = stage.cluster(1)?;
    let node = Api::<Node>::all(cluster.client()).get(cluster.real_node()?.name()).await?;
    let label = format!("gitpod.io/ws-daemon_ready_ns_{}", stage.story.namespace);
    Ok(node.metadata.labels.is_some_and(|labels| labels.contains_key(&label)))
}

#[test]
fn a_node_that_is_almost_full_takes_no_workspaces_and_loses_no_content() -> Result<()> {
    stage("content-guard", async |stage| {
        // The agents of other stories do not look at the disk of the machine.
        let guard = json!({ "node": { "diskGuard": { "minFree": "20%" } } });
        stage.agents.get_mut(1).context("no second agent")?.configure(&guard)?;
        small_disk(stage, "content-guard", 24).await?;
        let life = Life::new("guard-1", "guard").on(1);
        stage.run(&life).await?;
        ensure!(takes(stage).await?, "the node has no label");
        stage.exec(&life, "filetree fill /workspace/random 20 9").await?;
        until("the node to take no workspaces", async || {
            ensure!(!takes(stage).await?, "it has the label");
            Ok(())
        })
        .await?;
        let made = stage.list(&life).await?;
        let down = stage.stop("guard-1").await?;
        ensure!(is_backed_up(&down), "{down:?}");
        // Its folder was kept, and goes.
        until("the node to have space again", async || {
            ensure!(takes(stage).await?, "it has no label");
            Ok(())
        })
        .await?;
        let kept = stage.agent(1)?.path(".spaceport/kept/jane/guard")?;
        ensure!(!kept.exists(), "the kept folder is still there");
        let back = Life::new("guard-2", "guard").with(backup());
        stage.run(&back).await?;
        stage.list(&back).await?.is(&made)?;
        stage.stop("guard-2").await?;
        Ok(())
    })
}

#[test]
fn content_of_a_resource_that_was_deleted_by_force_is_backed_up_once_its_pod_is_gone() -> Result<()> {
    stage("content-orphan", async |stage| {
        let life = Life::new("orphan-1", "orphan");
        stage.run(&life).await?;
        stage.exec(&life, "echo work >/workspace/work").await?;
        let client = stage.cluster(0)?.client();
        let workspaces = Api::<Workspace>::namespaced(client.clone(), &stage.story.namespace);
        until("the sizes of the image", async || {
            let status = workspaces.get("orphan-1").await?.status.context("no status")?;
            let info = status.image_info.context("none")?;
            ensure!(info.total_size > 0, "{info:?}");
            Ok(())
        })
        .await?;
        // Its controller hears of it and cannot write any more.
        workspaces.delete("orphan-1", &DeleteParams::default()).await?;
        until("the resource to be gone", async || {
            let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
            let _ = workspaces.patch("orphan-1", &PatchParams::default(), &patch).await;
            ensure!(workspaces.get_opt("orphan-1").await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
        let pods = Api::<Pod>::namespaced(client, &stage.story.namespace);
        let _ = pods.delete("ws-orphan-1", &DeleteParams::default().grace_period(1)).await;
        until("the backup", async || {
            ensure!(stage.heads("orphan")?.len() == 1, "there is none");
            Ok(())
        })
        .await?;
        let back = Life::new("orphan-2", "orphan").with(backup()).on(1);
        stage.run(&back).await?;
        ensure!(stage.exec(&back, "cat /workspace/work").await? == "work\n", "another file");
        stage.stop("orphan-2").await?;
        Ok(())
    })
}
