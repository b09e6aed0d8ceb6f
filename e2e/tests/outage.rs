//! A cluster that goes silent and comes back: none of its workspaces is stopped or started elsewhere.

use anyhow::{Context as _, Result, ensure};
use proto::wsman::WorkspacePhase;
use serde_json::json;

use crate::adopt::deregister_by_force;
use crate::story::{Story, follow, is, request, run, start, starts_go_to, stop, story, watch};
use e2e::harness::node_agent::Pace;
use e2e::harness::spaceport::{prepare_member, prepare_namespaces};
use e2e::harness::{Cluster, ClusterOptions, NodeAgent, Part};

#[test]
fn a_silent_cluster_is_unreachable_and_not_stopped_and_comes_back_as_it_was() -> Result<()> {
    story("outage", 0, &[], async |story| {
        // Seconds instead of a minute.
        story.installation.overrides = json!({ "federation": { "health": {
            "probe": "1s", "deadline": "1s", "lostAfter": "4s", "recoverAfter": "1s",
        } } });
        let replica = story.installation.start("manager-0").await?;
        story.replicas.push(replica);
        story.register("eu-1").await?;
        let folder = story.installation.dir().join("solo-1");
        let cluster = Cluster::boot(story.fleet.assets(), &folder, ClusterOptions::named("solo-1")).await?;
        let _agent = register_private(story, &cluster, "solo").await?;

        let mut client = story.client().await?;
        let before = run(&mut client, request("there", &["solo"])).await?;
        ensure!(before.cluster == "solo-1", "it is on {}", before.cluster);
        let mut stream = watch(&mut client, "there").await?;
        cluster.pause(Part::ApiServer).await?;
        let seen = follow(&mut stream, |status| !status.reachable).await?;
        let silent = seen.last().context("nothing was seen")?;
        ensure!(silent.phase() == WorkspacePhase::Running, "it is shown as {:?}", silent.phase());
        ensure!(silent.observed_at.is_some() && silent.message.contains("solo-1"), "{silent:?}");
        let elsewhere = start(&mut client, request("elsewhere", &["solo"])).await?;
        ensure!(elsewhere.cluster == "eu-1", "it was placed on {}", elsewhere.cluster);

        cluster.resume(Part::ApiServer).await?;
        let back = follow(&mut stream, |status| status.reachable).await?;
        let back = back.last().context("nothing was seen")?;
        ensure!(back.phase() == WorkspacePhase::Running && back.cluster == "solo-1", "{back:?}");
        starts_go_to(&mut client, "solo", "solo-1").await?;
        stop(&mut client, "there").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        deregister_by_force(story, "solo-1").await
    })
}

/// Prepares a private cluster of the story and registers it in its own region.
pub async fn register_private(story: &Story, cluster: &Cluster, region: &str) -> Result<NodeAgent> {
    let kubeconfig = prepare_member(cluster).await?;
    prepare_namespaces(cluster, &story.namespace, &story.secrets_namespace).await?;
    let agent = NodeAgent::start(&cluster.client(), Pace::default());
    story.register_as(cluster.name(), region, &kubeconfig).await?;
    Ok(agent)
}
