//! Kubeconfigs in Secrets of the host cluster. `ap-1` acts as host cluster; there the manager has the rights of
//! `deploy/host.yaml` and no other.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use proto::spaceport::v1::condition::State;
use proto::spaceport::v1::{Condition, GetRequest};
use proto::wsman::WorkspacePhase;
use serde_json::{Value, json};

use crate::host_events::{reported, times};
use crate::story::{Story, follow, is, request, run, stop, story, until, watch};
use crate::update::{fresh_login, token};
use e2e::harness::assets::source_dir;
use e2e::harness::process::free_port;
use e2e::harness::spaceport::{Output, Replica, kubeconfig, program, run as run_command};
use e2e::harness::{Fault, Proxy};

/// The cluster that acts as host cluster.
pub const HOST: &str = "ap-1";
/// Named in `deploy/host.yaml`.
const SECRET: &str = "cluster-eu";
/// Another one named there.
const OTHER: &str = "cluster-us";

/// Starts managers with a host cluster, through a proxy if one is given.
pub async fn start_with_host(story: &mut Story, managers: usize, through: Option<&Proxy>) -> Result<()> {
    let login = host_login(story).await?;
    let login = match through {
        Some(proxy) => proxy.kubeconfig(&login, &story.installation.dir().join("host-through.kubeconfig"))?,
        None => login,
    };
    story.installation.overrides["federation"]["hostKubeconfig"] = json!(login);
    story.installation.overrides["federation"]["hostNamespace"] = json!(story.namespace);
    for n in 0..managers {
        let replica = story.installation.start(&format!("manager-{n}")).await?;
        story.replicas.push(replica);
    }
    Ok(())
}

/// A kubeconfig with the shipped rights, in the story's namespace of the host cluster.
async fn host_login(story: &Story) -> Result<PathBuf> {
    let (host, namespace) = (story.cluster(HOST)?, &story.namespace);
    host.apply_yaml(&format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: spaceport, namespace: {namespace}}}\n"
    ))
    .await?;
    let shipped = fs::read_to_string(source_dir().join("../deploy/host.yaml"))?;
    host.apply_yaml(&shipped.replace(" namespace: spaceport\n", &format!(" namespace: {namespace}\n")))
        .await?;
    host_token(story, "host-login").await
}

/// A kubeconfig with its own token, which is valid while the Secret of the name exists.
async fn host_token(story: &Story, secret: &str) -> Result<PathBuf> {
    let host = story.cluster(HOST)?;
    let (ca, token) = token(host, &story.namespace, secret).await?;
    let path = story.installation.dir().join("host.kubeconfig");
    fs::write(&path, kubeconfig(&host.api(), &ca, &token)?)?;
    Ok(path)
}

fn secrets(story: &Story) -> Result<Api<Secret>> {
    Ok(Api::namespaced(story.cluster(HOST)?.client(), &story.namespace))
}

/// Creates or replaces a Secret with one key; returns its version.
async fn put(story: &Story, name: &str, key: &str, content: &[u8]) -> Result<String> {
    let secrets = secrets(story)?;
    let data = [(key.to_owned(), ByteString(content.to_vec()))].into();
    let secret = Secret { data: Some(data), ..Secret::default() };
    if secrets.get_opt(name).await?.is_none() {
        let mut secret = secret;
        secret.metadata.name = Some(name.to_owned());
        let made = secrets.create(&PostParams::default(), &secret).await?;
        return made.metadata.resource_version.context("no version");
    }
    let data = json!([{ "op": "replace", "path": "/data", "value": secret.data }]);
    let patch = Patch::<()>::Json(serde_json::from_value(data)?);
    let changed = secrets.patch(name, &PatchParams::default(), &patch).await?;
    changed.metadata.resource_version.context("no version")
}

async fn register(story: &Story, name: &str, secret: &str) -> Result<Output> {
    let file = story.installation.dir().join("by-secret.yaml");
    let namespaces = [json!({ "namespace": story.namespace, "secretsNamespace": story.secrets_namespace })];
    fs::write(&file, json!({ "name": name, "region": "europe", "namespaces": namespaces }).to_string())?;
    let reference = format!("{}/{secret}", story.namespace);
    story
        .cli(&["cluster", "register", "-f", &file.to_string_lossy(), "--kubeconfig-secret", &reference])
        .await
}

/// A condition of a cluster as a replica sees it.
async fn condition(story: &Story, replica: &Replica, name: &str, kind: &str) -> Result<Condition> {
    let mut api = story.installation.clusters(replica).await?;
    let cluster = api.get(GetRequest { name: name.to_owned() }).await?.into_inner().cluster;
    let conditions = cluster.and_then(|cluster| cluster.status).context("no status")?.conditions;
    let found = conditions.iter().find(|one| one.r#type == kind).cloned();
    found.with_context(|| format!("no {kind} in {conditions:?}"))
}

/// Waits until every replica uses this version of the Secret.
async fn in_use(story: &Story, name: &str, version: &str) -> Result<()> {
    for replica in &story.replicas {
        until("the Secret to be in use", async || {
            let seen = condition(story, replica, name, "LoginCurrent").await?;
            ensure!(seen.state() == State::True && seen.message.contains(version), "{version}: {seen:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until every replica reports why the Secret is not used.
async fn failing(story: &Story, name: &str, reason: &str) -> Result<()> {
    for replica in &story.replicas {
        until("the condition to report it", async || {
            let seen = condition(story, replica, name, "LoginCurrent").await?;
            ensure!(seen.state() == State::False && seen.reason == reason, "{reason}: {seen:?}");
            ensure!(seen.message.contains(SECRET), "{seen:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[test]
fn a_new_login_in_the_secret_comes_into_force_and_a_bad_or_missing_one_changes_nothing() -> Result<()> {
    story("secretref", 0, &[], async |story| {
        start_with_host(story, 2, None).await?;
        story.register("us-1").await?;
        let first = fs::read(fresh_login(story, "eu-1", "secretref-first").await?)?;
        let version = put(story, SECRET, "kubeconfig", &first).await?;
        let output = register(story, "eu-1", SECRET).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("eu-1").await?;
        in_use(story, "eu-1", &version).await?;
        nothing_is_kept(story, &first).await?;

        let mut client = story.client().await?;
        run(&mut client, request("before", &["europe"])).await?;
        let mut stream = watch(&mut client, "before").await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;

        let second = fs::read(fresh_login(story, "eu-1", "secretref-second").await?)?;
        let version = put(story, SECRET, "kubeconfig", &second).await?;
        in_use(story, "eu-1", &version).await?;
        let tokens = Api::<Secret>::namespaced(story.cluster("eu-1")?.client(), "spaceport-system");
        tokens.delete("secretref-first", &DeleteParams::default()).await?;

        // The old token is gone: later reads and writes use the new one.
        run(&mut client, request("after", &["europe"])).await?;
        stop(&mut client, "before").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;

        let elsewhere = fs::read(&story.kubeconfigs["us-1"])?;
        for (content, reason) in [(elsewhere, "Refused"), (b"clusters: hunter2".to_vec(), "Invalid")] {
            put(story, SECRET, "kubeconfig", &content).await?;
            failing(story, "eu-1", reason).await?;
        }
        put(story, SECRET, "config", &second).await?;
        failing(story, "eu-1", "KeyNotFound").await?;
        secrets(story)?.delete(SECRET, &DeleteParams::default()).await?;
        failing(story, "eu-1", "SecretNotFound").await?;
        reported(story, "eu-1", "LoginNotUsable", 1).await?;

        // The previous login stays in use, watches included.
        let mut seen = watch(&mut client, "after").await?;
        run(&mut client, request("later", &["europe"])).await?;
        stop(&mut client, "after").await?;
        follow(&mut seen, is(WorkspacePhase::Stopped)).await?;
        let other = run(&mut client, request("other", &["north-america"])).await?;
        ensure!(other.cluster == "us-1", "it is on {}", other.cluster);
        let doctor = story.cli(&["cluster", "doctor", "eu-1", "-o", "wide"]).await?;
        ensure!(doctor.code == 1 && doctor.stdout.contains("is not there"), "{}", doctor.stdout);
        restarted(story, &second).await
    })
}

/// Neither etcd nor any response nor any log contains the token.
async fn nothing_is_kept(story: &Story, login: &[u8]) -> Result<()> {
    let login: Value = serde_json::from_slice(login)?;
    let token = login["users"][0]["user"]["token"].as_str().context("no token")?;
    let mut etcd = story.fleet.etcd().connect().await?;
    let key = format!("/spaceport/{}/clusters/eu-1/spec", story.namespace);
    let kept = etcd.get(key, None).await?;
    let kept = kept.kvs().first().context("not registered")?.value();
    let kept: Value = serde_json::from_slice(kept)?;
    ensure!(kept.get("kubeconfig").is_none() && kept["spec"]["kubeconfigSecret"]["name"] == SECRET, "{kept}");
    let shown = story.cli(&["cluster", "show", "eu-1", "-o", "json"]).await?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    let expected = json!({ "namespace": story.namespace, "name": SECRET, "key": "kubeconfig" });
    ensure!(shown["kubeconfig"] == json!({ "secret": expected }), "{shown}");
    ensure!(!shown.to_string().contains(token), "the token is shown");
    for replica in &story.replicas {
        let log = fs::read_to_string(replica.process.log())?;
        ensure!(!log.contains(token), "{} logged the token", replica.name);
    }
    Ok(())
}

/// A manager that restarts while the Secret is missing reports that, and connects once it exists.
async fn restarted(story: &mut Story, login: &[u8]) -> Result<()> {
    for replica in story.replicas.drain(..) {
        replica.process.stop(crate::story::SOON).await?;
    }
    let before = times(story, "eu-1", "LoginNotUsable").await?;
    story.replicas.push(story.installation.start("manager-2").await?);
    failing(story, "eu-1", "SecretNotFound").await?;
    // A problem that is gone before it was reported causes no event.
    reported(story, "eu-1", "LoginNotUsable", before + 1).await?;
    let replica = story.replicas.first().context("no manager")?;
    let unusable = condition(story, replica, "eu-1", "Usable").await?;
    ensure!(unusable.state() == State::False && unusable.reason == "SecretNotFound", "{unusable:?}");
    story.available("us-1").await?;
    let mut client = story.client().await?;
    run(&mut client, request("meanwhile", &["north-america"])).await?;

    let version = put(story, SECRET, "kubeconfig", login).await?;
    in_use(story, "eu-1", &version).await?;
    story.available("eu-1").await?;
    reported(story, "eu-1", "LoginGood", 1).await?;
    let mut stream = watch(&mut client, "later").await?;
    follow(&mut stream, is(WorkspacePhase::Running)).await?;
    stop(&mut client, "later").await?;
    follow(&mut stream, is(WorkspacePhase::Stopped)).await.map(drop)
}

#[test]
fn a_secret_that_gives_no_good_login_is_refused_with_the_reason_and_nothing_is_registered() -> Result<()> {
    story("secretref-bad", 0, &[], async |story| {
        start_with_host(story, 1, None).await?;
        let good = fs::read(&story.kubeconfigs["eu-1"])?;
        let text = String::from_utf8(good.clone())?;
        let dead = text.replace(&story.cluster("eu-1")?.api(), "https://127.0.0.1:1").into_bytes();
        let plugin = text.replace("\"token\"", "\"exec\"").into_bytes();
        for (what, content, code, reported) in [
            ("an empty text", Some(("kubeconfig", Vec::new())), "FAILED_PRECONDITION", "holds no text"),
            ("bytes", Some(("kubeconfig", vec![0xff, 0xfe])), "FAILED_PRECONDITION", "holds no text"),
            (
                "another key",
                Some(("config", good.clone())),
                "FAILED_PRECONDITION",
                "lacks the key kubeconfig",
            ),
            (
                "no kubeconfig",
                Some(("kubeconfig", b"hunter2".to_vec())),
                "INVALID_ARGUMENT",
                "kubeconfig field",
            ),
            ("a plugin", Some(("kubeconfig", plugin)), "INVALID_ARGUMENT", "kubeconfig field"),
            ("a dead address", Some(("kubeconfig", dead)), "FAILED_PRECONDITION", "reachable"),
            ("no Secret", None, "FAILED_PRECONDITION", "is not there"),
        ] {
            match content {
                Some((key, content)) => drop(put(story, SECRET, key, &content).await?),
                None => drop(secrets(story)?.delete(SECRET, &DeleteParams::default()).await?),
            }
            let output = register(story, "eu-1", SECRET).await?;
            ensure!(output.code == 1 && output.stderr.contains(code), "{what}: {}", output.stderr);
            ensure!(
                output.stderr.contains(reported) && !output.stderr.contains("hunter2"),
                "{what}: {}",
                output.stderr
            );
        }
        let hidden = register(story, "eu-1", "host-login").await?;
        ensure!(
            hidden.code == 1 && hidden.stderr.contains("the login may not get secrets"),
            "{}",
            hidden.stderr
        );
        let malformed = register(story, "eu-1", "Cluster_EU").await?;
        ensure!(malformed.code == 2 && malformed.stderr.contains("Secret"), "{}", malformed.stderr);
        let list = story.cli(&["cluster", "list", "-o", "json"]).await?;
        ensure!(list.stdout.trim() == "[]", "{}", list.stdout);
        a_bad_update_changes_nothing(story, &good).await
    })
}

async fn a_bad_update_changes_nothing(story: &Story, good: &[u8]) -> Result<()> {
    put(story, SECRET, "kubeconfig", good).await?;
    let output = register(story, "eu-1", SECRET).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    put(story, OTHER, "kubeconfig", &fs::read(&story.kubeconfigs["us-1"])?).await?;
    let update = async |name: &str| {
        let reference = format!("{}/{name}", story.namespace);
        story.cli(&["cluster", "update", "eu-1", "--kubeconfig-secret", &reference]).await
    };
    for (name, reported) in [(OTHER, "identity"), ("cluster-us:other", "lacks the key other")] {
        let output = update(name).await?;
        ensure!(output.code == 1 && output.stderr.contains(reported), "{}", output.stderr);
    }
    let version = put(story, OTHER, "login", good).await?;
    let output = update("cluster-us:login").await?;
    ensure!(output.code == 0, "{}", output.stderr);
    in_use(story, "eu-1", &version).await?;
    moved(story).await?;

    // Back to a kubeconfig that Spaceport stores.
    let path = story.kubeconfigs["eu-1"].to_string_lossy();
    let output = story.cli(&["cluster", "update", "eu-1", "--kubeconfig", &path]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    let shown = story.cli(&["cluster", "show", "eu-1", "-o", "json"]).await?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    ensure!(shown.get("kubeconfig").is_none(), "{shown}");
    story.available("eu-1").await
}

/// Another address of the same cluster is used, too, and recorded.
async fn moved(story: &Story) -> Result<()> {
    let proxy = Proxy::of_cluster(story.cluster("eu-1")?).await?;
    let through = story.installation.dir().join("eu-1-through.kubeconfig");
    let through = proxy.kubeconfig(&story.kubeconfigs["eu-1"], &through)?;
    let version = put(story, OTHER, "login", &fs::read(through)?).await?;
    in_use(story, "eu-1", &version).await?;
    until("the address to be recorded", async || {
        let shown = story.cli(&["cluster", "show", "eu-1", "-o", "json"]).await?;
        let shown: Value = serde_json::from_str(&shown.stdout)?;
        ensure!(shown["status"]["apiServer"] == proxy.url("https"), "{shown}");
        Ok(())
    })
    .await?;
    let mut client = story.client().await?;
    run(&mut client, request("ws", &[])).await?;
    let back = put(story, OTHER, "login", &fs::read(&story.kubeconfigs["eu-1"])?).await?;
    in_use(story, "eu-1", &back).await
}

#[test]
fn a_manager_that_knows_no_host_refuses_secrets_and_says_what_to_set() -> Result<()> {
    story("hostless", 1, &[], async |story| {
        let output = register(story, "eu-1", SECRET).await?;
        ensure!(output.code == 1 && output.stderr.contains("FAILED_PRECONDITION"), "{}", output.stderr);
        ensure!(output.stderr.contains("federation.hostKubeconfig"), "{}", output.stderr);
        Ok(())
    })
}

#[test]
fn a_host_that_is_away_takes_no_cluster_with_it() -> Result<()> {
    story("hostaway", 0, &[], async |story| {
        let proxy = Proxy::of_cluster(story.cluster(HOST)?).await?;
        start_with_host(story, 1, Some(&proxy)).await?;
        let good = fs::read(&story.kubeconfigs["eu-1"])?;
        let version = put(story, SECRET, "kubeconfig", &good).await?;
        let output = register(story, "eu-1", SECRET).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        in_use(story, "eu-1", &version).await?;

        proxy.set(Fault::Refuse).await?;
        failing(story, "eu-1", "HostUnreachable").await?;
        let refused = register(story, "eu-2", SECRET).await?;
        ensure!(refused.code == 1 && refused.stderr.contains("UNAVAILABLE"), "{}", refused.stderr);
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;

        proxy.heal().await?;
        in_use(story, "eu-1", &version).await?;

        // Another login to the host cluster is used, too.
        let login = host_token(story, "host-second").await?;
        let login = proxy.kubeconfig(&login, &story.installation.dir().join("host-through.kubeconfig"))?;
        let manager = story.replicas.first().context("no manager")?;
        until("the host's login to be replaced", async || {
            let log = fs::read_to_string(manager.process.log())?;
            ensure!(log.contains("login of the host cluster was replaced"), "{}", login.display());
            Ok(())
        })
        .await?;
        secrets(story)?.delete("host-login", &DeleteParams::default()).await?;
        proxy.reset();
        let second = fs::read(fresh_login(story, "eu-1", "hostaway-second").await?)?;
        let version = put(story, SECRET, "kubeconfig", &second).await?;
        in_use(story, "eu-1", &version).await
    })
}

#[test]
fn a_host_kubeconfig_that_cannot_be_used_is_a_problem_of_the_configuration() -> Result<()> {
    story("hostbad", 0, &[], async |story| {
        let file = story.installation.dir().join("host.kubeconfig");
        fs::write(&file, "clusters: [hunter2")?;
        story.installation.overrides =
            json!({ "federation": { "hostKubeconfig": file, "hostNamespace": "Not A Namespace" } });
        let path = story.installation.write_config("bad", free_port()?, free_port()?)?;
        let manager = async || {
            let mut command = tokio::process::Command::new(program()?);
            command.args(["manager", "--config"]).arg(&path).kill_on_drop(true);
            run_command(command).await
        };
        let output = manager().await?;
        ensure!(output.code == 64 && output.stderr.contains("federation.hostNamespace"), "{}", output.stderr);
        story.installation.overrides = json!({ "federation": { "hostKubeconfig": file } });
        story.installation.write_config("bad", free_port()?, free_port()?)?;
        let output = manager().await?;
        ensure!(
            output.code == 64 && output.stderr.contains("federation.hostKubeconfig"),
            "{}",
            output.stderr
        );
        ensure!(!output.stderr.contains("hunter2"), "{}", output.stderr);
        Ok(())
    })
}
