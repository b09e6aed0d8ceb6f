//! A cluster whose etcd is restored from an old backup: it is noticed, versions go on rising, and nothing is deleted.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use serde_json::json;
use spaceport::cluster::resources::Workspace;
use spaceport::proto::wsman::WorkspacePhase;

use crate::harness::node_agent::Pace;
use crate::harness::spaceport::{prepare_member, prepare_namespaces};
use crate::harness::{Cluster, ClusterOptions, NodeAgent, Part};
use crate::story::{describe, follow, is, request, run, start, stop, story, until, watch};

#[test]
fn a_cluster_restored_from_an_old_backup_is_noticed_and_nothing_of_it_is_deleted() -> Result<()> {
    story("restore", 0, &[], async |story| {
        // What is silent for the time of a restore is not lost; back, it is available soon.
        story.installation.overrides =
            json!({ "federation": { "health": { "recoverAfter": "1s", "canary": "1s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let folder = story.installation.dir().join("old-1");
        let cluster = Cluster::boot(story.fleet.assets(), &folder, ClusterOptions::named("old-1")).await?;
        let kubeconfig = prepare_member(&cluster).await?;
        prepare_namespaces(&cluster, &story.namespace, &story.secrets_namespace).await?;
        let _agent = NodeAgent::start(&cluster.client(), Pace::default());
        let file = story.installation.cluster_file(cluster.name(), "old", &kubeconfig)?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available(cluster.name()).await?;

        let mut client = story.client().await?;
        run(&mut client, request("stays", &["old"])).await?;
        run(&mut client, request("ended", &["old"])).await?;
        let backup = folder.join("backup");
        set_aside(&cluster, &backup).await?;
        story.available(cluster.name()).await?;

        // After the backup: one ends, one is new, one is changed.
        let mut stream = watch(&mut client, "ended").await?;
        stop(&mut client, "ended").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        run(&mut client, request("new", &["old"])).await?;
        let output = story.cli(&["workspace", "timeout", "stays", "--after", "2h"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let mut of_stays = watch(&mut client, "stays").await?;
        let seen = follow(&mut of_stays, |status| timeout_of(status).starts_with("2h")).await?;
        let before = seen.last().context("nothing was seen")?.clone();
        let mut of_new = watch(&mut client, "new").await?;

        restore(&cluster, &backup).await?;

        // What the backup holds is shown as news, above all versions before.
        let seen = follow(&mut of_stays, |status| timeout_of(status) != timeout_of(&before)).await?;
        let after = seen.last().context("nothing was seen")?;
        ensure!(after.status_version > before.status_version, "{before:?} {after:?}");
        ensure!(after.phase() == WorkspacePhase::Running, "{after:?}");
        follow(&mut of_new, is(WorkspacePhase::Stopped)).await?;
        until("the condition to tell of it", async || {
            let output = story.cli(&["cluster", "show", "old-1", "-o", "json"]).await?;
            ensure!(output.code == 0, "{}", output.stderr);
            let shown: serde_json::Value = serde_json::from_str(&output.stdout)?;
            let conditions = shown["status"]["conditions"].as_array().context("no conditions")?;
            let told =
                |one: &&serde_json::Value| one["type"] == "HistoryIntact" && one["reason"] == "Restored";
            ensure!(conditions.iter().any(|one| told(&one)), "{conditions:?}");
            Ok(())
        })
        .await?;

        // The one that had ended came back, and another start there shows that settling went on. It does not run: the
        // cluster's own scheduler waits for versions to come that were there before the restore.
        let resources = Api::<Workspace>::namespaced(cluster.client(), &story.namespace);
        story.available(cluster.name()).await?;
        until("the cluster to take workspaces again", async || {
            let id = format!("again-{}", uuid::Uuid::new_v4().simple());
            start(&mut client, request(&id, &["old"])).await.map(drop)
        })
        .await?;
        let back = resources.get("ended").await?;
        ensure!(back.metadata.deletion_timestamp.is_none(), "it is deleted: {back:?}");
        ensure!(describe(&mut client, "stays").await?.is_some(), "it is lost");
        let output = story.cli(&["cluster", "deregister", "old-1", "--force"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        Ok(())
    })
}

fn timeout_of(status: &spaceport::proto::wsman::WorkspaceStatus) -> String {
    status.spec.as_ref().map(|spec| spec.timeout.clone()).unwrap_or_default()
}

/// Copies the data of a cluster's etcd while nothing runs on it.
async fn set_aside(cluster: &Cluster, backup: &Path) -> Result<()> {
    cluster.stop(Part::ApiServer).await?;
    cluster.stop(Part::Etcd).await?;
    copy(&cluster.etcd().data(), backup).await?;
    cluster.start(Part::Etcd).await?;
    cluster.start(Part::ApiServer).await
}

/// Puts the copy in the place of the data.
async fn restore(cluster: &Cluster, backup: &Path) -> Result<()> {
    cluster.stop(Part::ApiServer).await?;
    cluster.stop(Part::Etcd).await?;
    let data = cluster.etcd().data();
    tokio::fs::remove_dir_all(&data).await.with_context(|| format!("cannot remove {}", data.display()))?;
    copy(backup, &data).await?;
    cluster.start(Part::Etcd).await?;
    cluster.start(Part::ApiServer).await
}

async fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = tokio::process::Command::new("cp").arg("-a").arg(from).arg(to).status().await?;
    ensure!(done.success(), "cannot copy {} to {}", from.display(), to.display());
    Ok(())
}
