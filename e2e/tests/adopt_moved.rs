//! A cluster that is registered again under another name, and one that moves from one installation of Spaceport to
//! another.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use proto::wsman::{WorkspaceConditionBool, WorkspacePhase};
use serde_json::json;

use crate::adopt::{deregister_by_force, not_done, pods, reported, standing, vanish};
use crate::story::{Story, describe, follow, is, request, run, start, stop, story, until, watch};
use e2e::harness::spaceport::{Installation, get};

/// Registers the story's `eu-1` under a name; returns output and exit code.
async fn register_as(story: &Story, name: &str) -> Result<e2e::harness::spaceport::Output> {
    story.try_to_register(name, "europe", &story.kubeconfigs["eu-1"]).await
}

/// Output of a registration that is rejected.
async fn not_registered(story: &Story, name: &str) -> Result<String> {
    let output = register_as(story, name).await?;
    ensure!(output.code == 1, "it was registered: {}", output.stdout);
    Ok(output.stderr)
}

#[test]
fn a_cluster_registered_again_under_another_name_takes_its_records_along() -> Result<()> {
    story("renamed", 2, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let before = run(&mut client, request("kept", &[])).await?;
        let first = start(&mut client, request("kept", &[])).await?;
        run(&mut client, request("lost", &[])).await?;
        deregister_by_force(story, "eu-1").await?;
        vanish(story, "eu-1", "lost").await?;
        let output = register_as(story, "eu-2").await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("eu-2").await?;
        for id in ["kept", "lost"] {
            ensure!(standing(story, "eu-2", id).await? == "LEFT", "{id}");
        }
        ensure!(describe(&mut client, "kept").await?.is_none(), "it is shown before its record moved");
        let plan = reported(story, &["adopt", "eu-2"]).await?;
        for at in [0, 1] {
            ensure!(plan[at]["outcome"] == "PLANNED" && plan[at]["moves"] == true, "{plan}");
            ensure!(plan[at]["elsewhere"] == "eu-1/renamed", "{plan}");
        }
        ensure!(standing(story, "eu-2", "kept").await? == "LEFT", "the plan was carried out");
        let done = reported(story, &["adopt", "eu-2", "--yes"]).await?;
        ensure!(
            done.as_array().is_some_and(|all| all.iter().all(|one| one["outcome"] == "ADOPTED")),
            "{done}"
        );

        let mut kept = watch(&mut client, "kept").await?;
        let seen = follow(&mut kept, is(WorkspacePhase::Running)).await?;
        let seen = seen.last().context("no update arrived")?;
        ensure!(
            seen.cluster == "eu-2" && seen.status_version >= before.status_version,
            "{before:?} {seen:?}"
        );
        let again = start(&mut client, request("kept", &[])).await?;
        ensure!(again.cluster == "eu-2", "it is on {}", again.cluster);
        ensure!(again.url == first.url && again.owner_token == first.owner_token, "another answer");
        until("what is gone to have ended", async || {
            // Its long-lived id is free again.
            let mut next = request("next", &[]);
            next.metadata.as_mut().context("no metadata")?.meta_id = "meta-lost".to_owned();
            start(&mut client, next).await.map(drop)
        })
        .await?;
        let said = not_done(story, &["diff", "eu-1"]).await?;
        ensure!(said.contains("NOT_FOUND"), "{said}");
        stop(&mut client, "kept").await?;
        follow(&mut kept, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}

/// Another installation for the same clusters and namespaces, without managers yet.
fn beside(story: &Story) -> Result<Story> {
    let name = format!("{}-other", story.namespace);
    let installation = Installation::apart(
        story.fleet.assets(),
        &story.fleet.dir().join(&name),
        story.fleet.etcd(),
        &format!("/spaceport/{name}/"),
        (&story.namespace, &story.secrets_namespace),
    )?;
    Ok(Story {
        fleet: story.fleet,
        kubeconfigs: story.kubeconfigs,
        installation,
        replicas: Vec::new(),
        namespace: story.namespace.clone(),
        secrets_namespace: story.secrets_namespace.clone(),
    })
}

async fn id_of(story: &Story) -> Result<String> {
    let output = story.cli(&["cluster", "leader", "-o", "json"]).await?;
    let answer: serde_json::Value = serde_json::from_str(&output.stdout)?;
    Ok(answer["installation"].as_str().context("no installation")?.to_owned())
}

/// Releases the namespaces, as an admin of the cluster does.
async fn release(story: &Story) -> Result<()> {
    for namespace in [&story.namespace, &story.secrets_namespace] {
        let maps = Api::<ConfigMap>::namespaced(story.cluster("eu-1")?.client(), namespace);
        let note =
            Patch::Merge(json!({ "metadata": { "annotations": { "spaceport.dev/release": "true" } } }));
        maps.patch("spaceport-fence", &PatchParams::default(), &note).await?;
        maps.delete("spaceport-fence", &DeleteParams::default()).await?;
    }
    Ok(())
}

/// Whether the metrics of an installation with one manager count the workspace.
async fn counts(story: &Story) -> Result<bool> {
    let replica = story.replicas.first().context("no manager")?;
    let metrics = get(&format!("{}/metrics", replica.health)).await?;
    let phases: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("gitpod_ws_manager_mk2_workspace_phase_total{"))
        .collect();
    let running = phases.iter().any(|line| line.contains("phase=\"Running\"") && line.ends_with(" 1"));
    ensure!(running || phases.is_empty(), "{phases:?}");
    Ok(running)
}

/// Waits for the time that must pass after the last renewal of the canary.
async fn let_the_canary_age(story: &Story) -> Result<()> {
    let leases = Api::<Lease>::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let renewed = Patch::Merge(json!({ "spec": { "renewTime": format!("{long_ago:.6}") } }));
    leases.patch("spaceport-canary", &PatchParams::default(), &renewed).await?;
    Ok(())
}

#[test]
fn a_cluster_goes_from_one_installation_to_another_once_the_first_is_out_of_it_and_not_before() -> Result<()>
{
    story("handed-over", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let before = run(&mut client, request("ws", &[])).await?;
        let pod = pods(story, "ws").await?.1.pop().context("no pod")?;
        let theirs = id_of(story).await?;
        let mut other = beside(story)?;
        other.replicas.push(other.installation.start("other-0").await?);

        let said = not_registered(&other, "eu-1").await?;
        ensure!(said.contains(&format!("is held by the installation {theirs}")), "{said}");
        deregister_by_force(story, "eu-1").await?;
        release(story).await?;
        // Its leader may be writing without the fence.
        let said = not_registered(&other, "eu-1").await?;
        ensure!(
            said.contains(&format!("a leader of the installation {theirs} of Spaceport may be")),
            "{said}"
        );
        let_the_canary_age(story).await?;
        other.register("eu-1").await?;
        ensure!(standing(&other, "eu-1", "ws").await? == "OTHER_INSTALLATION", "its standing is wrong");
        let mut there = other.client().await?;
        ensure!(describe(&mut there, "ws").await?.is_none(), "it is shown");
        ensure!(!counts(&other).await?, "the workspace of another installation is counted");
        let said = not_done(&other, &["adopt", "eu-1", "ws", "--yes"]).await?;
        ensure!(said.contains(&format!("--installation {theirs} takes such workspaces over")), "{said}");
        let said = not_done(&other, &["discard", "eu-1", "ws", "--force"]).await?;
        ensure!(said.contains("is never discarded"), "{said}");

        let plan = reported(&other, &["adopt", "eu-1", "--installation", &theirs]).await?;
        ensure!(plan[0]["outcome"] == "PLANNED" && plan[0]["takesOver"] == true, "{plan}");
        let done = reported(&other, &["adopt", "eu-1", "--installation", &theirs, "--yes"]).await?;
        ensure!(done[0]["outcome"] == "ADOPTED", "{done}");
        let now = pods(story, "ws").await?.1;
        ensure!(now.len() == 1 && now[0].metadata.uid == pod.metadata.uid, "its pod was recreated");
        let mut stream = watch(&mut there, "ws").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        let seen = seen.last().context("nothing was seen")?;
        ensure!(seen.status_version >= before.status_version, "{before:?} {seen:?}");
        let token = |status: &proto::wsman::WorkspaceStatus| {
            status.auth.as_ref().map(|auth| auth.owner_token.clone()).unwrap_or_default()
        };
        ensure!(!token(seen).is_empty() && token(seen) == token(&before), "its owner is locked out");

        ensure!(counts(&other).await?, "what was taken over is not counted");
        // The first installation still has its records, and does not get the cluster back by itself.
        ensure!(standing(story, "eu-1", "ws").await? == "LEFT", "it was forgotten");
        let said = not_registered(story, "eu-1").await?;
        ensure!(said.contains(&format!("is held by the installation {}", id_of(&other).await?)), "{said}");
        stop(&mut there, "ws").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "stopped without its backup");
        Ok(())
    })
}
