//! What a policy of the cluster denies or changes about the pods of workspaces: the message names it at once, and the
//! workspace goes on when the policy is gone.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use proto::wsman::{WorkspaceConditionBool, WorkspacePhase};
use serde_json::{Value, json};

use crate::story::{Story, follow, is, request, run, start, stop, story, until, watch};

/// Constraints of a policy that match an operation on pods.
fn pods_on(operation: &str) -> Value {
    json!({ "resourceRules": [{
        "apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": ["pods"],
    }] })
}

/// The part of a binding that names the story's namespace.
fn here(story: &Story) -> Value {
    json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": story.namespace } } })
}

/// The apiserver denies an operation on the story's pods in eu-1; the policy's name.
async fn deny(story: &Story, operation: &str) -> Result<String> {
    let client = story.cluster("eu-1")?.client();
    let name = format!("deny-{}-{}", operation.to_lowercase(), story.namespace);
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "matchConstraints": pods_on(operation),
            "validations": [{ "expression": "false", "message": "nobody may" }] },
    }))?;
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"], "matchResources": here(story) },
    }))?;
    Api::all(client.clone()).create(&PostParams::default(), &policy).await?;
    Api::all(client).create(&PostParams::default(), &binding).await?;
    Ok(name)
}

async fn allow(story: &Story, name: &str) -> Result<()> {
    let client = story.cluster("eu-1")?.client();
    let params = DeleteParams::default();
    Api::<ValidatingAdmissionPolicyBinding>::all(client.clone()).delete(name, &params).await?;
    Api::<ValidatingAdmissionPolicy>::all(client).delete(name, &params).await?;
    Ok(())
}

#[test]
fn a_denied_deletion_of_a_pod_is_named_and_the_stop_goes_on_with_its_backup_once_it_is_allowed() -> Result<()>
{
    story("deny-delete", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let policy = deny(story, "DELETE").await?;
        let trial = DeleteParams { dry_run: true, ..DeleteParams::default() };
        until("the policy to be in force", async || {
            ensure!(pods.delete("ws-ws", &trial).await.is_err(), "it is not");
            Ok(())
        })
        .await?;
        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        let told = format!(
            "Stopped on request. The cluster refuses to delete its pod ws-ws: ValidatingAdmissionPolicy {policy} denied it"
        );
        let seen = follow(&mut stream, |status| status.message.starts_with(&told)).await?;
        ensure!(seen.iter().all(|status| status.phase() != WorkspacePhase::Stopped), "it is over");
        let shown = story.cli(&["workspace", "show", "ws", "-o", "json"]).await?;
        ensure!(shown.code == 0 && shown.stdout.contains(&told), "{}{}", shown.stdout, shown.stderr);
        let resource = story.resources("eu-1")?.get("ws").await?.status.context("no status")?;
        ensure!(resource.is_true("WriteRefused") && resource.pod_stopping_time.is_none(), "{resource:?}");
        let there = pods.get("ws-ws").await?;
        ensure!(there.metadata.deletion_timestamp.is_none(), "it is being deleted");

        allow(story, &policy).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let last = seen.last().context("nothing was seen")?;
        ensure!(!last.message.contains("refuses") && last.held.is_empty(), "{last:?}");
        let saved = last.conditions.as_ref().context("no conditions")?.final_backup_complete();
        ensure!(saved == WorkspaceConditionBool::True, "it was stopped without its backup");
        Ok(())
    })
}

#[test]
fn a_denied_removal_of_a_pods_finalizer_is_named_by_a_stop_that_waits() -> Result<()> {
    story("deny-update", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let policy = deny(story, "UPDATE").await?;
        let mut stream = watch(&mut client, "ws").await?;
        // The policy is in force a moment after it was created.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let stopped = story.cli(&["workspace", "stop", "ws", "--wait"]).await?;
        let told = "The cluster refuses to remove the finalizer gitpod.io/finalizer from its pod ws-ws: \
                    ValidatingAdmissionPolicy";
        ensure!(stopped.code == 0 && stopped.stderr.contains(told), "{}{}", stopped.stdout, stopped.stderr);
        allow(story, &policy).await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        until("the resource to go", async || {
            ensure!(story.resources("eu-1")?.get_opt("ws").await?.is_none(), "it is there");
            Ok(())
        })
        .await
    })
}

/// The apiserver renames the first container of every pod of the story, as a mutating webhook may.
async fn rename_container(story: &Story) -> Result<()> {
    let (client, params) = (story.cluster("eu-1")?.client(), PostParams::default());
    let name = format!("rename-{}", story.namespace);
    let expression = r#"[JSONPatch{op: "replace", path: "/spec/containers/0/name", value: "renamed"}]"#;
    let policy: MutatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": pods_on("CREATE"),
            "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": expression } }],
        },
    }))?;
    let binding: MutatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": { "name": name }, "spec": { "policyName": name, "matchResources": here(story) },
    }))?;
    Api::all(client.clone()).create(&params, &policy).await?;
    Api::all(client.clone()).create(&params, &binding).await?;
    let pods: Api<Pod> = Api::namespaced(client, &story.namespace);
    until("the policy to be in force", async || {
        let pod = serde_json::from_value(json!({
            "metadata": { "name": "trial" }, "spec": { "containers": [{ "name": "workspace", "image": "i" }] },
        }))?;
        let made = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await?;
        let spec = made.spec.context("no spec")?;
        ensure!(spec.containers.iter().all(|one| one.name == "renamed"), "{:?}", spec.containers);
        Ok(())
    })
    .await
}

#[test]
fn a_pod_whose_container_was_renamed_fails_at_once_with_the_names_that_it_has() -> Result<()> {
    story("renamed-container", 1, &["eu-1"], async |story| {
        rename_container(story).await?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, request("ws", &[])).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let failed = &seen.last().and_then(|last| last.conditions.as_ref()).context("no conditions")?.failed;
        ensure!(failed.starts_with("its pod ws-ws has no container workspace, but renamed"), "{failed}");
        Ok(())
    })
}
