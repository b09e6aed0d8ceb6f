//! Several workspace namespaces in one cluster.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use k8s::resources::Workspace;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use proto::wsman::{StartWorkspaceRequest, WorkspacePhase};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::adopt::{by_hand, reported};
use crate::story::{Story, describe, follow, is, refused, request, run, stop, story, until, watch};
use e2e::harness::spaceport::prepare_namespaces;

/// A request for a namespace.
pub fn within(namespace: &str, id: &str) -> Result<StartWorkspaceRequest> {
    let mut request = request(id, &[]);
    let spec = request.spec.as_mut().context("no spec")?;
    spec.placement.as_mut().context("no placement")?.namespace = namespace.into();
    Ok(request)
}

/// Registers a cluster with the story's namespace and a second one; returns the second.
pub async fn register_both(story: &Story) -> Result<String> {
    let second = format!("{}-b", story.namespace);
    let secrets = format!("{second}-secrets");
    prepare_namespaces(story.cluster("eu-1")?, &second, &secrets).await?;
    let kubeconfig = story.kubeconfigs.get("eu-1").context("no such cluster")?;
    let path = story.installation.cluster_file("eu-1", "europe", kubeconfig)?;
    let mut file: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    let namespaces = file["namespaces"].as_array_mut().context("no namespaces in the file")?;
    namespaces.push(json!({ "namespace": second, "secretsNamespace": secrets }));
    fs::write(&path, file.to_string())?;
    let output = story.cli(&["cluster", "register", "-f", &path.to_string_lossy()]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    story.available("eu-1").await?;
    Ok(second)
}

#[test]
fn the_same_id_in_another_namespace_is_reported_and_hides_nothing() -> Result<()> {
    story("same-spaces", 1, &[], async |story| {
        let second = register_both(story).await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let kube = story.cluster("eu-1")?.client();
        let there = Api::<Workspace>::namespaced(kube, &second);
        there.create(&PostParams::default(), &by_hand("ws", "spaceport")?).await?;
        until("it to be reported", async || {
            let diff = reported(story, &["diff", "eu-1", "--all"]).await?;
            let rows = diff["workspaces"].as_array().context("no rows")?;
            let found: Vec<_> = rows.iter().map(|row| (&row["namespace"], &row["standing"])).collect();
            let expected =
                [(&json!("same-spaces"), &json!("ADOPTED")), (&json!(second), &json!("ELSEWHERE"))];
            ensure!(found == expected, "{diff}");
            Ok(())
        })
        .await?;
        let seen = describe(&mut client, "ws").await?.context("it is hidden")?;
        ensure!(seen.namespace == story.namespace && seen.phase() == WorkspacePhase::Running, "{seen:?}");
        let mut stream = watch(&mut client, "ws").await?;
        let done = reported(story, &["discard", "eu-1", "ws", "--namespace", &second, "--force"]).await?;
        ensure!(done[0]["outcome"] == "DISCARDED", "{done}");
        until("it to be gone", async || {
            ensure!(there.get_opt("ws").await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        ensure!(seen.iter().all(|status| status.namespace == story.namespace), "{seen:?}");
        ensure!(describe(&mut client, "ws").await?.is_some(), "it ended with the other one");
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}

#[test]
fn a_request_lands_in_the_namespace_it_names_and_an_unknown_one_is_refused() -> Result<()> {
    story("two-spaces", 1, &[], async |story| {
        let second_space = register_both(story).await?;
        let mut client = story.client().await?;
        let first = run(&mut client, request("first", &[])).await?;
        ensure!(first.namespace == story.namespace, "it is in {}", first.namespace);
        let second = run(&mut client, within(&second_space, "second")?).await?;
        ensure!(second.namespace == second_space, "it is in {}", second.namespace);
        let kube = story.cluster("eu-1")?.client();
        Api::<Workspace>::namespaced(kube.clone(), &second_space)
            .get("second")
            .await
            .context("the resource")?;
        Api::<Pod>::namespaced(kube.clone(), &second_space).get("ws-second").await.context("the pod")?;
        let here = story.resources("eu-1")?.get_opt("second").await?;
        ensure!(here.is_none(), "it is in the first namespace too");

        let outcome = client.start_workspace(within("nowhere", "third")?).await;
        let status = refused(outcome, Code::FailedPrecondition)?;
        ensure!(status.message().contains("has no namespace nowhere"), "{}", status.message());
        let details = status.get_details_precondition_failure().context("no details")?;
        ensure!(details.violations.iter().any(|violation| violation.subject == "eu-1"), "{details:?}");

        let mut stream = watch(&mut client, "second").await?;
        stop(&mut client, "second").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let still = story.resources("eu-1")?.get_opt("first").await?;
        ensure!(still.is_some(), "the other namespace's workspace went too");
        Ok(())
    })
}
