//! The fence: a cluster's own apiserver rejects writes of an earlier leader.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use domain::epoch::Epoch;
use k8s::resources::Workspace;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use proto::wsman::WorkspacePhase;
use serde_json::json;

use crate::story::{SOON, Story, describe, request, run, start, stop, story, until};
use e2e::harness::fence::as_spaceport;
use e2e::harness::spaceport::{Installation, prepare_member, prepare_namespaces};
use e2e::harness::{Cluster, ClusterOptions, Etcd, EtcdOptions, Part, Signal};

/// The parameter's name.
const FENCE: &str = "spaceport-fence";

#[test]
fn the_apiserver_itself_refuses_what_shows_no_epoch_or_an_earlier_one() -> Result<()> {
    story("fenced", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let cluster = story.cluster("eu-1")?;
        let epoch = held(cluster, &story.namespace).await?;
        ensure!(held(cluster, &story.secrets_namespace).await? == epoch, "the namespaces differ");
        let other = Epoch { installation: uuid::Uuid::new_v4(), ..epoch };
        let shown = [None, Some(epoch.before().to_string()), Some(other.to_string()), Some("9".to_owned())];
        for shown in shown {
            refuses_everything(cluster, story, shown.as_deref()).await?;
        }
        let now = as_spaceport(cluster, Some(&epoch.to_string())).await?;
        let workspaces: Api<Workspace> = Api::namespaced(now, &story.namespace);
        let note = json!({ "metadata": { "annotations": { "note": "now" } } });
        workspaces.patch("ws", &PatchParams::default(), &Patch::Merge(note)).await?;
        stop(&mut client, "ws").await
    })
}

/// Create, patch, patch of a status, delete: in both namespaces, all rejected by the policy.
async fn refuses_everything(cluster: &Cluster, story: &Story, shown: Option<&str>) -> Result<()> {
    let client = as_spaceport(cluster, shown).await?;
    let (namespace, secrets) = (story.namespace.as_str(), story.secrets_namespace.as_str());
    let workspaces: Api<Workspace> = Api::namespaced(client.clone(), namespace);
    let (params, note) = (PatchParams::default(), json!({ "metadata": { "annotations": { "note": "x" } } }));
    let status = json!({ "status": { "ownerToken": "x" } });
    refused(workspaces.patch("ws", &params, &Patch::Merge(&note)).await, shown)?;
    refused(workspaces.patch_status("ws", &params, &Patch::Merge(&status)).await, shown)?;
    refused(workspaces.delete("ws", &DeleteParams::default()).await, shown)?;
    let mut copy = workspaces.get("ws").await?;
    copy.metadata =
        kube::api::ObjectMeta { name: Some("copy".to_owned()), ..kube::api::ObjectMeta::default() };
    refused(workspaces.create(&PostParams::default(), &copy).await, shown)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = pods.list(&ListParams::default()).await?.items.pop().context("no pod")?;
    refused(pods.delete(&pod.metadata.name.unwrap_or_default(), &DeleteParams::default()).await, shown)?;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client, secrets);
    let mut secret = k8s_openapi::api::core::v1::Secret::default();
    secret.metadata.name = Some("stale".to_owned());
    refused(secrets.create(&PostParams::default(), &secret).await, shown)
}

#[test]
fn the_parameter_only_rises_whoever_writes_it() -> Result<()> {
    story("rising", 1, &["eu-1"], async |story| {
        let cluster = story.cluster("eu-1")?;
        let epoch = held(cluster, &story.namespace).await?;
        let admin: Api<ConfigMap> = Api::namespaced(cluster.client(), &story.namespace);
        let params = PatchParams::default();
        let set = |text: String| Patch::Merge(json!({ "data": { "epoch": text } }));
        let lower = [
            epoch.before().to_string(),
            Epoch { incarnation: epoch.incarnation + 1, installation: uuid::Uuid::new_v4(), ..epoch }
                .to_string(),
            String::new(),
            format!("{epoch}0 "),
        ];
        for text in lower {
            let answer = admin.patch(FENCE, &params, &set(text.clone())).await;
            refused(answer, Some(text.as_str()))?;
        }
        // User spaceport may raise it only to the epoch that it sends, and never delete it.
        let later = Epoch { revision: epoch.revision + 1, ..epoch };
        let own = as_spaceport(cluster, Some(&epoch.to_string())).await?;
        let own: Api<ConfigMap> = Api::namespaced(own, &story.namespace);
        refused(own.patch(FENCE, &params, &set(later.to_string())).await, None)?;
        ensure!(own.delete(FENCE, &DeleteParams::default()).await.is_err(), "it was deleted");
        refused(admin.delete(FENCE, &DeleteParams::default()).await, None)?;
        // Compared as numbers, not as text: 10 times the number has the same leading digits.
        let larger = Epoch { revision: epoch.revision * 10, ..epoch };
        admin.patch(FENCE, &params.clone().dry_run(), &set(larger.to_string())).await?;
        ensure!(held(cluster, &story.namespace).await? == epoch, "it moved");
        Ok(())
    })
}

#[test]
fn a_takeover_raises_clusters_and_the_old_leader_changes_nothing_any_more() -> Result<()> {
    story("stale", 2, &["eu-1", "us-1"], async |story| {
        let mut before = Vec::new();
        for name in ["eu-1", "us-1"] {
            before.push(held(story.cluster(name)?, &story.namespace).await?);
        }
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let old = story.replicas.remove(at);
        let mut client = story.client().await?;
        old.process.signal(Signal::Stop).await?;
        let status = run(&mut client, request("ws", &["europe"])).await?;
        ensure!(status.cluster == "eu-1", "{status:?}");
        for (name, before) in ["eu-1", "us-1"].into_iter().zip(before) {
            let cluster = story.cluster(name)?;
            until("the cluster to be raised", async || {
                let now = held(cluster, &story.namespace).await?;
                ensure!(now.revision > before.revision && now.incarnation == before.incarnation, "{now}");
                Ok(())
            })
            .await?;
            let stale = as_spaceport(cluster, Some(&before.to_string())).await?;
            refused(
                Api::<ConfigMap>::namespaced(stale, &story.namespace)
                    .create(&PostParams::default(), &named("x"))
                    .await,
                None,
            )?;
        }
        old.process.signal(Signal::Cont).await?;
        let (gauge, metrics) = ("spaceport_leading 0", format!("{}/metrics", old.health));
        until("the old leader to be a standby", async || {
            ensure!(e2e::harness::spaceport::get(&metrics).await?.contains(gauge), "it leads");
            Ok(())
        })
        .await?;
        let mut through_old = story.installation.workspaces(&old).await?;
        start(&mut through_old, request("after", &["north-america"])).await?;
        let seen = describe(&mut client, "ws").await?.context("it is gone")?;
        ensure!(seen.phase() == WorkspacePhase::Running, "{seen:?}");
        story.replicas.push(old);
        Ok(())
    })
}

#[test]
fn a_dead_cluster_delays_no_other_after_a_takeover_and_is_raised_when_it_is_back() -> Result<()> {
    story("dead-raise", 2, &["eu-1"], async |story| {
        let folder = story.installation.dir().join("solo-2");
        let solo = Cluster::boot(story.fleet.assets(), &folder, ClusterOptions::named("solo-2")).await?;
        let kubeconfig = prepare_member(&solo).await?;
        prepare_namespaces(&solo, &story.namespace, &story.secrets_namespace).await?;
        let file = story.installation.cluster_file("solo-2", "solo", &kubeconfig)?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("solo-2").await?;
        let before = held(&solo, &story.namespace).await?;
        solo.pause(Part::ApiServer).await?;
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let dead = story.replicas.remove(at);
        let mut client = story.client().await?;
        dead.process.kill().await?;
        // It would prefer the dead cluster, which is not raised: a definite rejection, so the start goes on.
        let answer = start(&mut client, request("ws", &["solo"])).await?;
        ensure!(answer.cluster == "eu-1", "it went to {}", answer.cluster);
        solo.resume(Part::ApiServer).await?;
        until("the cluster to be raised", async || {
            let now = held(&solo, &story.namespace).await?;
            ensure!(now.revision > before.revision, "{now}");
            Ok(())
        })
        .await
    })
}

#[test]
fn an_unfenced_cluster_is_refused_unless_the_fence_is_off() -> Result<()> {
    story("unfenced", 1, &[], async |story| {
        let folder = story.installation.dir().join("solo-3");
        let solo = Cluster::boot(story.fleet.assets(), &folder, ClusterOptions::named("solo-3")).await?;
        let kubeconfig = prepare_member(&solo).await?;
        prepare_namespaces(&solo, &story.namespace, &story.secrets_namespace).await?;
        let bindings: Api<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding> =
            Api::all(solo.client());
        bindings.delete(FENCE, &DeleteParams::default()).await?;
        let file = story.installation.cluster_file("solo-3", "solo", &kubeconfig)?;
        let file = file.to_string_lossy().into_owned();
        until("the policy to be gone", async || {
            let output = story.cli(&["cluster", "register", "-f", &file]).await?;
            ensure!(output.code != 0, "it was registered: {}", output.stdout);
            ensure!(output.stderr.contains("the fence is not in force"), "{}", output.stderr);
            Ok(())
        })
        .await?;
        // A login with all rights itself, as one without the fence needs.
        let own = story.installation.cluster_file("solo-3", "solo", &solo.kubeconfig())?;
        let mut text: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&own)?)?;
        text["fence"] = json!("off");
        std::fs::write(&own, text.to_string())?;
        let output = story.cli(&["cluster", "register", "-f", &own.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let mut client = story.client().await?;
        let answer = start(&mut client, request("ws", &["solo"])).await?;
        ensure!(answer.cluster == "solo-3", "it went to {}", answer.cluster);
        Ok(())
    })
}

#[test]
fn a_restored_etcd_writes_nothing_until_an_admin_opens_a_new_incarnation() -> Result<()> {
    story("restored", 0, &[], async |story| {
        let folder = story.installation.dir().to_path_buf();
        let (assets, own) = (story.fleet.assets(), folder.join("etcd"));
        let etcd = Etcd::start_new(assets, &own, "own", EtcdOptions::default()).await?;
        story.installation = Installation::apart(
            story.fleet.assets(),
            &folder.join("own"),
            &etcd,
            "/spaceport/",
            (&story.namespace, &story.secrets_namespace),
        )?;
        manage(story, "first").await?;
        story.register("eu-1").await?;
        end(story).await?;
        etcd.stop().await?;
        copy(&etcd.data(), &folder.join("backup"))?;
        etcd.start().await?;
        // Two more leaders after the backup.
        for name in ["second", "third"] {
            manage(story, name).await?;
            story.available("eu-1").await?;
            let mut client = story.client().await?;
            start(&mut client, request(name, &[])).await?;
            end(story).await?;
        }
        let before = held(story.cluster("eu-1")?, &story.namespace).await?;
        etcd.stop().await?;
        std::fs::remove_dir_all(etcd.data())?;
        copy(&folder.join("backup"), &etcd.data())?;
        etcd.start().await?;

        manage(story, "restored").await?;
        story.available("eu-1").await?;
        let mut client = story.client().await?;
        until("the cluster to be blocked", async || match client.start_workspace(request("ws", &[])).await {
            Err(status) if status.message().contains("spaceport cluster incarnation open") => Ok(()),
            other => anyhow::bail!("{other:?}"),
        })
        .await?;
        ensure!(held(story.cluster("eu-1")?, &story.namespace).await? == before, "it was written");
        let open = ["cluster", "incarnation", "open", "--reason", "restored from the backup"];
        let output = story.cli(&open).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        until("the cluster to be raised", async || {
            start(&mut client, request("ws", &[])).await?;
            Ok(())
        })
        .await?;
        let after = held(story.cluster("eu-1")?, &story.namespace).await?;
        ensure!(after.incarnation == before.incarnation + 1, "{after}");
        let output = story.cli(&["cluster", "leader", "-o", "json"]).await?;
        let leader: serde_json::Value = serde_json::from_str(&output.stdout)?;
        ensure!(leader["incarnation"] == json!(after.incarnation), "{leader}");
        ensure!(leader["replicas"][0]["name"] == "restored", "{leader}");
        let opening = &leader["openings"][0];
        ensure!(opening["by"] == "admin" && opening["reason"] == "restored from the backup", "{leader}");
        Ok(())
    })
}

async fn manage(story: &mut Story, name: &str) -> Result<()> {
    let replica = story.installation.start(name).await?;
    story.replicas.push(replica);
    Ok(())
}

async fn end(story: &mut Story) -> Result<()> {
    let replica = story.replicas.pop().context("no manager")?;
    replica.process.signal(Signal::Term).await?;
    replica.process.exited(SOON).await?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = std::process::Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(done.success(), "cannot copy {}", from.display());
    Ok(())
}

/// The epoch in a namespace's fence.
async fn held(cluster: &Cluster, namespace: &str) -> Result<Epoch> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
    let data = maps.get(FENCE).await?.data.unwrap_or_default();
    Ok(data.get("epoch").context("it holds no epoch")?.parse()?)
}

fn named(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map
}

/// Asserts that the response is a 403 by a policy of the fence.
fn refused<T: std::fmt::Debug>(answer: kube::Result<T>, shown: Option<&str>) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status))
            if status.code == 403
                && status.message.contains("ValidatingAdmissionPolicy 'spaceport-fence") =>
        {
            Ok(())
        }
        other => anyhow::bail!("{shown:?}: {other:?}"),
    }
}
