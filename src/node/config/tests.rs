use std::collections::BTreeSet;

use runtime::config::{Report, read_groups_of};
use serde_json::{Value, json};

use super::*;
use crate::quota::Backend;

const DOCS: &str = include_str!("../../../docs/node-configuration.md");
const MANAGER_DOCS: &str = include_str!("../../../docs/configuration.md");

fn minimal() -> Value {
    json!({
        "node": {"name": "node-1", "namespaces": [{"namespace": "workspaces", "secretsNamespace": "workspace-secrets"}]},
        "content": {"storage": {"kind": "local", "local": {"path": "/var/gitpod/content"}}},
    })
}

fn report() -> Report {
    Report::new(Path::new("/"), |_| Ok(()))
}

fn read_in(document: Value, node_name: Option<&str>) -> Result<Config, Error> {
    read_groups_of(document, &report(), |root| read(root, node_name.map(str::to_owned)))
}

/// The minimal configuration with another value behind a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = minimal();
    let mut place = &mut document;
    for key in pointer.trim_start_matches('/').split('/') {
        place = match key.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[key],
        };
    }
    *place = value;
    document
}

#[track_caller]
fn has_problem(document: Value, expected: &str) {
    let error = read_in(document, None).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = read_in(minimal(), None).unwrap();
    assert_eq!(config.node, "node-1");
    assert_eq!(config.host_path, Path::new("/var/gitpod/workspaces-mk2"));
    assert_eq!(config.operations, OperationLimits { concurrent: 8, uploads: 5 });
    assert_eq!(config.deadlines.backup, Duration::from_hours(1));
    assert_eq!(config.min_free, Some(MinFree::Percent(10)));
    assert_eq!(config.housekeeping, Duration::from_mins(5));
    assert_eq!(config.format, ContentFormat::Zst);
    assert_eq!(config.health.to_string(), "127.0.0.1:9090");
    assert_eq!(config.prometheus.unwrap().to_string(), "127.0.0.1:9500");
    assert_eq!(config.helper.folders, helper::Settings::default().folders);
}

#[test]
fn the_name_of_the_node_is_in_the_file_or_in_the_environment() {
    let nameless = with("/node/name", Value::Null);
    assert_eq!(read_in(nameless.clone(), Some("node-2")).unwrap().node, "node-2");
    assert_eq!(read_in(minimal(), Some("node-2")).unwrap().node, "node-1");
    has_problem(nameless, "node.name: is required, or the environment variable NODE_NAME");
    has_problem(with("/node/name", json!("A b")), "node.name: \"A b\" is not the name of a node");
}

#[test]
fn problems_name_their_keys() {
    for (pointer, value, expected) in [
        ("/node/colour", json!("blue"), "node.colour: unknown key"),
        ("/nodes", json!({}), "nodes: unknown key"),
        ("/content/colour", json!("blue"), "content.colour: unknown key"),
        ("/node/namespaces", json!([]), "node.namespaces: must name 1 to 32 namespaces"),
        (
            "/node/namespaces/0/secretsNamespace",
            json!("workspaces"),
            "must differ from the workspace namespace",
        ),
        ("/node/namespaces/0/namespace", json!("A"), "node.namespaces[0].namespace: "),
        (
            "/node/workspaceHostPath",
            json!("x"),
            "node.workspaceHostPath: must be an absolute path on the node",
        ),
        (
            "/node/operations",
            json!({"maxConcurrent": 2, "maxUploads": 3}),
            "node.operations.maxUploads: must be at most",
        ),
        ("/node/deadlines", json!({"backup": 0}), "node.deadlines.backup: must be more than zero"),
        ("/node/helper", json!({"folders": ["usr"]}), "node.helper.folders[0]: must be absolute"),
        ("/node/helper", json!({"environment": {"A B": "x"}}), "is not the name of a variable"),
        ("/node/diskGuard", json!({"minFree": "100%"}), "node.diskGuard.minFree: \"100%\" is neither"),
        (
            "/node/quota",
            json!({"backend": "xfs-project"}),
            "node.quota.backend: xfs-project is not available yet: it waits until a machine can test it",
        ),
        (
            "/node/quota",
            json!({"backend": "zfs"}),
            "node.quota.backend: \"zfs\" is no backend: use btrfs-qgroup or measured",
        ),
        ("/node/quota", json!({"interval": 0}), "node.quota.interval: must be more than zero"),
        ("/content", json!({}), "content.storage.kind: is required"),
        ("/content/storage", json!({"kind": "local"}), "content.storage.local.path: is required"),
    ] {
        has_problem(with(pointer, value), expected);
    }
    let twice = json!([
        {"namespace": "a", "secretsNamespace": "b"},
        {"namespace": "a", "secretsNamespace": "c"},
    ]);
    has_problem(with("/node/namespaces", twice), "node.namespaces[1].namespace: is named twice");
}

#[test]
fn storage_is_limited_only_by_a_backend_that_is_named() {
    let backend = |text: Option<&str>| {
        read_in(with("/node/quota", json!({ "backend": text })), None).unwrap().quota.backend
    };
    assert_eq!(read_in(minimal(), None).unwrap().quota.backend, Backend::None);
    assert_eq!(backend(None), Backend::None);
    assert_eq!(backend(Some("measured")), Backend::Measured);
    assert_eq!(backend(Some("btrfs-qgroup")), Backend::BtrfsQgroup);
}

#[test]
fn free_space_can_be_switched_off() {
    for zero in [json!(0), json!("0%")] {
        let config = read_in(with("/node/diskGuard", json!({"minFree": zero})), None).unwrap();
        assert_eq!(config.min_free, None);
    }
    let config = read_in(with("/node/diskGuard", json!({"minFree": "20Gi"})), None).unwrap();
    assert_eq!(config.min_free, Some(MinFree::Bytes(20 << 30)));
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    let report = report();
    read_groups_of(minimal(), &report, |root| read(root, None)).unwrap();
    let known = report.known();
    let is_group = |key: &str| {
        known
            .iter()
            .any(|other| other.starts_with(&format!("{key}.")) || other.starts_with(&format!("{key}[]")))
    };
    let leaves: BTreeSet<&str> = known.iter().map(String::as_str).filter(|key| !is_group(key)).collect();
    let rows = |docs: &'static str| docs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let content = rows(MANAGER_DOCS).map(|(key, _)| key).filter(|key| key.starts_with("content."));
    let documented: BTreeSet<&str> = rows(DOCS).map(|(key, _)| key).chain(content).collect();
    assert_eq!(documented, leaves);
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let example = DOCS.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.yaml");
    std::fs::write(&file, example).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.min_free, Some(MinFree::Percent(15)));
}
