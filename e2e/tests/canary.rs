//! The canary: a Lease in each cluster by which the leader checks that writes are accepted and that watches show them.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;

use crate::bulkheads::behind_proxy;
use crate::story::{Story, request, run, story, until};
use e2e::harness::spaceport::get;
use e2e::harness::{Answer, Rule};

const NAME: &str = "spaceport-canary";

#[test]
fn a_cluster_that_answers_and_takes_no_writes_gets_no_new_workspaces_until_it_does() -> Result<()> {
    story("canary", 0, &[], async |story| {
        story.installation.overrides = json!({ "federation": { "health": { "canary": "1s" } } });
        for name in ["manager-0", "manager-1"] {
            story.replicas.push(story.installation.start(name).await?);
        }
        story.register("us-1").await?;
        let proxy = behind_proxy(story, "eu-1").await?;

        condition(story, "True", "").await?;
        let leases = Api::<Lease>::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let renewed = async || -> Result<_> {
            let spec = leases.get(NAME).await?.spec.context("a Lease without a spec")?;
            ensure!(spec.holder_identity.is_some_and(|holder| holder.split('/').count() == 3), "no epoch");
            spec.renew_time.context("it is not renewed")
        };
        let first = renewed().await?;
        until("it to be renewed again", async || {
            ensure!(renewed().await? > first, "it was renewed last at {first:?}");
            Ok(())
        })
        .await?;
        let leader = story.leader().await?;
        let leader = story.replicas.iter().find(|one| one.name == leader).context("no leader")?;
        let metrics = get(&format!("{}/metrics", leader.health)).await?;
        ensure!(metrics.contains("spaceport_cluster_canary_seconds{cluster=\"eu-1\"}"), "{metrics}");

        // Reads work, and no write is accepted.
        let write = |call: &http::request::Parts| call.method == Method::PATCH || call.method == Method::PUT;
        proxy.rules(vec![Rule::new(write, Answer::Status(500))]);
        condition(story, "False", "NotWritten").await?;
        story.available("eu-1").await?;
        let mut client = story.client().await?;
        let elsewhere = run(&mut client, request("elsewhere", &["europe"])).await?;
        ensure!(elsewhere.cluster == "us-1", "it is on {}", elsewhere.cluster);

        proxy.heal().await?;
        condition(story, "True", "").await?;
        let there = run(&mut client, request("there", &["europe"])).await?;
        ensure!(there.cluster == "eu-1", "it is on {}", there.cluster);
        Ok(())
    })
}

/// Waits until every replica reports this state and reason of the condition: the leader its own, the other the leader's
/// note.
async fn condition(story: &Story, state: &str, reason: &str) -> Result<()> {
    let leader = story.leader().await?;
    for replica in &story.replicas {
        until("the condition CanarySeen to change", async || {
            let show = ["cluster", "show", "eu-1", "-o", "json"];
            let output = story.installation.cli(&[replica], &show).await?;
            ensure!(output.code == 0, "{}", output.stderr);
            let cluster: serde_json::Value = serde_json::from_str(&output.stdout)?;
            let conditions = cluster["status"]["conditions"].as_array().context("no conditions")?;
            let reported =
                |kind: &str| conditions.iter().find(|one| one["type"] == kind).context("no such condition");
            let (canary, writable) = (reported("CanarySeen")?, reported("Writable")?);
            let shown = canary["state"].as_str().unwrap_or_default();
            let same = shown.eq_ignore_ascii_case(state) && canary["reason"] == reason;
            ensure!(same, "it is {canary} at {}", replica.name);
            ensure!(writable["state"] == "TRUE", "it is {writable} at {}", replica.name);
            let noted =
                canary["message"].as_str().is_some_and(|text| text.starts_with("as the leader saw it at"));
            ensure!(noted == (replica.name != leader), "{canary} at {}", replica.name);
            Ok(())
        })
        .await?;
    }
    Ok(())
}
