//! Clusters without the fence: the login itself must hold the rights, and missing ones are reported.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::story::{Story, request, run, story};
use e2e::harness::until;

/// Longer than the leader's interval of checking a cluster.
const LOOKED_AT: Duration = Duration::from_secs(90);

/// The cluster file of a story, with the fence off.
fn unfenced(story: &Story, name: &str, kubeconfig: &std::path::Path) -> Result<PathBuf> {
    let path = story.installation.cluster_file(name, "europe", kubeconfig)?;
    let mut file: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    file["fence"] = json!("off");
    fs::write(&path, file.to_string())?;
    Ok(path)
}

/// Waits for the state and reason of the condition Writable.
async fn writable(story: &Story, cluster: &str, state: &str, reason: &str) -> Result<()> {
    until(LOOKED_AT, "the condition Writable", async || {
        let output = story.cli(&["cluster", "show", cluster, "-o", "json"]).await?;
        let shown: Value = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
        let conditions = shown["status"]["conditions"].as_array().context("no conditions")?;
        let found = conditions.iter().find(|one| one["type"] == "Writable").context("no such condition")?;
        ensure!(found["state"] == state && found["reason"] == reason, "it is {found}");
        Ok(())
    })
    .await
}

#[test]
fn a_login_that_can_only_impersonate_is_refused_without_the_fence_at_registration_and_at_an_update()
-> Result<()> {
    story("off-refused", 1, &["eu-1"], async |story| {
        let login = &story.kubeconfigs["us-1"];
        let file = unfenced(story, "us-1", login)?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code != 0, "it was registered");
        let said = "may only act as user spaceport";
        ensure!(
            output.stderr.contains(said) && output.stderr.contains("fence: enforced"),
            "{}",
            output.stderr
        );

        let file = unfenced(story, "eu-1", &story.kubeconfigs["eu-1"])?;
        let output = story.cli(&["cluster", "update", "eu-1", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code != 0 && output.stderr.contains(said), "{}{}", output.stdout, output.stderr);
        writable(story, "eu-1", "TRUE", "").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        Ok(())
    })
}

#[test]
fn a_cluster_without_the_fence_is_writable_only_while_its_login_may_write() -> Result<()> {
    story("off-rights", 1, &[], async |story| {
        let cluster = story.cluster("us-1")?;
        let login = cluster.user_kubeconfig("off-rights-login", &[])?;
        let subjects =
            json!([{ "kind": "User", "name": "off-rights-login", "apiGroup": "rbac.authorization.k8s.io" }]);
        let bound = |kind: &str, role: &str| {
            json!({
                "metadata": { "name": format!("off-rights-{role}") }, "subjects": subjects,
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            })
        };
        let everywhere = Api::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>::all(cluster.client());
        for role in ["spaceport", "spaceport-capacity"] {
            everywhere
                .create(&PostParams::default(), &serde_json::from_value(bound("ClusterRole", role))?)
                .await?;
        }
        let role: RoleBinding = serde_json::from_value(bound("Role", "spaceport"))?;
        let secrets = Api::<RoleBinding>::namespaced(cluster.client(), &story.secrets_namespace);
        for namespace in [&story.namespace, &story.secrets_namespace] {
            let there = Api::<RoleBinding>::namespaced(cluster.client(), namespace);
            there.create(&PostParams::default(), &role).await?;
        }
        let file = unfenced(story, "us-1", &login)?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("us-1").await?;
        writable(story, "us-1", "TRUE", "").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;

        secrets.delete("off-rights-spaceport", &DeleteParams::default()).await?;
        writable(story, "us-1", "FALSE", "Refused").await?;
        secrets.create(&PostParams::default(), &role).await?;
        writable(story, "us-1", "TRUE", "").await?;
        for role in ["spaceport", "spaceport-capacity"] {
            everywhere.delete(&format!("off-rights-{role}"), &DeleteParams::default()).await?;
        }
        Ok(())
    })
}
