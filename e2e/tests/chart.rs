//! The Helm chart, `deploy/chart`, with the real helm and a real apiserver: what it refuses, what it installs, what an
//! upgrade and an uninstallation leave, and that the plain manifests and its page are made from it.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use runtime::config::Config;
use serde_json::Value;

use crate::story::{Story, story, until};
use e2e::harness::Assets;
use e2e::harness::assets::source_dir;

const GENERATED: &str = "# Generated from deploy/chart: change that, then UPDATE_EXPECT=1 cargo test -p e2e --test stories -- chart\n";
const CLUSTER: &str = "ap-1";

fn chart() -> PathBuf {
    source_dir().join("../deploy/chart")
}

/// Runs helm; its standard output, or an error with all that it said.
async fn helm(kubeconfig: Option<&Path>, args: &[&str]) -> Result<String> {
    let program = tokio::task::spawn_blocking(|| Assets::ensure()?.helm())
        .await
        .context("the build was cancelled")??;
    let home = tempfile::tempdir()?;
    let mut command = tokio::process::Command::new(program);
    command.args(args).env("HELM_CACHE_HOME", home.path()).env("HELM_CONFIG_HOME", home.path());
    command.env("HELM_DATA_HOME", home.path()).env_remove("KUBECONFIG").kill_on_drop(true);
    if let Some(file) = kubeconfig {
        command.env("KUBECONFIG", file);
    }
    let output = command.output().await.context("cannot run helm")?;
    if !output.status.success() {
        bail!("helm {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("helm prints UTF-8")
}

/// Templates as they are rendered, without the lines that name their files.
async fn rendered(release: &str, namespace: &str, args: &[&str]) -> Result<String> {
    let chart = chart().display().to_string();
    let mut all = vec!["template", release, &chart, "--namespace", namespace];
    all.extend(args);
    let text = helm(None, &all).await?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# Source: "));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

fn objects(text: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(all.into_iter().filter(|one| !one.is_null()).collect())
}

/// Compares with the committed file; with `UPDATE_EXPECT` rewrites it.
fn matches_file(file: &Path, generated: &str) -> Result<()> {
    if env::var_os("UPDATE_EXPECT").is_some() {
        return fs::write(file, generated).with_context(|| format!("write {}", file.display()));
    }
    let committed = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let differs = committed.lines().zip(generated.lines()).find(|(left, right)| left != right);
    ensure!(
        committed == generated,
        "{} is out of date: {differs:?}; its head says how to write it",
        file.display()
    );
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

#[test]
fn the_plain_manifests_are_those_of_the_chart() -> Result<()> {
    runtime()?.block_on(async {
        let plain = chart().join("plain.yaml").display().to_string();
        let (manager, node) = ("spaceport", "spaceport-system");
        for (file, namespace, head, templates) in [
            ("manager.yaml", manager, NAMESPACE, &["manager/manager.yaml", "manager/networkpolicy.yaml"][..]),
            ("host.yaml", manager, "", &["manager/host.yaml"]),
            ("node/daemonset.yaml", node, "", &["node/daemonset.yaml"]),
            ("node/rbac.yaml", node, "", &["node/rbac.yaml"]),
            ("node/policy.yaml", node, "", &["node/policy.yaml"]),
        ] {
            let templates: Vec<String> = templates.iter().map(|one| format!("templates/{one}")).collect();
            let mut args = vec!["-f", plain.as_str()];
            args.extend(templates.iter().flat_map(|one| ["--show-only", one.as_str()]));
            let text = rendered("spaceport", namespace, &args).await?;
            let text = text.trim_start_matches("---\n");
            matches_file(&source_dir().join("../deploy").join(file), &format!("{GENERATED}{head}{text}"))?;
        }
        Ok(())
    })
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: spaceport\n---\n";

#[test]
fn the_page_of_the_chart_lists_every_value() -> Result<()> {
    let values = fs::read_to_string(chart().join("values.yaml"))?;
    matches_file(&chart().join("README.md"), &page(&values))
}

/// Values whose defaults are long.
const EXAMPLES: [&str; 7] = [
    "manager.config",
    "manager.resources",
    "etcd.trial.resources",
    "node.namespaces",
    "node.config",
    "node.secretMounts",
    "node.resources",
];

/// The page: a table of every value, with what its comment says.
fn page(values: &str) -> String {
    let mut path: Vec<(usize, String)> = Vec::new();
    let (mut comment, mut rows) = (Vec::new(), String::new());
    // Below a key whose default is an example, the keys are the reader's own.
    let mut example: Option<usize> = None;
    for line in values.lines().skip_while(|line| !line.is_empty()) {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if example.is_some_and(|of| depth > of || text.is_empty()) {
            continue;
        }
        example = None;
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim().to_owned());
            continue;
        }
        let Some((key, default)) = text.split_once(':') else {
            comment.clear();
            continue;
        };
        path.retain(|(of, _)| *of < depth);
        path.push((depth, key.to_owned()));
        let name = path.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".");
        if EXAMPLES.contains(&name.as_str()) {
            example = Some(depth);
        }
        // A group without a comment is only the head of what follows.
        if default.trim().is_empty() && comment.is_empty() && example.is_none() {
            continue;
        }
        let default = match default.trim() {
            "" if example.is_some() => "in `values.yaml`".to_owned(),
            "" => "-".to_owned(),
            text => format!("`{text}`"),
        };
        let meaning = std::mem::take(&mut comment).join(" ");
        rows.extend(["| `", &name, "` | ", &default, " | ", &meaning, " |\n"]);
    }
    format!("{PAGE}{rows}")
}

const PAGE: &str =
    "<!-- Generated from values.yaml: UPDATE_EXPECT=1 cargo test -p e2e --test stories -- chart -->
# Values of the chart

How to install it: [docs/install.md](../../docs/install.md). An unknown key is refused.

| Value | Default | Meaning |
|---|---|---|
";

#[test]
fn a_value_that_the_chart_would_lose_is_refused_with_its_name() -> Result<()> {
    runtime()?.block_on(async {
        for (set, names) in [
            ("manager.replica=3", "replica"),
            ("manager.replicas=0", "/manager/replicas"),
            ("manager.config.etcd.endpoints=x", "use the value etcd.endpoints instead"),
            ("manager.config.etcd.tls.ca=x", "use the value etcd.tlsSecret instead"),
            ("manager.config.rpcServer.tls.ca=x", "use the value manager.tls.secret instead"),
            ("manager.config.rpcServer.addr=x", "use the value manager.service.port instead"),
            ("manager.config.prometheus.addr=x", "manager.config.prometheus.addr is set by the chart"),
            ("manager.config.federation.sealing.keys=x", "use the value manager.sealing.secret instead"),
            ("etcd.endpoints={ftp://x}", "/etcd/endpoints/0"),
            ("node.enabled=true,node.config.node.namespaces={x}", "use the value node.namespaces instead"),
            ("node.enabled=true,node.config.health.addr=x", "node.config.health.addr is set by the chart"),
            ("node.namespaces=", "/node/namespaces"),
            ("manager.tls.secret=A_B", "/manager/tls/secret"),
        ] {
            let outcome = rendered("spaceport", "spaceport", &["--set", set]).await;
            let refusal = outcome.err().with_context(|| format!("{set} was taken"))?.to_string();
            ensure!(refusal.contains(names), "{set}: {refusal}");
        }
        Ok(())
    })
}

#[test]
fn the_manager_takes_what_the_chart_writes_and_every_file_is_mounted() -> Result<()> {
    runtime()?.block_on(async {
        let trial = chart().join("trial.yaml").display().to_string();
        for args in
            [&[][..], &["-f", trial.as_str()], &["--set", "etcd.tlsSecret=,etcd.endpoints={http://e:1}"]]
        {
            let objects = objects(&rendered("x", "ns", args).await?)?;
            let of = |kind: &str, name: &str| {
                let found = objects.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
                found.with_context(|| format!("no {kind} {name}"))
            };
            let config =
                of("ConfigMap", "x-spaceport")?["data"]["config.yaml"].as_str().context("no config.yaml")?;
            let pod = &of("StatefulSet", "x-spaceport")?["spec"]["template"]["spec"];
            let mounts = pod["containers"][0]["volumeMounts"].as_array().context("no mounts")?;
            let folder = tempfile::tempdir()?;
            let issued = rcgen::generate_simple_self_signed(["spaceport".to_owned()])?;
            // Only what the pod mounts is there.
            for mount in mounts.iter().filter_map(|one| one["mountPath"].as_str()?.strip_prefix("/secrets/"))
            {
                let secrets = folder.path().join(mount);
                fs::create_dir(&secrets)?;
                if mount == "seal" {
                    fs::write(secrets.join("key"), [7; 32])?;
                    continue;
                }
                for name in ["ca.crt", "tls.crt"] {
                    fs::write(secrets.join(name), issued.cert.pem())?;
                }
                fs::write(secrets.join("tls.key"), issued.signing_key.serialize_pem())?;
            }
            let file = folder.path().join("config.yaml");
            fs::write(&file, config.replace("/secrets", &folder.path().to_string_lossy()))?;
            Config::load(&file).with_context(|| format!("{args:?}"))?;
        }
        Ok(())
    })
}

#[test]
fn what_users_work_depends_on_outlives_an_upgrade_and_an_uninstallation() -> Result<()> {
    story("chart", 0, &[], async |story| {
        let file = story.cluster(CLUSTER)?.kubeconfig();
        let namespace = format!("{}-chart", story.namespace);
        let chart = chart().display().to_string();
        let trial = ["--set", "etcd.trial.enabled=true,manager.sealing.generate=true"];
        let common = ["spaceport", chart.as_str(), "--namespace", namespace.as_str()];
        let install = [&["install"][..], &common, &["--create-namespace"], &trial].concat();
        let notes = helm(Some(&file), &install).await?;
        ensure!(notes.contains("spaceport-seal (key), which is made once"), "{notes}");
        let made = key(story, &namespace).await?;
        ensure!(made.len() == 32, "the key has {} bytes", made.len());

        let upgrade = [&["upgrade"][..], &common, &trial, &["--set", "manager.replicas=3"]].concat();
        helm(Some(&file), &upgrade).await?;
        ensure!(key(story, &namespace).await? == made, "the upgrade made another key");
        let sets: Api<StatefulSet> = Api::namespaced(story.cluster(CLUSTER)?.client(), &namespace);
        let replicas = sets.get("spaceport").await?.spec.and_then(|spec| spec.replicas);
        ensure!(replicas == Some(3), "{replicas:?}");

        helm(Some(&file), &["uninstall", "spaceport", "--namespace", &namespace]).await?;
        until("the managers to be gone", async || {
            let left = sets.list(&ListParams::default()).await?.items;
            ensure!(left.is_empty(), "{} StatefulSets are left", left.len());
            Ok(())
        })
        .await?;
        ensure!(key(story, &namespace).await? == made, "the uninstallation changed the key");
        // Installed once more, it decrypts what the first one encrypted.
        helm(Some(&file), &[&["install"][..], &common, &trial].concat()).await?;
        ensure!(key(story, &namespace).await? == made, "the second installation made another key");
        helm(Some(&file), &["uninstall", "spaceport", "--namespace", &namespace]).await.map(drop)
    })
}

async fn key(story: &Story, namespace: &str) -> Result<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(story.cluster(CLUSTER)?.client(), namespace);
    let secret = secrets.get("spaceport-seal").await?;
    Ok(secret.data.unwrap_or_default().remove("key").context("no key in the Secret")?.0)
}
