//! Rules of the repository about itself. `UPDATE_EXPECT=1 cargo test --test repository` rewrites generated files.

mod circles;
mod documentation;
mod monitoring;
mod network;
mod promql;
mod sources;
mod wire;

use std::{env, fs};

use anyhow::{Context, Result, ensure};
use k8s::resources;
use kube::ResourceExt;
use runtime::config::Config;

use sources::{Source, root, sources};

/// Crates that do IO, which the domain must not depend on.
const OUTER_CRATES: [&str; 10] = [
    "tokio",
    "tokio-util",
    "tokio-stream",
    "kube",
    "k8s-openapi",
    "tonic",
    "prost",
    "etcd-client",
    "hyper",
    "axum",
];
/// Lines of a file up to its tests.
const LONGEST_FILE: usize = 400;

/// The wire format is a promise to existing clients: a change shows as a diff of `proto/wire.lock`.
#[test]
fn wire_matches_the_lock() -> Result<()> {
    let lines = wire::lines(proto::FILE_DESCRIPTOR_SET)?;
    matches_file("proto/wire.lock", &(lines.join("\n") + "\n"))
}

/// The committed CRDs are generated from the types, and parse to the same value.
#[test]
fn crds_match_the_types() -> Result<()> {
    for crd in resources::crds() {
        let yaml = resources::to_yaml(&crd)?;
        let read: serde_json::Value = serde_saphyr::from_str(&yaml)?;
        ensure!(
            read == serde_json::to_value(&crd)?,
            "the YAML of {:?} reads as something else",
            crd.metadata.name
        );
        matches_file(&format!("crds/{}.yaml", crd.name_any()), &yaml)?;
    }
    Ok(())
}

#[test]
fn the_domain_depends_on_nothing_that_does_io() -> Result<()> {
    let manifest = fs::read_to_string(root().join("src/domain/Cargo.toml"))?;
    let (_, dependencies) = manifest.split_once("[dependencies]").context("no dependencies")?;
    let (dependencies, _) = dependencies.split_once("[dev-dependencies]").context("no dev-dependencies")?;
    let names = dependencies.lines().filter_map(|line| line.split(['.', ' ']).next());
    let wrong: Vec<String> = names.filter(|name| OUTER_CRATES.contains(name)).map(str::to_owned).collect();
    none(&wrong, "crates that the domain must not depend on")
}

#[test]
fn tests_of_a_file_begin_where_its_product_ends() {
    let listing = "#[cfg(test)]\nmod tests;\nmod more;\n#[cfg(test)]\nmod inline {\n}";
    let source = Source { path: "src/api/lib.rs".to_owned(), text: listing.to_owned() };
    assert_eq!(source.lines_before_tests(), 3);
}

#[test]
fn files_stay_short() -> Result<()> {
    let sources = sources("src")?.into_iter().chain(sources("e2e")?);
    let long: Vec<String> = sources
        .filter(|source| !source.is_test() && source.lines_before_tests() > LONGEST_FILE)
        .map(|source| format!("{}: {} lines", source.path, source.lines_before_tests()))
        .collect();
    none(&long, &format!("files of more than {LONGEST_FILE} lines without their tests"))
}

/// Clippy denies these too, but an `allow` would override it.
#[test]
fn no_panics_in_the_product() -> Result<()> {
    const PANICS: [&str; 5] = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("];
    let mut wrong = Vec::new();
    for source in sources("src")?.into_iter().filter(|source| !source.is_test()) {
        let product = source.lines_before_tests();
        for (line, text) in source.code().filter(|(line, _)| *line <= product) {
            wrong.extend(
                PANICS
                    .iter()
                    .filter(|panic| text.contains(*panic))
                    .map(|p| format!("{}:{line}: {p}", source.path)),
            );
        }
    }
    none(&wrong, "panics")
}

/// The program reads them, up to the point where it would connect to a server.
#[test]
fn the_example_clusters_are_understood() -> Result<()> {
    const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    fs::write(&kubeconfig, KUBECONFIG)?;
    let mut examples = 0;
    for file in fs::read_dir(root().join("clusters"))? {
        let file = file?.path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        examples += 1;
        let output = std::process::Command::new(e2e::harness::spaceport::program()?)
            .args(["cluster", "register", "--file"])
            .arg(&file)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .env_remove("SPACEPORT_ENDPOINT")
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(error.contains("no server is named"), "{} is refused: {error}", file.display());
    }
    ensure!(examples >= 3, "an example a region, but there are {examples}");
    Ok(())
}

/// The manager accepts the configuration that `deploy/` installs, and the files that it names are mounted.
#[test]
fn the_deployed_configuration_is_understood() -> Result<()> {
    let manifests: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(&fs::read_to_string(root().join("deploy/manager.yaml"))?)?;
    let config = manifests
        .iter()
        .find(|manifest| manifest["kind"] == "ConfigMap")
        .and_then(|manifest| manifest["data"]["config.yaml"].as_str())
        .context("deploy/manager.yaml has no ConfigMap with config.yaml")?;
    let folder = tempfile::tempdir()?;
    let issued = rcgen::generate_simple_self_signed(["spaceport".to_owned()])?;
    for group in ["etcd", "rpc"] {
        let secrets = folder.path().join(group);
        fs::create_dir(&secrets)?;
        for name in ["ca.crt", "tls.crt"] {
            fs::write(secrets.join(name), issued.cert.pem())?;
        }
        fs::write(secrets.join("tls.key"), issued.signing_key.serialize_pem())?;
    }
    fs::create_dir(folder.path().join("seal"))?;
    fs::write(folder.path().join("seal/key"), [7; 32])?;
    let file = folder.path().join("config.yaml");
    fs::write(&file, config.replace("/secrets", &folder.path().to_string_lossy()))?;
    Config::load(&file).context("the ConfigMap of deploy/manager.yaml")?;
    Ok(())
}

/// The node agent accepts the configuration that `deploy/node` installs, and the folder and namespaces that it names are those of
/// the DaemonSet.
#[test]
fn the_deployed_configuration_of_the_node_agent_is_understood() -> Result<()> {
    let text = fs::read_to_string(root().join("deploy/node/daemonset.yaml"))?;
    let manifests: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text)?;
    let of = |kind: &str| manifests.iter().find(|manifest| manifest["kind"] == kind).context("not found");
    let config = of("ConfigMap")?["data"]["node.yaml"].as_str().context("no node.yaml")?;
    let file = tempfile::tempdir()?;
    let path = file.path().join("node.yaml");
    // The DaemonSet sets the name of the node in the environment.
    fs::write(&path, config.replacen("node:\n", "node:\n  name: node-1\n", 1))?;
    let config = node::config::Config::load(&path).context("the ConfigMap of deploy/node")?;
    let daemon_set = of("DaemonSet")?;
    let served: Vec<&str> = config.namespaces.iter().map(|one| one.namespace.as_str()).collect();
    ensure!(
        daemon_set["metadata"]["annotations"][resources::names::SERVES] == served.join(","),
        "{served:?}"
    );
    ensure!(daemon_set["metadata"]["labels"][resources::names::NODE_AGENT] == "true", "no label for doctor");
    let pod = &daemon_set["spec"]["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_u64().context("no grace period")?;
    ensure!(grace > config.deadlines.shutdown.as_secs() + 20, "the grace period is too short");
    let content = pod["volumes"].as_array().into_iter().flatten().find(|one| one["name"] == "content");
    let folder = config.host_path.to_string_lossy();
    ensure!(content.is_some_and(|one| one["hostPath"]["path"] == *folder), "another folder than {folder}");
    Ok(())
}

/// Compares a generated text with the committed file; with `UPDATE_EXPECT` rewrites the file.
fn matches_file(path: &str, generated: &str) -> Result<()> {
    let file = root().join(path);
    if env::var_os("UPDATE_EXPECT").is_some() {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        return fs::write(&file, generated).with_context(|| format!("write {path}"));
    }
    let committed = fs::read_to_string(&file).with_context(|| format!("read {path}"))?;
    let differs = committed.lines().zip(generated.lines()).find(|(left, right)| left != right);
    ensure!(
        committed == generated,
        "{path} is out of date, first difference (committed, generated): {differs:?}; \
         UPDATE_EXPECT=1 cargo test --test repository rewrites it"
    );
    Ok(())
}

fn none(wrong: &[String], what: &str) -> Result<()> {
    ensure!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    Ok(())
}
