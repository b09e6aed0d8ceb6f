//! The fence of a cluster over time: policies that are outdated, weakened, and deleted.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::story::{SOON, Story, story};
use e2e::harness::assets::source_dir;
use e2e::harness::fence::{as_spaceport, in_force};
use e2e::harness::spaceport::{NAMESPACE, prepare_member, prepare_namespaces};
use e2e::harness::{Cluster, ClusterOptions, Signal, until};

/// Longer than the leader's interval of checking a cluster.
const LOOKED_AT: Duration = Duration::from_secs(90);

/// The check `fence` of a cluster.
async fn check(story: &Story, which: &[&str]) -> Result<Value> {
    let all: Vec<&str> =
        ["cluster", "doctor", "-o", "json"].into_iter().chain(which.iter().copied()).collect();
    let output = story.cli(&all).await?;
    let checks: Vec<Value> = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    checks.into_iter().find(|check| check["name"] == "fence").context("no check of the fence")
}

/// Waits until doctor reports this of the fence.
async fn reported(story: &Story, cluster: &str, outcome: &str, said: &[&str]) -> Result<()> {
    until(LOOKED_AT, "doctor to report it", async || {
        let check = check(story, &[cluster]).await?;
        let text = check.to_string();
        ensure!(check["outcome"] == outcome && said.iter().all(|one| text.contains(one)), "{text}");
        Ok(())
    })
    .await
}

/// Waits until the leader can write there or cannot; returns the reason.
async fn writable(story: &Story, cluster: &str, state: &str) -> Result<String> {
    let mut message = String::new();
    until(LOOKED_AT, "the condition Writable", async || {
        let output = story.cli(&["cluster", "show", cluster, "-o", "json"]).await?;
        let shown: Value = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
        let conditions = shown["status"]["conditions"].as_array().context("no conditions")?;
        let found = conditions.iter().find(|one| one["type"] == "Writable").context("not reported")?;
        ensure!(found["state"] == state && found["reason"] != "Raising", "it is {found}");
        found["message"].as_str().unwrap_or_default().clone_into(&mut message);
        Ok(())
    })
    .await?;
    Ok(message)
}

#[test]
fn policies_of_an_earlier_version_are_told_and_installed_over_and_those_deleted_leave_stale_parameters()
-> Result<()> {
    story("policies", 1, &[], async |story| {
        let folder = story.installation.dir().join("solo-4");
        let solo = Cluster::boot(story.fleet.assets(), &folder, ClusterOptions::named("solo-4")).await?;
        let kubeconfig = prepare_member(&solo).await?;
        prepare_namespaces(&solo, &story.namespace, &story.secrets_namespace).await?;
        let file = story.installation.cluster_file("solo-4", "solo", &kubeconfig)?;
        let file = file.to_string_lossy().into_owned();
        install_over_earlier(story, &solo, &file).await?;

        let output = story.cli(&["cluster", "register", "-f", &file]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("solo-4").await?;
        writable(story, "solo-4", "TRUE").await?;
        reported(story, "solo-4", "OK", &[]).await?;

        // The leader notices that the cluster does not reject earlier epochs any more.
        delete_policies(&solo).await?;
        let said = writable(story, "solo-4", "FALSE").await?;
        ensure!(said.contains("an earlier epoch are accepted"), "{said}");
        reported(story, "solo-4", "FAILED", &["the fence is not in force", "is missing"]).await?;

        // The next leader raises a parameter that the apiserver does not follow any more.
        let replica = story.replicas.pop().context("no manager")?;
        replica.process.signal(Signal::Term).await?;
        replica.process.exited(SOON).await?;
        solo.apply_file(&source_dir().join("../clusters/member/fence.yaml")).await?;
        in_force(&solo).await?;
        let next = story.installation.start("next").await?;
        story.replicas.push(next);
        let said = writable(story, "solo-4", "FALSE").await?;
        ensure!(said.contains("cluster doctor"), "{said}");
        reported(story, "solo-4", "FAILED", &["that it saw earlier", "restart the cluster's apiservers"])
            .await?;
        solo.stop_apiserver().await?;
        solo.start_apiserver().await?;
        writable(story, "solo-4", "TRUE").await?;
        reported(story, "solo-4", "OK", &[]).await
    })
}

/// A cluster that an earlier Spaceport prepared, before `cluster install`.
async fn install_over_earlier(story: &Story, solo: &Cluster, file: &str) -> Result<()> {
    let fence = check(story, &["-f", file]).await?;
    ensure!(fence["outcome"] == "OK", "{fence}");
    let earlier = json!({ "metadata": { "annotations": { "spaceport.dev/fence-version": null } } });
    let policies = Api::<ValidatingAdmissionPolicy>::all(solo.client());
    policies.patch("spaceport-fence-parameter", &PatchParams::default(), &Patch::Merge(earlier)).await?;
    policies.delete("spaceport-fence-shown", &DeleteParams::default()).await?;
    let fence = check(story, &["-f", file]).await?;
    let text = fence.to_string();
    let said = [
        "of an earlier version of Spaceport: ValidatingAdmissionPolicy spaceport-fence-parameter",
        "ValidatingAdmissionPolicy spaceport-fence-shown is missing",
        "spaceport cluster install",
    ];
    ensure!(fence["outcome"] == "FAILED" && said.iter().all(|one| text.contains(one)), "{text}");
    let pair = format!("{}:{}", story.namespace, story.secrets_namespace);
    let admin = solo.kubeconfig().to_string_lossy().into_owned();
    let output = story.cli(&["cluster", "install", "--kubeconfig", &admin, "--namespace", &pair]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    until(SOON, "the policies to be in force", async || {
        let fence = check(story, &["-f", file]).await?;
        ensure!(fence["outcome"] == "OK", "{fence}");
        Ok(())
    })
    .await?;
    // Somebody weakens a policy.
    let weaker = json!({ "spec": { "failurePolicy": "Ignore" } });
    policies.patch("spaceport-fence", &PatchParams::default(), &Patch::Merge(weaker)).await?;
    let fence = check(story, &["-f", file]).await?;
    ensure!(fence["outcome"] == "WARNING" && fence.to_string().contains("differs"), "{fence}");
    let same = json!({ "spec": { "failurePolicy": "Fail" } });
    policies.patch("spaceport-fence", &PatchParams::default(), &Patch::Merge(same)).await?;
    Ok(())
}

async fn delete_policies(solo: &Cluster) -> Result<()> {
    let (all, now) = (ListParams::default(), DeleteParams::default());
    Api::<ValidatingAdmissionPolicyBinding>::all(solo.client()).delete_collection(&now, &all).await?;
    Api::<ValidatingAdmissionPolicy>::all(solo.client()).delete_collection(&now, &all).await?;
    let maps: Api<ConfigMap> = Api::namespaced(as_spaceport(solo, None).await?, NAMESPACE);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until(SOON, "the policies to be gone", async || {
        let mut map = ConfigMap::default();
        map.metadata.name = Some("x".to_owned());
        maps.create(&dry, &map).await?;
        Ok(())
    })
    .await
}
