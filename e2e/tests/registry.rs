//! Registering and deregistering clusters through the CLI.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use proto::spaceport::v1::{ClusterSpec, ListRequest, NamespaceSpec, RegisterRequest};
use tonic::Code;

use crate::story::{Story, refused, request, run, stop, story, until};
use e2e::harness::spaceport::kubeconfig;

#[test]
fn a_cluster_is_registered_once_by_name_and_by_address() -> Result<()> {
    story("twice", 1, &["eu-1"], async |story| {
        let file = story.installation.cluster_file("eu-1", "europe", &story.kubeconfigs["eu-1"])?;
        let again = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(again.code == 0 && again.stderr.contains("unchanged"), "{}", again.stderr);
        let other_name = refused_by_cli(story, "other", "eu-1").await?;
        ensure!(other_name.contains("ALREADY_EXISTS") && other_name.contains("eu-1"), "{other_name}");
        only_registered(story, &["eu-1"]).await
    })
}

#[test]
fn a_cluster_that_cannot_be_reached_or_used_is_refused_with_the_reason() -> Result<()> {
    story("unusable", 1, &[], async |story| {
        let good = fs::read_to_string(&story.kubeconfigs["eu-1"])?;
        let folder = story.installation.dir();
        let api = story.cluster("eu-1")?.api();
        for (name, text, expected) in [
            ("nobody", good.replace(&api, "https://127.0.0.1:1"), "FAILED_PRECONDITION"),
            (
                "stranger",
                kubeconfig(&api, story.installation.authority().ca_pem(), "token")?,
                "FAILED_PRECONDITION",
            ),
            ("tokenless", good.replace("\"token\"", "\"tokenx\""), "INVALID_ARGUMENT"),
            ("nonsense", "no: kubeconfig".to_owned(), "INVALID_ARGUMENT"),
        ] {
            let path = folder.join(format!("{name}.kubeconfig"));
            fs::write(&path, text)?;
            let file = story.installation.cluster_file(name, "europe", &path)?;
            let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
            ensure!(output.code != 0, "{name} was registered");
            ensure!(output.stderr.contains(name), "{name} is not named: {}", output.stderr);
            ensure!(
                output.stderr.contains(expected) || expected == "INVALID_ARGUMENT",
                "{name} was to be {expected}: {}",
                output.stderr
            );
        }
        only_registered(story, &[]).await
    })
}

#[test]
fn a_login_without_rights_is_refused_with_everything_that_is_missing() -> Result<()> {
    story("no-rights", 1, &[], async |story| {
        let path = story.cluster("eu-1")?.user_kubeconfig("nobody-special", &[])?;
        let file = story.installation.cluster_file("eu-1", "europe", &path)?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code != 0 && output.stderr.contains("FAILED_PRECONDITION"), "{}", output.stderr);
        ensure!(output.stderr.contains("may not"), "{}", output.stderr);
        only_registered(story, &[]).await
    })
}

#[test]
fn bad_specifications_name_their_fields() -> Result<()> {
    story("bad-specs", 1, &[], async |story| {
        let mut clusters = story.installation.clusters(&story.replicas[0]).await?;
        let namespace = NamespaceSpec { namespace: "UPPER".into(), ..NamespaceSpec::default() };
        let spec = ClusterSpec {
            name: "No Name".into(),
            region: String::new(),
            namespaces: vec![namespace],
            ..ClusterSpec::default()
        };
        let request = RegisterRequest { spec: Some(spec), kubeconfig: Vec::new() };
        let status = refused(clusters.register(request).await, Code::InvalidArgument)?;
        for field in ["spec.name", "spec.region", "spec.namespaces[0].namespace", "kubeconfig"] {
            ensure!(status.message().contains(field), "{field} is not named: {}", status.message());
        }
        only_registered(story, &[]).await
    })
}

#[test]
fn a_cluster_with_workspaces_is_not_deregistered_and_an_empty_one_is() -> Result<()> {
    story("deregister", 2, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let output = story.cli(&["cluster", "deregister", "eu-1"]).await?;
        ensure!(output.code != 0 && output.stderr.contains("ws"), "{}", output.stderr);
        stop(&mut client, "ws").await?;
        until("the cluster to be empty", async || {
            let output = story.cli(&["cluster", "deregister", "eu-1"]).await?;
            ensure!(output.code == 0, "{}", output.stderr);
            Ok(())
        })
        .await?;
        until("every replica to remove it", async || only_registered(story, &[]).await).await?;
        let output = story.cli(&["cluster", "cordon", "eu-1"]).await?;
        ensure!(output.code != 0 && output.stderr.contains("NOT_FOUND"), "{}", output.stderr);
        story.register("eu-1").await
    })
}

#[test]
fn kubeconfigs_lie_sealed_in_etcd_and_appear_nowhere_else() -> Result<()> {
    story("sealed", 1, &["eu-1"], async |story| {
        let token = fs::read_to_string(&story.kubeconfigs["eu-1"])?;
        let token = token.split("\"token\": \"").nth(1).and_then(|rest| rest.split('"').next());
        let token = token.context("no token in the kubeconfig")?;
        let mut etcd = story.fleet.etcd().connect().await?;
        let options = etcd_client::GetOptions::new().with_prefix();
        let all = etcd.get("/spaceport/sealed/", Some(options)).await?;
        ensure!(all.kvs().len() > 3, "the registration is not there");
        for kv in all.kvs() {
            let value = String::from_utf8_lossy(kv.value()).into_owned();
            ensure!(!value.contains(token), "the token is plain in {}", kv.key_str()?);
        }
        let replica = story.replicas.first().context("no manager")?;
        ensure!(!fs::read_to_string(replica.process.log())?.contains(token), "the token is in the log");
        Ok(())
    })
}

/// Output of a rejected registration of a shared cluster under a name.
async fn refused_by_cli(story: &Story, name: &str, cluster: &str) -> Result<String> {
    let file = story.installation.cluster_file(name, "europe", &story.kubeconfigs[cluster])?;
    let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
    ensure!(output.code == 1, "it was registered");
    Ok(output.stderr)
}

/// Asserts that exactly these clusters are registered, at every replica.
async fn only_registered(story: &Story, names: &[&str]) -> Result<()> {
    for replica in &story.replicas {
        let mut clusters = story.installation.clusters(replica).await?;
        let listed = clusters.list(ListRequest {}).await?.into_inner().clusters;
        let listed: Vec<String> =
            listed.into_iter().filter_map(|cluster| cluster.spec).map(|spec| spec.name).collect();
        ensure!(listed == names, "{} has {listed:?}", replica.name);
    }
    Ok(())
}
