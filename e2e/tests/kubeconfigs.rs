//! Kubeconfigs as people have them: several contexts, login plugins, and invalid certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use proto::spaceport::v1::register_response::Outcome;
use proto::spaceport::v1::{ClusterSpec, NamespaceSpec, RegisterRequest};
use serde_json::{Value, json};
use tonic::Code;

use crate::story::{Story, refused, request, run, story};
use e2e::harness::pki::Authority;
use e2e::harness::spaceport::kubeconfig;

/// The token of a cluster's administrator.
fn admin_token(story: &Story, cluster: &str) -> Result<String> {
    let text = fs::read_to_string(story.cluster(cluster)?.kubeconfig())?;
    let token = text.split("token: ").nth(1).and_then(|rest| rest.split('}').next()).context("a token")?;
    Ok(token.to_owned())
}

/// A login plugin that prints a token, and fails unless it is called as kubectl does.
fn write_plugin(path: &Path, token: &str) -> Result<()> {
    let script = format!(
        r#"#!/bin/sh
test "$1 $2" = 'get-token a b' || exit 3
test "$PROFILE" = secret-profile || exit 4
case "$KUBERNETES_EXEC_INFO" in *certificate-authority-data*) ;; *) exit 5 ;; esac
echo "using $PROFILE" >&2
cat <<END
{{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1",
 "status": {{"token": "{token}", "expirationTimestamp": "2099-01-01T00:00:00Z"}}}}
END
"#
    );
    fs::write(path, script)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A kubeconfig of an admin with several contexts: one logs in with a plugin, the others name missing files.
fn many_contexts(story: &Story, cluster: &str) -> Result<PathBuf> {
    let member = story.cluster(cluster)?;
    let folder = story.installation.dir();
    write_plugin(&folder.join("plugin"), &admin_token(story, cluster)?)?;
    let authority = folder.join(format!("{cluster}-ca.pem"));
    fs::write(&authority, member.ca_pem())?;
    let file = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "gone",
        "clusters": [
            { "name": "gone", "cluster": { "server": "https://127.0.0.1:1", "certificate-authority": "/nowhere/ca" } },
            { "name": "c", "cluster": {
                "server": member.api(), "certificate-authority": authority, "proxy-url": "", "tls-server-name": "",
            } },
        ],
        "users": [
            { "name": "gone", "user": { "client-certificate": "/nowhere/crt", "client-key": "/nowhere/key" } },
            { "name": "other", "user": { "token": "hunter2" } },
            { "name": "admin", "user": { "token": "", "username": "", "exec": {
                "apiVersion": "client.authentication.k8s.io/v1beta1", "command": "./plugin",
                "args": ["get-token", "a b"], "env": [{ "name": "PROFILE", "value": "secret-profile" }],
                "provideClusterInfo": true,
            } } },
        ],
        "contexts": [
            { "name": "gone", "context": { "cluster": "gone", "user": "gone" } },
            { "name": "admin", "context": { "cluster": "c", "user": "admin", "namespace": "" } },
        ],
    });
    let path = folder.join("many.kubeconfig");
    fs::write(&path, file.to_string())?;
    Ok(path)
}

#[test]
fn a_plugins_login_installs_and_registers_a_cluster_and_only_its_context_is_read() -> Result<()> {
    story("plugin", 1, &[], async |story| {
        let member = story.cluster("ap-1")?;
        let admin = many_contexts(story, "ap-1")?.to_string_lossy().into_owned();
        let pair = "plugin-ws:plugin-ws-secrets";
        let install = ["cluster", "install", "--kubeconfig", &admin, "--namespace", pair];
        let wrong = story.cli(&install).await?;
        ensure!(wrong.code == 1 && wrong.stderr.contains("/nowhere/ca"), "{}", wrong.stderr);
        let chosen = [&install[..], &["--kube-context", "admin", "--print-kubeconfig"]].concat();
        let done = story.cli(&chosen).await?;
        ensure!(done.code == 0 && done.stderr.contains("using [redacted]"), "{}", done.stderr);
        ensure!(!done.stderr.contains("secret-profile"), "{}", done.stderr);
        ensure!(Api::<Namespace>::all(member.client()).get_opt("plugin-ws").await?.is_some(), "no namespace");

        // Registered in one step, by a file that names the context.
        let path = story.installation.dir().join("plugin.yaml");
        let file = json!({
            "name": "ap-1", "region": "asia", "kubeconfig": { "file": admin, "context": "admin" },
            "namespaces": [{ "namespace": "plugin-ws", "secretsNamespace": "plugin-ws-secrets" }],
        });
        fs::write(&path, file.to_string())?;
        let path = path.to_string_lossy().into_owned();
        let plain = story.cli(&["cluster", "register", "-f", &path]).await?;
        ensure!(plain.code == 1 && plain.stderr.contains("--print-kubeconfig"), "{}", plain.stderr);
        for reported in ["registered ap-1", "ap-1 is registered already, unchanged"] {
            let output = story.cli(&["cluster", "register", "--install", "-f", &path]).await?;
            ensure!(output.code == 0 && output.stderr.contains(reported), "{}", output.stderr);
        }
        story.available("ap-1").await?;
        member.prepare_namespace("plugin-ws").await?;
        run(&mut story.client().await?, request("ws", &[])).await?;
        let replica = story.replicas.first().context("no manager")?;
        let log = fs::read_to_string(replica.process.log())?;
        ensure!(!log.contains(&admin_token(story, "ap-1")?), "the token is in the log");
        Ok(())
    })
}

#[test]
fn the_manager_runs_no_plugin_whoever_asks_it() -> Result<()> {
    story("no-plugin", 1, &[], async |story| {
        let admin = many_contexts(story, "eu-1")?;
        let text = fs::read_to_string(&admin)?
            .replace("\"current-context\":\"gone\"", "\"current-context\":\"admin\"");
        let mark = story.installation.dir().join("was-run");
        let text = text.replace("./plugin", &format!("/usr/bin/touch {}", mark.display()));
        let mut clusters = story.installation.clusters(&story.replicas[0]).await?;
        let request = RegisterRequest { spec: Some(spec(story, "eu-1")), kubeconfig: text.into_bytes() };
        let status = refused(clusters.register(request).await, Code::InvalidArgument)?;
        ensure!(status.message().contains("users[].user.exec would run a program"), "{status:?}");
        ensure!(!mark.exists(), "the manager ran it");
        Ok(())
    })
}

fn spec(story: &Story, name: &str) -> ClusterSpec {
    let namespace = NamespaceSpec { namespace: story.namespace.clone(), ..NamespaceSpec::default() };
    ClusterSpec {
        name: name.to_owned(),
        region: "europe".to_owned(),
        weight: 50,
        namespaces: vec![namespace],
        ..ClusterSpec::default()
    }
}

#[test]
fn omitted_settings_come_from_the_configuration_and_registering_again_changes_nothing() -> Result<()> {
    story("left-out", 0, &[], async |story| {
        story.installation.overrides["manager"] =
            json!({ "namespace": story.namespace, "secretsNamespace": story.secrets_namespace });
        let replica = story.installation.start("manager-0").await?;
        story.replicas.push(replica);
        let login = fs::read_to_string(&story.kubeconfigs["eu-1"])?;
        // UTF-16, as PowerShell saves it.
        let utf16 = [0xff, 0xfe].into_iter().chain(login.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let mut clusters = story.installation.clusters(&story.replicas[0]).await?;
        let nameless = ClusterSpec { namespaces: Vec::new(), ..spec(story, "eu-1") };
        let request = |spec: &ClusterSpec, kubeconfig: Vec<u8>| RegisterRequest {
            spec: Some(spec.clone()),
            kubeconfig,
        };
        let answer = clusters.register(request(&nameless, utf16)).await?.into_inner();
        ensure!(answer.outcome() == Outcome::Registered, "{:?}", answer.outcome());
        let found = answer.cluster.and_then(|cluster| cluster.spec).context("no cluster")?.namespaces;
        ensure!(found.len() == 1 && found[0].namespace == story.namespace, "{found:?}");
        ensure!(found[0].secrets_namespace == story.secrets_namespace, "{found:?}");
        story.available("eu-1").await?;
        run(&mut story.client().await?, crate::story::request("ws", &[])).await?;

        // Equivalent content, then another kubeconfig.
        let pretty = serde_json::to_string(&serde_json::from_str::<Value>(&login)?)?;
        let again = clusters.register(request(&spec(story, "eu-1"), pretty.into_bytes())).await?.into_inner();
        ensure!(again.outcome() == Outcome::Unchanged, "{:?}", again.outcome());
        let mut heavier = spec(story, "eu-1");
        (heavier.weight, heavier.labels) = (80, [("tier".to_owned(), "gold".to_owned())].into());
        let other = fs::read(&story.kubeconfigs["us-1"])?;
        let status = refused(clusters.register(request(&heavier, other)).await, Code::AlreadyExists)?;
        for reported in ["labels.tier", "weight", "kubeconfig", "cluster update"] {
            ensure!(status.message().contains(reported), "{reported}: {status:?}");
        }
        Ok(())
    })
}

#[test]
fn of_a_file_with_several_clusters_each_is_reported_and_the_good_ones_are_registered() -> Result<()> {
    story("several", 1, &["eu-1"], async |story| {
        let document = |name: &str, region: &str, kubeconfig: &Path, weight: u32| {
            json!({
                "name": name, "region": region, "labels": { "provider": "e2e" }, "weight": weight,
                "kubeconfig": { "file": kubeconfig },
                "namespaces": [{ "namespace": story.namespace, "secretsNamespace": story.secrets_namespace }],
            })
        };
        let nobody = story.cluster("us-1")?.user_kubeconfig("several-nobody", &[])?;
        let documents = [
            document("eu-1", "europe", &story.kubeconfigs["eu-1"], 50),
            document("us-1", "north-america", &nobody, 50),
            document("ap-1", "asia", &story.kubeconfigs["ap-1"], 50),
        ];
        let path = story.installation.dir().join("several.yaml");
        let texts: Vec<String> = documents.iter().map(ToString::to_string).collect();
        fs::write(&path, texts.join("\n---\n"))?;
        let path = path.to_string_lossy().into_owned();
        let output = story.cli(&["cluster", "register", "-f", &path]).await?;
        ensure!(output.code == 1, "{}", output.stderr);
        for reported in [
            "eu-1 is registered already, unchanged",
            "failed to register us-1: FAILED_PRECONDITION",
            "registered ap-1",
            "1 of 3 clusters were not registered: us-1",
        ] {
            ensure!(output.stderr.contains(reported), "{reported}: {}", output.stderr);
        }
        fs::write(&path, document("eu-1", "europe", &story.kubeconfigs["eu-1"], 60).to_string())?;
        let output = story.cli(&["cluster", "register", "-f", &path]).await?;
        ensure!(output.code == 1 && output.stderr.contains("ALREADY_EXISTS"), "{}", output.stderr);
        ensure!(output.stderr.contains("in weight; `spaceport cluster update eu-1`"), "{}", output.stderr);
        Ok(())
    })
}

#[test]
fn each_problem_of_a_certificate_has_its_own_sentence() -> Result<()> {
    story("certificates", 1, &[], async |story| {
        let member = story.cluster("eu-1")?;
        let folder = story.installation.dir();
        let token = admin_token(story, "eu-1")?;
        let leaf = member.serving("certificates-leaf")?.cert_pem;
        let foreign = Authority::create(&folder.join("foreign"), "foreign")?;
        let (one, two) = (foreign.client("one", &[])?, foreign.client("two", &[])?);
        let of = |user: Value, ca: &str| -> Result<String> {
            let mut config: Value = serde_json::from_str(&kubeconfig(&member.api(), ca, "token")?)?;
            config["users"][0]["user"] = user;
            Ok(config.to_string())
        };
        let cases = [
            (
                "foreign",
                of(json!({ "token": token }), foreign.ca_pem())?,
                "comes from another authority than",
            ),
            (
                "leaf",
                of(json!({ "token": token }), &leaf)?,
                "holds the certificate of a server and not that of its",
            ),
            (
                "key",
                of(json!({ "client-certificate": one.cert, "client-key": two.key }), member.ca_pem())?,
                "client-key-data is not the key of the certificate",
            ),
            (
                "name",
                of(json!({ "token": token }), member.ca_pem())?
                    .replace("\"server\"", "\"tls-server-name\":\"else.example\",\"server\""),
                "and not for else.example: set tls-server-name",
            ),
        ];
        for (name, text, sentence) in cases {
            let path = folder.join(format!("{name}.kubeconfig"));
            fs::write(&path, text)?;
            let output = story.try_to_register("eu-1", "europe", &path).await?;
            ensure!(output.code == 1 && output.stderr.contains(sentence), "{name}: {}", output.stderr);
            let file = folder.join("cluster-eu-1.yaml").to_string_lossy().into_owned();
            let doctor = story.cli(&["cluster", "doctor", "-f", &file, "-o", "wide"]).await?;
            let reported = format!("{}{}", doctor.stdout, doctor.stderr);
            ensure!(doctor.code == 1 && reported.contains(sentence), "{name}: {reported}");
        }
        Ok(())
    })
}
