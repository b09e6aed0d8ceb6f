//! Events about member clusters in the host cluster.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::bulkheads::behind_proxy;
use crate::secretref::{HOST, start_with_host};
use crate::story::{Story, request, run, story, until};
use e2e::harness::{Answer, Fault, Proxy, Rule};

/// Seconds instead of minutes.
fn in_a_hurry(story: &mut Story) {
    story.installation.overrides = json!({ "federation": { "health": {
        "probe": "1s", "deadline": "1s", "lostAfter": "4s", "recoverAfter": "1s", "holdDownMax": "1s",
    } } });
}

async fn events(story: &Story, cluster: &str) -> Result<Vec<Event>> {
    let api = Api::<Event>::namespaced(story.cluster(HOST)?.client(), &story.namespace);
    let of = format!("involvedObject.kind=Cluster,involvedObject.name={cluster}");
    Ok(api.list(&ListParams::default().fields(&of)).await?.items)
}

/// How often an event of the cluster was reported.
pub async fn times(story: &Story, cluster: &str, reason: &str) -> Result<i32> {
    let all = events(story, cluster).await?;
    Ok(all
        .iter()
        .filter(|event| event.reason.as_deref() == Some(reason))
        .filter_map(|event| event.count)
        .sum())
}

/// Waits until an event of the cluster was reported this many times.
pub async fn reported(story: &Story, cluster: &str, reason: &str, times: i32) -> Result<Event> {
    let mut found = None;
    until("the event", async || {
        let all = events(story, cluster).await?;
        let of_reason: Vec<&Event> =
            all.iter().filter(|event| event.reason.as_deref() == Some(reason)).collect();
        let count: i32 = of_reason.iter().filter_map(|event| event.count).sum();
        ensure!(count >= times, "{reason} was reported {count} times: {all:?}");
        found = of_reason.last().map(|event| (*event).clone());
        Ok(())
    })
    .await?;
    found.context("no event")
}

async fn cli(story: &Story, args: &[&str]) -> Result<()> {
    let output = story.cli(args).await?;
    ensure!(output.code == 0, "{args:?}: {}", output.stderr);
    Ok(())
}

#[test]
fn an_admin_sees_a_clusters_life_as_events_of_the_managers_own_cluster() -> Result<()> {
    story("hostevents", 0, &[], async |story| {
        in_a_hurry(story);
        start_with_host(story, 1, None).await?;
        let proxy = behind_proxy(story, "eu-1").await?;
        let event = reported(story, "eu-1", "ClusterRegistered", 1).await?;
        ensure!(event.type_.as_deref() == Some("Normal"), "{event:?}");
        ensure!(event.message.as_deref() == Some("cluster eu-1 was registered"), "{event:?}");

        for times in 1..=2 {
            proxy.set(Fault::Refuse).await?;
            reported(story, "eu-1", "ClusterSuspect", times).await?;
            let event = reported(story, "eu-1", "ClusterLost", times).await?;
            ensure!(event.type_.as_deref() == Some("Warning"), "{event:?}");
            proxy.heal().await?;
            reported(story, "eu-1", "ClusterAvailable", times).await?;
        }
        // Repetitions are counted on one event.
        let lost = events(story, "eu-1").await?;
        let lost = lost.iter().filter(|event| event.reason.as_deref() == Some("ClusterLost"));
        ensure!(lost.clone().count() == 1, "{:?}", lost.collect::<Vec<_>>());

        story.available("eu-1").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        cli(story, &["cluster", "cordon", "eu-1"]).await?;
        reported(story, "eu-1", "ClusterCordoned", 1).await?;
        let drain = ["cluster", "drain", "eu-1", "--deadline", "1s", "--accept-no-room", "--wait"];
        cli(story, &drain).await?;
        reported(story, "eu-1", "DrainStarted", 1).await?;
        reported(story, "eu-1", "DrainFinished", 1).await?;
        cli(story, &["cluster", "deregister", "eu-1"]).await?;
        reported(story, "eu-1", "ClusterDeregistered", 1).await.map(drop)
    })
}

#[test]
fn a_stuck_drain_and_a_later_leader_are_reported() -> Result<()> {
    story("hoststuck", 0, &[], async |story| {
        in_a_hurry(story);
        start_with_host(story, 1, None).await?;
        story.register("eu-1").await?;
        story.register("us-1").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        // It begins while there is capacity, and its workspace is due when there is none.
        cli(story, &["cluster", "drain", "eu-1"]).await?;
        cli(story, &["cluster", "cordon", "us-1"]).await?;
        cli(story, &["cluster", "drain", "eu-1", "--idle", "1ms"]).await?;
        let event = reported(story, "eu-1", "DrainStuck", 1).await?;
        ensure!(
            event.message.is_some_and(|reported| reported.contains("no other cluster has capacity")),
            "another reason"
        );

        // A new leader reports existing problems when it begins, and nothing that did not change.
        let before = events(story, "us-1").await?.len();
        let first = story.replicas.remove(0);
        first.process.stop(crate::story::SOON).await?;
        story.replicas.push(story.installation.start("manager-1").await?);
        reported(story, "eu-1", "DrainStuck", 2).await?;
        ensure!(events(story, "us-1").await?.len() == before, "an unchanged state is reported");
        let started = events(story, "eu-1").await?;
        let started = started.iter().filter(|event| event.reason.as_deref() == Some("DrainStarted"));
        ensure!(started.count() == 1, "the drain did not begin twice");
        Ok(())
    })
}

#[test]
fn a_host_that_rejects_events_changes_nothing_and_gets_them_later() -> Result<()> {
    story("hostdeaf", 0, &[], async |story| {
        in_a_hurry(story);
        let proxy = Proxy::of_cluster(story.cluster(HOST)?).await?;
        start_with_host(story, 1, Some(&proxy)).await?;
        proxy.rules(vec![Rule::of(http::Method::POST, "/namespaces/hostdeaf/events", Answer::Hold)]);
        story.register("eu-1").await?;
        proxy.held().wait_for(|held| *held > 0).await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        cli(story, &["cluster", "cordon", "eu-1"]).await?;
        proxy.heal().await?;
        reported(story, "eu-1", "ClusterRegistered", 1).await?;
        reported(story, "eu-1", "ClusterCordoned", 1).await.map(drop)
    })
}
