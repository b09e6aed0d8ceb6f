//! Changing registered clusters while workspaces run there, and watching the registry.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use proto::spaceport::v1::watch_response::Event;
use proto::spaceport::v1::{WatchRequest, WatchResponse};
use proto::wsman::WorkspacePhase;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Streaming;

use crate::story::{SOON, Story, follow, is, request, run, start, stop, story, until, watch};
use e2e::harness::Cluster;
use e2e::harness::spaceport::{kubeconfig, prepare_namespaces};

/// A cluster as the CLI shows it.
async fn shown(story: &Story, name: &str) -> Result<Value> {
    let output = story.cli(&["cluster", "show", name, "-o", "json"]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    serde_json::from_str(&output.stdout).context("the CLI's answer")
}

/// A kubeconfig of the manager's identity with its own token, which is valid while the Secret of the name exists.
pub async fn fresh_login(story: &Story, cluster: &str, secret: &str) -> Result<PathBuf> {
    let member = story.cluster(cluster)?;
    let (ca, token) = token(member, "spaceport-system", secret).await?;
    let path = story.installation.dir().join(format!("{secret}.kubeconfig"));
    fs::write(&path, kubeconfig(&member.api(), &ca, &token)?)?;
    Ok(path)
}

/// A token of the service account `spaceport`, which is valid while the Secret of the name exists; preceded by the CA.
pub async fn token(cluster: &Cluster, namespace: &str, secret: &str) -> Result<(String, String)> {
    let api = Api::<Secret>::namespaced(cluster.client(), namespace);
    let annotations = json!({ "kubernetes.io/service-account.name": "spaceport" });
    let object = serde_json::from_value(json!({
        "metadata": { "name": secret, "annotations": annotations },
        "type": "kubernetes.io/service-account-token",
    }))?;
    api.create(&PostParams::default(), &object).await?;
    let filled = |secret: Option<&Secret>| {
        secret.and_then(|secret| secret.data.as_ref()).is_some_and(|data| data.contains_key("token"))
    };
    let found = timeout(SOON, await_condition(api, secret, filled)).await.context("no token")??;
    let data = found.and_then(|secret| secret.data).unwrap_or_default();
    let text =
        |key: &str| String::from_utf8(data.get(key).context("the token's Secret")?.0.clone()).context("text");
    Ok((text("ca.crt")?, text("token")?))
}

#[test]
fn a_change_is_taken_where_its_version_is_the_present_one_and_a_wrong_one_changes_nothing() -> Result<()> {
    story("change", 2, &["eu-1"], async |story| {
        let before = shown(story, "eu-1").await?;
        let version = before["version"].to_string();
        let change = ["cluster", "update", "eu-1", "--weight", "60", "--version", &version];
        let output = story.cli(&change).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let again =
            story.cli(&["cluster", "update", "eu-1", "--weight", "70", "--version", &version]).await?;
        ensure!(again.code == 1 && again.stderr.contains("ABORTED"), "{}", again.stderr);
        for (args, reported) in [
            (["--weight", "1000"], "weight must not be above maxWeight"),
            (["--label", "a b=c"], "labels must have keys"),
        ] {
            let output = story.cli(&["cluster", "update", "eu-1", args[0], args[1]]).await?;
            ensure!(output.code == 1 && output.stderr.contains("INVALID_ARGUMENT"), "{}", output.stderr);
            ensure!(output.stderr.contains(reported), "{}", output.stderr);
        }
        for (args, reported) in
            [(["--weight", "2000"], "from 0 to 1000"), (["--max-weight", "0"], "from 1 to 1000")]
        {
            let output = story.cli(&["cluster", "update", "eu-1", args[0], args[1]]).await?;
            ensure!(output.code == 2 && output.stderr.contains(reported), "{}", output.stderr);
        }
        let unknown = story.cli(&["cluster", "update", "us-1", "--weight", "1"]).await?;
        ensure!(unknown.code == 1 && unknown.stderr.contains("NOT_FOUND"), "{}", unknown.stderr);
        let more = [
            "cluster",
            "update",
            "eu-1",
            "--label",
            "tier=gold",
            "--region",
            "asia",
            "--constraint",
            "feature-preview",
        ];
        ensure!(story.cli(&more).await?.code == 0, "more");
        let after = shown(story, "eu-1").await?;
        ensure!(after["weight"] == 60 && after["region"] == "asia", "{after}");
        ensure!(after["labels"] == json!({ "provider": "e2e", "tier": "gold" }), "{after}");
        ensure!(after["admissionConstraints"] == json!([{ "featurePreview": true }]), "{after}");
        // The member cluster was not reconnected.
        ensure!(
            after["status"]["since"] == before["status"]["since"] || since(&after)? - since(&before)? < 2
        );
        Ok(())
    })
}

/// Since when the cluster has its state, in seconds; ages are rounded.
fn since(cluster: &Value) -> Result<i64> {
    let text = cluster["status"]["since"].as_str().context("no since")?;
    Ok(text.parse::<jiff::Timestamp>()?.as_second())
}

#[test]
fn a_new_token_comes_into_force_on_the_live_connections_of_every_replica() -> Result<()> {
    story("rotate", 2, &[], async |story| {
        let first = fresh_login(story, "eu-1", "rotate-first").await?;
        story.register_as("eu-1", "europe", &first).await?;
        let mut client = story.client().await?;
        run(&mut client, request("before", &[])).await?;
        let mut stream = watch(&mut client, "before").await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        let before = shown(story, "eu-1").await?;

        let second = fresh_login(story, "eu-1", "rotate-second").await?;
        let output =
            story.cli(&["cluster", "update", "eu-1", "--kubeconfig", &second.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let secrets = Api::<Secret>::namespaced(story.cluster("eu-1")?.client(), "spaceport-system");
        secrets.delete("rotate-first", &DeleteParams::default()).await?;

        // The old token is gone: later reads and writes use the new one.
        run(&mut client, request("after", &[])).await?;
        stop(&mut client, "before").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        for replica in &story.replicas {
            let mut other = story.installation.workspaces(replica).await?;
            let mut seen = watch(&mut other, "after").await?;
            follow(&mut seen, is(WorkspacePhase::Running)).await?;
        }
        let after = shown(story, "eu-1").await?;
        ensure!(after["version"].as_i64() > before["version"].as_i64(), "{after}");
        ensure!(after["status"]["health"] == "AVAILABLE", "{after}");
        ensure!((since(&after)? - since(&before)?).abs() < 2, "it was reconnected: {before} {after}");
        let output = story.cli(&["cluster", "doctor", "eu-1"]).await?;
        ensure!(output.code == 0, "{}{}", output.stdout, output.stderr);
        Ok(())
    })
}

#[test]
fn a_kubeconfig_that_is_unusable_or_of_another_cluster_changes_nothing() -> Result<()> {
    story("elsewhere", 1, &["eu-1"], async |story| {
        let before = shown(story, "eu-1").await?;
        let dead = story.installation.dir().join("dead.kubeconfig");
        let good = fs::read_to_string(&story.kubeconfigs["eu-1"])?;
        fs::write(&dead, good.replace(&story.cluster("eu-1")?.api(), "https://127.0.0.1:1"))?;
        for (path, reported) in [(&story.kubeconfigs["us-1"], "identity"), (&dead, "reachable")] {
            let output =
                story.cli(&["cluster", "update", "eu-1", "--kubeconfig", &path.to_string_lossy()]).await?;
            ensure!(output.code == 1 && output.stderr.contains("FAILED_PRECONDITION"), "{}", output.stderr);
            ensure!(output.stderr.contains(reported), "{}", output.stderr);
        }
        let after = shown(story, "eu-1").await?;
        ensure!(after["version"] == before["version"], "{after}");
        ensure!(after["status"]["apiServer"] == before["status"]["apiServer"], "{after}");
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await.map(drop)
    })
}

#[test]
fn a_namespace_comes_at_once_and_goes_only_when_it_is_empty() -> Result<()> {
    story("spaces", 2, &["eu-1"], async |story| {
        let (second, secrets) = ("spaces-b", "spaces-b-secrets");
        let ours = json!({ "namespace": story.namespace, "secretsNamespace": story.secrets_namespace });
        let other = json!({ "namespace": second, "secretsNamespace": secrets });
        let with = async |namespaces: Value| {
            let path = story.installation.dir().join("spaces.yaml");
            let file = json!({ "name": "eu-1", "region": "europe", "namespaces": namespaces });
            fs::write(&path, file.to_string())?;
            story.cli(&["cluster", "update", "eu-1", "-f", &path.to_string_lossy()]).await
        };
        let missing = with(json!([ours, other])).await?;
        ensure!(missing.code == 1 && missing.stderr.contains("does not exist"), "{}", missing.stderr);
        prepare_namespaces(story.cluster("eu-1")?, second, secrets).await?;
        let added = with(json!([ours, other])).await?;
        ensure!(added.code == 0, "{}", added.stderr);
        story.available("eu-1").await?;

        let mut client = story.client().await?;
        let mut there = request("there", &[]);
        if let Some(placement) = there.spec.as_mut().and_then(|spec| spec.placement.as_mut()) {
            placement.namespace = second.to_owned();
        }
        let mut stream = watch(&mut client, "there").await?;
        until("the namespace to be served", async || start(&mut client, there.clone()).await.map(drop))
            .await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        let refused = with(json!([ours])).await?;
        ensure!(refused.code == 1 && refused.stderr.contains("there"), "{}", refused.stderr);
        stop(&mut client, "there").await?;
        until("the namespace to be empty", async || {
            let removed = with(json!([ours])).await?;
            ensure!(removed.code == 0, "{}", removed.stderr);
            Ok(())
        })
        .await?;
        story.available("eu-1").await?;
        run(&mut client, request("here", &[])).await.map(drop)
    })
}

async fn event(stream: &mut Streaming<WatchResponse>, wanted: Event) -> Result<WatchResponse> {
    let reading = async {
        loop {
            let answer = stream.message().await?.context("the stream ended")?;
            if answer.event() == wanted {
                return Ok(answer);
            }
        }
    };
    timeout(SOON, reading).await.with_context(|| format!("no {wanted:?}"))?
}

#[test]
fn watchers_of_every_replica_hear_of_each_change_of_the_registry() -> Result<()> {
    story("watchers", 2, &["eu-1"], async |story| {
        let mut streams = Vec::new();
        for replica in &story.replicas {
            let mut clusters = story.installation.clusters(replica).await?;
            let mut stream = clusters.watch(WatchRequest::default()).await?.into_inner();
            let present = event(&mut stream, Event::Present).await?.cluster.context("no cluster")?;
            ensure!(present.spec.is_some_and(|spec| spec.name == "eu-1"), "another cluster");
            event(&mut stream, Event::Synced).await?;
            streams.push(stream);
        }
        story.register("us-1").await?;
        ensure!(story.cli(&["cluster", "update", "eu-1", "--weight", "9"]).await?.code == 0, "update");
        let maintenance = ["cluster", "maintenance", "on", "eu-1", "--for", "1h"];
        ensure!(story.cli(&maintenance).await?.code == 0, "maintenance");
        ensure!(story.cli(&["cluster", "deregister", "us-1"]).await?.code == 0, "deregister");
        for stream in &mut streams {
            let came = event(stream, Event::Registered).await?.cluster.and_then(|cluster| cluster.spec);
            ensure!(came.is_some_and(|spec| spec.name == "us-1"), "another cluster came");
            let changed = event(stream, Event::Changed).await?.cluster.and_then(|cluster| cluster.spec);
            ensure!(changed.is_some_and(|spec| spec.weight == 9), "another change");
            let gone = event(stream, Event::Deregistered).await?.cluster.and_then(|cluster| cluster.spec);
            ensure!(gone.is_some_and(|spec| spec.name == "us-1"), "another cluster went");
        }
        let under = async || {
            let shown = shown(story, "eu-1").await?;
            ensure!(!shown["status"]["maintenance"][&story.namespace].is_null(), "{shown}");
            Ok(())
        };
        until("maintenance to be shown", under).await?;
        ensure!(timeout(Duration::from_secs(10), story.cli(&["cluster", "list"])).await??.code == 0);
        Ok(())
    })
}
