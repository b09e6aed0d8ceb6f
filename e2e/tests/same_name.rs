//! Resources under the name of a record that belong to another start: they are not taken for the record's, and no start
//! is carried out twice.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use kube::api::PostParams;
use proto::wsman::WorkspacePhase;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use crate::adopt::{by_hand, reported, standing, vanish};
use crate::bulkheads::behind_proxy;
use crate::killed::refused_what_came_late;
use crate::story::{SOON, describe, follow, is, refused, request, run, start, stop, story, until, watch};
use e2e::harness::{Answer, Rule};

#[test]
fn a_start_that_was_cut_off_is_not_confirmed_by_another_resource_of_its_name() -> Result<()> {
    story("same-name", 2, &[], async |story| {
        let proxy = behind_proxy(story, "eu-1").await?;
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let doomed = story.replicas.remove(at);
        let mut client = story.client().await?;
        let creation = |call: &http::request::Parts| {
            call.method == Method::POST && call.uri.path().ends_with("/namespaces/same-name/workspaces")
        };
        proxy.rules(vec![Rule::new(creation, Answer::Late)]);
        let mut injected = proxy.injected();
        let (mut caller, asked) = (client.clone(), request("ws", &[]));
        let first = tokio::spawn(async move { caller.start_workspace(asked).await });
        timeout(SOON, injected.wait_for(|count| *count > 0)).await.context("it is not created")??;
        doomed.process.kill().await?;
        proxy.rules(Vec::new());
        let first = timeout(SOON, first).await.context("the call hangs")??;
        ensure!(first.is_err(), "it was answered: {first:?}");

        story.resources("eu-1")?.create(&PostParams::default(), &by_hand("ws", "spaceport")?).await?;
        until("the difference to be seen", async || {
            let found = standing(story, "eu-1", "ws").await?;
            ensure!(found == "DIFFERENT", "it is {found}");
            Ok(())
        })
        .await?;
        ensure!(describe(&mut client, "ws").await?.is_none(), "it is taken for the workspace");
        until("the next leader to find the name taken", async || {
            let status = refused(client.start_workspace(request("ws", &[])).await, Code::Unavailable)?;
            ensure!(status.message().contains("another workspace of this name"), "{}", status.message());
            Ok(())
        })
        .await?;
        refused_what_came_late(&proxy, 1).await?;

        let done = reported(story, &["discard", "eu-1", "ws", "--force"]).await?;
        ensure!(done[0]["outcome"] == "DISCARDED", "{done}");
        let mut stream = watch(&mut client, "ws").await?;
        until("the start to be repeated", async || start(&mut client, request("ws", &[])).await.map(drop))
            .await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        Ok(())
    })
}

#[test]
fn a_repeated_start_never_makes_a_workspace_again_that_is_gone() -> Result<()> {
    story("not-again", 1, &[], async |story| {
        let proxy = behind_proxy(story, "eu-1").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let replica = story.replicas.pop().context("no manager")?;
        replica.process.stop(SOON).await?;
        vanish(story, "eu-1", "ws").await?;
        // So the next leader cannot settle that it does not exist.
        proxy.rules(vec![Rule::of(Method::GET, "/workspaces/ws", Answer::Status(500))]);
        story.replicas.push(story.installation.start("manager-1").await?);
        let mut client = story.client().await?;
        until("the cluster to be written to", async || {
            start(&mut client, request("other", &[])).await.map(drop)
        })
        .await?;
        let status = refused(client.start_workspace(request("ws", &[])).await, Code::Unavailable)?;
        ensure!(story.resources("eu-1")?.get_opt("ws").await?.is_none(), "it was made again: {status:?}");
        proxy.rules(Vec::new());
        let status = refused(client.start_workspace(request("ws", &[])).await, Code::AlreadyExists)?;
        ensure!(status.message().contains("it has ended"), "{}", status.message());
        ensure!(story.resources("eu-1")?.get_opt("ws").await?.is_none(), "it was made again");
        Ok(())
    })
}

#[test]
fn a_start_waits_until_a_clusters_nodes_and_all_pods_are_known_and_is_told_to_come_again_where_that_takes_too_long()
-> Result<()> {
    story("nodes-later", 0, &[], async |story| {
        story.installation.overrides = json!({ "federation": { "placement": { "deadline": "2s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let proxy = behind_proxy(story, "eu-1").await?;
        // Without the pods of others, nodes look emptier than they are.
        for unlisted in ["/api/v1/pods", "/api/v1/nodes"] {
            let replica = story.replicas.pop().context("no manager")?;
            replica.process.stop(SOON).await?;
            proxy.rules(vec![Rule::of(Method::GET, unlisted, Answer::Hold)]);
            story.replicas.push(story.installation.start(&format!("manager-{}", unlisted.len())).await?);
            let mut client = story.client().await?;
            let status = refused(client.start_workspace(request("early", &[])).await, Code::Unavailable)?;
            let text = "eu-1 has not listed its nodes and pods yet";
            ensure!(status.message().contains(text), "{}", status.message());
        }
        let mut client = story.client().await?;
        let (mut caller, asked) = (client.clone(), request("patient", &[]));
        let patient = tokio::spawn(async move { caller.start_workspace(asked).await });
        proxy.rules(Vec::new());
        let answer = timeout(SOON, patient).await.context("the call hangs")??;
        ensure!(answer?.into_inner().cluster == "eu-1", "it is elsewhere");
        let mut stream = watch(&mut client, "patient").await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        stop(&mut client, "patient").await
    })
}
