//! What a manager knows of its member clusters: conditions and their ages, classes as clients see them, capacity of
//! starts in flight.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use proto::spaceport::v1::GetStatusRequest;
use proto::wsman::DescribeClusterRequest;
use serde_json::{Value, json};

use crate::adopt::condition;
use crate::bounds::epoch;
use crate::etcd_outage::behind_etcd_proxy;
use crate::story::{Story, request, start, story, until};
use e2e::harness::{self, Fault};

#[test]
fn the_age_of_a_condition_counts_from_its_change_whoever_asks_and_when() -> Result<()> {
    story("ages", 1, &["eu-1"], async |story| {
        let name = "ws-manager-mk2-maintenance-mode";
        let maps: Api<ConfigMap> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
            "data": { "config.json": "nonsense" } });
        maps.patch(name, &PatchParams::apply("admin").force(), &Patch::Apply(map)).await?;
        // The point is that nobody asks meanwhile, so there is nothing to wait for.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let asked = Timestamp::now();
        let condition = condition(story, "eu-1", "MaintenanceRead").await?;
        ensure!(condition["reason"] == "Unreadable", "{condition}");
        let since: Timestamp = condition["since"].as_str().context("no age")?.parse()?;
        ensure!(asked.duration_since(since) > SignedDuration::from_secs(2), "{condition} at {asked}");
        Ok(())
    })
}

#[test]
fn classes_are_compared_with_those_that_clients_see() -> Result<()> {
    story("classes-differ", 1, &["eu-1"], async |story| {
        let file = story.installation.cluster_file("us-1", "north-america", &story.kubeconfigs["us-1"])?;
        let mut cluster: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        cluster["namespaces"][0]["classes"] = json!({ "g1-standard": {
            "name": "Standard", "description": "another one",
            "container": { "requests": { "cpu": "1", "memory": "1Gi" },
                "limits": { "memory": "1Gi", "storage": "1Gi" } } } });
        fs::write(&file, cluster.to_string())?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("us-1").await?;
        disagrees(story, "us-1", "eu-1").await?;
        let output = story.cli(&["cluster", "cordon", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let mut client = story.client().await?;
        let seen = client.describe_cluster(DescribeClusterRequest {}).await?.into_inner().workspace_classes;
        ensure!(seen.len() == 1 && seen[0].description == "another one", "{seen:?}");
        disagrees(story, "eu-1", "us-1").await?;
        // If no cluster accepts starts, clients see no class, and there is nothing to compare with.
        let output = story.cli(&["cluster", "cordon", "us-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        for name in ["eu-1", "us-1"] {
            let condition = condition(story, name, "ClassesAgree").await?;
            ensure!(condition["reason"].as_str().unwrap_or_default().is_empty(), "{name}: {condition}");
        }
        Ok(())
    })
}

/// The first cluster differs in a class from the other, which clients see; the other agrees.
async fn disagrees(story: &Story, one: &str, other: &str) -> Result<()> {
    let conflict = condition(story, one, "ClassesAgree").await?;
    let message = conflict["message"].as_str().unwrap_or_default();
    let expected = format!("class g1-standard is another one on {other}");
    ensure!(conflict["reason"] == "ClassConflict" && message == expected, "{one}: {conflict}");
    let agrees = condition(story, other, "ClassesAgree").await?;
    ensure!(agrees["reason"].as_str().unwrap_or_default().is_empty(), "{other}: {agrees}");
    Ok(())
}

#[test]
fn a_start_that_is_cancelled_before_it_is_recorded_holds_no_capacity() -> Result<()> {
    story("cancelled-start", 0, &[], async |story| {
        let proxy = behind_etcd_proxy(story).await?;
        let mut client = story.client().await?;
        until("a start", async || {
            start(&mut client, request("before", &[])).await?;
            Ok(())
        })
        .await?;
        settled(story).await?;
        let before = epoch(story).await?;
        proxy.set(Fault::BlackHole).await?;
        let cancelled =
            tokio::time::timeout(Duration::from_secs(1), client.start_workspace(request("ws", &[]))).await;
        ensure!(cancelled.is_err(), "it was answered without etcd: {cancelled:?}");
        // What was held back must not arrive: etcd may record a start whose caller is gone.
        proxy.reset();
        proxy.heal().await?;
        settled(story).await?;
        // A new term would release everything.
        ensure!(epoch(story).await? == before, "another term began");
        Ok(())
    })
}

/// Waits until no workspace holds capacity without a node, for less time than a record without a resource is kept.
async fn settled(story: &Story) -> Result<()> {
    let mut clusters = story.installation.clusters(&story.replicas[0]).await?;
    harness::until(Duration::from_secs(15), "no capacity to be reserved", async || {
        let answer = clusters.get_status(GetStatusRequest {}).await?.into_inner();
        let capacity = answer.clusters.first().and_then(|cluster| cluster.capacity.as_ref());
        let waiting = capacity.context("no cluster")?.waiting;
        ensure!(waiting == 0, "{waiting} workspaces wait");
        Ok(())
    })
    .await
}
