//! A member cluster restored from an old etcd backup: the restore is detected, versions keep rising, and nothing is
//! deleted.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use k8s::resources::Workspace;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use proto::wsman::{
    MarkActiveRequest, StopWorkspaceRequest, SubscribeResponse, WorkspacePhase, WorkspaceStatus,
};
use serde_json::json;
use tonic::{Code, Streaming};

use crate::outage::register_private;
use crate::story::{
    SOON, Story, describe, follow, is, refused, request, run, start, stop, story, until, watch,
};
use e2e::harness::node_agent::Pace;
use e2e::harness::spaceport::{prepare_member, prepare_namespaces};
use e2e::harness::{Answer, Cluster, ClusterOptions, NodeAgent, Proxy, Rule, Versions, Writers};

#[test]
fn a_cluster_restored_from_an_old_backup_is_noticed_and_nothing_of_it_is_deleted() -> Result<()> {
    story("restore", 0, &[], async |story| {
        // A cluster that is silent during a restore is not lost; afterwards it is available soon.
        story.installation.overrides =
            json!({ "federation": { "health": { "recoverAfter": "1s", "canary": "1s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let Aside { cluster, agent, backup } = Aside::make(story, "old-1").await?;
        let mut client = story.client().await?;

        // After the backup: one ends, one is new, one is changed.
        let (mut of_stays, before) = go_on(story).await?;
        run(&mut client, request("new", &["old"])).await?;
        let mut of_new = watch(&mut client, "new").await?;

        drop(agent);
        cluster.restore(&backup, Versions::Fall).await?;
        let _agent = NodeAgent::start(&cluster.client(), Pace::default());

        // The state of the backup is published above all earlier versions.
        let seen = follow(&mut of_stays, |status| timeout_of(status) != timeout_of(&before)).await;
        let seen = seen.context("the workspace of the backup")?;
        let after = seen.last().context("nothing was seen")?;
        ensure!(after.status_version > before.status_version, "{before:?} {after:?}");
        ensure!(after.phase() == WorkspacePhase::Running, "{after:?}");
        let ended = follow(&mut of_new, is(WorkspacePhase::Stopped)).await;
        ended.context("the workspace of after the backup")?;
        restore_reported(story, "old-1").await?;
        back_at_work(story, &cluster, "old").await?;
        ensure!(describe(&mut client, "stays").await?.is_some(), "it is lost");
        let output = story.cli(&["cluster", "deregister", "old-1", "--force"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        Ok(())
    })
}

#[test]
fn a_cluster_restored_while_no_manager_ran_is_noticed_when_they_are_back() -> Result<()> {
    story("restore-away", 0, &[], async |story| {
        story.installation.overrides =
            json!({ "federation": { "health": { "recoverAfter": "1s", "canary": "1s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let Aside { cluster, agent, backup } = Aside::make(story, "old-2").await?;
        let at_backup = canary_of(story, &cluster).await?;
        let before = go_on(story).await?.1.status_version;
        until("the leader to record a version after the backup", async || {
            let noted = noted(story, cluster.name()).await?["canary"].as_u64().unwrap_or(0);
            ensure!(noted > at_backup, "{noted} is recorded, and {at_backup} was backed up");
            Ok(())
        })
        .await?;

        let replica = story.replicas.pop().context("no manager")?;
        replica.process.stop(SOON).await?;
        drop(agent);
        cluster.restore(&backup, Versions::Fall).await?;
        let _agent = NodeAgent::start(&cluster.client(), Pace::default());
        for name in ["manager-1", "manager-2"] {
            story.replicas.push(story.installation.start(name).await?);
        }
        let mut client = story.client().await?;
        restore_reported(story, "old-2").await?;
        until("versions to rise", async || {
            let stays = describe(&mut client, "stays").await?.context("it is lost")?;
            ensure!(stays.status_version > before, "{before} {stays:?}");
            ensure!(stays.phase() == WorkspacePhase::Running, "{stays:?}");
            Ok(())
        })
        .await?;
        back_at_work(story, &cluster, "old").await?;
        // It is reported once: the next leader compares with the versions recorded since.
        let times = noted(story, cluster.name()).await?["rewinds"]["count"].clone();
        ensure!(times == 1, "{times} restores detected");
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        story.replicas.remove(at).process.stop(SOON).await?;
        story.replicas.push(story.installation.start("manager-3").await?);
        back_at_work(story, &cluster, "old").await?;
        let times = noted(story, cluster.name()).await?["rewinds"]["count"].clone();
        ensure!(times == 1, "{times} restores detected");
        Ok(())
    })
}

#[test]
fn a_restore_that_bumps_revisions_is_noticed_whatever_others_write_meanwhile() -> Result<()> {
    story("restore-bump", 0, &[], async |story| {
        story.installation.overrides =
            json!({ "federation": { "health": { "recoverAfter": "1s", "canary": "1s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let Aside { cluster, agent, backup } = Aside::make(story, "old-3").await?;
        let before = go_on(story).await?.1.status_version;
        drop(agent);
        let writers = Writers::begin(&cluster);
        cluster.restore(&backup, Versions::Rise).await?;
        let _agent = NodeAgent::start(&cluster.client(), Pace::default());
        restore_reported(story, "old-3").await?;
        let mut client = story.client().await?;
        until("versions to rise", async || {
            let stays = describe(&mut client, "stays").await?.context("it is lost")?;
            ensure!(stays.status_version > before, "{before} {stays:?}");
            Ok(())
        })
        .await?;
        back_at_work(story, &cluster, "old").await?;
        drop(writers);
        Ok(())
    })
}

#[test]
fn a_restore_that_bumps_revisions_while_no_manager_ran_is_noticed_beside_heavy_writers() -> Result<()> {
    story("restore-bump-away", 0, &[], async |story| {
        story.installation.overrides =
            json!({ "federation": { "health": { "recoverAfter": "1s", "canary": "1s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let Aside { cluster, agent, backup } = Aside::make(story, "old-4").await?;
        go_on(story).await?;
        // A leader that ends in order records the canary's version.
        story.replicas.pop().context("no manager")?.process.stop(SOON).await?;
        drop(agent);
        let writers = Writers::begin(&cluster);
        cluster.restore(&backup, Versions::Rise).await?;
        let _agent = NodeAgent::start(&cluster.client(), Pace::default());
        story.replicas.push(story.installation.start("manager-1").await?);
        restore_reported(story, "old-4").await?;
        back_at_work(story, &cluster, "old").await?;
        drop(writers);
        Ok(())
    })
}

#[test]
fn nothing_that_a_restore_brings_back_is_stopped_before_the_canary_has_detected_it() -> Result<()> {
    story("restore-early", 0, &[], async |story| {
        story.installation.overrides =
            json!({ "federation": { "health": { "recoverAfter": "1s", "canary": "1s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let (Aside { cluster, agent, backup }, proxy) = Aside::make_behind_proxy(story, "old-5").await?;
        // What stays is not changed: a list would show its version fall, and detect the restore at once.
        end(story).await?;
        drop(agent);
        // Workspaces are seen again while the canary cannot be read or written.
        proxy.rules(vec![Rule::new(|call| call.uri.path().contains("/leases"), Answer::Hold)]);
        cluster.restore(&backup, Versions::Rise).await?;
        let _agent = NodeAgent::start(&cluster.client(), Pace::default());
        until("a renewal to get no response", async || {
            reported(story, "old-5", |one| {
                one["reason"] == "NotWritten"
                    && one["message"].as_str().is_some_and(|why| why.contains("no answer"))
            })
            .await
        })
        .await?;
        proxy.rules(Vec::new());
        restore_reported(story, "old-5").await?;
        back_at_work(story, &cluster, "old").await
    })
}

/// A cluster with two workspaces, `stays` and `ended`, and a snapshot of its etcd at that time.
struct Aside {
    cluster: Cluster,
    agent: NodeAgent,
    backup: PathBuf,
}

impl Aside {
    async fn make(story: &Story, name: &str) -> Result<Self> {
        let cluster = Self::boot(story, name).await?;
        let agent = register_private(story, &cluster, "old").await?;
        Self::back_up(story, cluster, agent).await
    }

    /// Managers reach it through the proxy.
    async fn make_behind_proxy(story: &Story, name: &str) -> Result<(Self, Proxy)> {
        let cluster = Self::boot(story, name).await?;
        let proxy = Proxy::of_cluster(&cluster).await?;
        let direct = prepare_member(&cluster).await?;
        prepare_namespaces(&cluster, &story.namespace, &story.secrets_namespace).await?;
        let agent = NodeAgent::start(&cluster.client(), Pace::default());
        let through = proxy.kubeconfig(&direct, &direct.with_extension("proxied"))?;
        story.register_as(cluster.name(), "old", &through).await?;
        Ok((Self::back_up(story, cluster, agent).await?, proxy))
    }

    async fn boot(story: &Story, name: &str) -> Result<Cluster> {
        let folder = story.installation.dir().join(name);
        Cluster::boot(story.fleet.assets(), &folder, ClusterOptions::named(name)).await
    }

    async fn back_up(story: &Story, cluster: Cluster, agent: NodeAgent) -> Result<Self> {
        let mut client = story.client().await?;
        run(&mut client, request("stays", &["old"])).await?;
        run(&mut client, request("ended", &["old"])).await?;
        let backup = cluster.dir().join("backup");
        cluster.back_up(&backup).await?;
        // While managers run, the canary detects a restore; it must be renewed after the backup.
        let at_backup = canary_of(story, &cluster).await?;
        until("the canary to be renewed", async || {
            ensure!(canary_of(story, &cluster).await? > at_backup, "it is unchanged since the backup");
            Ok(())
        })
        .await?;
        story.available(cluster.name()).await?;
        Ok(Self { cluster, agent, backup })
    }
}

/// `ended` ends, and `stays` gets another timeout; returns its stream and its last status.
async fn go_on(story: &Story) -> Result<(Streaming<SubscribeResponse>, WorkspaceStatus)> {
    end(story).await?;
    let mut client = story.client().await?;
    let output = story.cli(&["workspace", "timeout", "stays", "--after", "2h"]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    let mut of_stays = watch(&mut client, "stays").await?;
    let seen = follow(&mut of_stays, |status| timeout_of(status).starts_with("2h")).await?;
    let last = seen.last().context("nothing was seen")?.clone();
    Ok((of_stays, last))
}

/// `ended` ends.
async fn end(story: &Story) -> Result<()> {
    let mut client = story.client().await?;
    let mut stream = watch(&mut client, "ended").await?;
    stop(&mut client, "ended").await?;
    follow(&mut stream, is(WorkspacePhase::Stopped)).await.map(drop)
}

/// The canary's version that a backup taken now would hold.
async fn canary_of(story: &Story, cluster: &Cluster) -> Result<u64> {
    let leases = Api::<Lease>::namespaced(cluster.client(), &story.namespace);
    let version = leases.get("spaceport-canary").await?.metadata.resource_version;
    Ok(version.context("no version")?.parse()?)
}

/// What the leader recorded of a cluster.
async fn noted(story: &Story, cluster: &str) -> Result<serde_json::Value> {
    let mut etcd = story.fleet.etcd().connect().await?;
    let key = format!("/spaceport/{}/clusters/{cluster}/status", story.namespace);
    let answer = etcd.get(key, None).await?;
    let value: serde_json::Value = match answer.kvs().first() {
        Some(found) => serde_json::from_slice(found.value())?,
        None => serde_json::Value::Null,
    };
    Ok(value["status"].clone())
}

/// Waits until a restore of a cluster is reported.
async fn restore_reported(story: &Story, cluster: &str) -> Result<()> {
    until("the condition to report it", async || {
        reported(story, cluster, |one| one["type"] == "HistoryIntact" && one["reason"] == "Restored").await
    })
    .await
}

/// Fails unless one of a cluster's conditions is as wanted.
async fn reported(story: &Story, cluster: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> Result<()> {
    let output = story.cli(&["cluster", "show", cluster, "-o", "json"]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    let shown: serde_json::Value = serde_json::from_str(&output.stdout)?;
    let conditions = shown["status"]["conditions"].as_array().context("no conditions")?;
    ensure!(conditions.iter().any(wanted), "{conditions:?}");
    Ok(())
}

/// The cluster runs new workspaces, so settling continued; and the ended workspace that the restore brought back is not
/// touched.
async fn back_at_work(story: &Story, cluster: &Cluster, region: &str) -> Result<()> {
    story.available(cluster.name()).await?;
    let mut client = story.client().await?;
    let id = format!("again-{}", uuid::Uuid::new_v4().simple());
    let mut stream = watch(&mut client, &id).await?;
    until("the cluster to take workspaces again", async || {
        start(&mut client, request(&id, &[region])).await.map(drop)
    })
    .await?;
    follow(&mut stream, is(WorkspacePhase::Running)).await?;
    let back = Api::<Workspace>::namespaced(cluster.client(), &story.namespace).get("ended").await?;
    ensure!(back.metadata.deletion_timestamp.is_none(), "it is deleted: {back:?}");
    let stopped = back.status.as_ref().is_some_and(|status| status.is_true("StoppedByRequest"));
    ensure!(!stopped, "it is being stopped: {back:?}");
    // No client can end it, and each is told who can.
    let wanted = StopWorkspaceRequest { id: "ended".to_owned(), policy: 0 };
    let status = refused(client.stop_workspace(wanted).await, Code::FailedPrecondition)?;
    let discard = format!("`spaceport cluster discard {} ended --force`", cluster.name());
    ensure!(status.message().contains(&discard), "{}", status.message());
    let active = MarkActiveRequest { id: "ended".to_owned(), ..Default::default() };
    let status = refused(client.mark_active(active).await, Code::FailedPrecondition)?;
    ensure!(status.message().contains(&discard), "{}", status.message());
    Ok(())
}

fn timeout_of(status: &proto::wsman::WorkspaceStatus) -> String {
    status.spec.as_ref().map(|spec| spec.timeout.clone()).unwrap_or_default()
}
