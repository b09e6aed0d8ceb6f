use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use domain::cluster::NamespaceSpec;
use federation::vet;

fn write(folder: &TempDir, name: &str, content: &[u8]) {
    std::fs::write(folder.path().join(name), content).unwrap();
}

/// A configuration with one class, changed.
fn configuration(folder: &TempDir, change: impl FnOnce(&mut Value)) -> PathBuf {
    write(folder, "sealing.key", &[7; 32]);
    let mut document = json!({
        "manager": {
            "urlTemplate": "https://{{ .Prefix }}.ws.example",
            "portUrlTemplate": "https://{{ .WorkspacePort }}-{{ .Prefix }}.ws.example",
            "hostURL": "https://gitpod.example",
            "workspaceClass": { "g1": {} },
        },
        "rpcServer": { "plaintext": true },
        "etcd": { "endpoints": ["http://127.0.0.1:2379"] },
        "federation": { "sealing": { "keys": [{ "id": "a", "file": "sealing.key" }] } },
    });
    change(&mut document);
    write(folder, "manager.json", document.to_string().as_bytes());
    folder.path().join("manager.json")
}

fn defaults_of(folder: &TempDir) -> Defaults {
    let (_, (defaults, ..)) = read(&configuration(folder, |_| ()), |_| Some(())).unwrap();
    defaults
}

/// Paths of the problems that a start reports.
fn problems(path: &Path) -> Vec<String> {
    let error = match load(path) {
        Ok(_) => return Vec::new(),
        Err(error) => error.to_string(),
    };
    error.lines().skip(1).filter_map(|line| Some(line.trim().split_once(": ")?.0.to_owned())).collect()
}

#[test]
fn problems_of_all_crates_are_reported_together() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "typo.yaml", b"spec: {containers: [{name: workspace, resorces: {}}]}");
    write(&folder, "unfit.yaml", b"metadata: {labels: {a: 'b c'}}");
    write(&folder, "kubeconfig", b"clusters: []");
    write(&folder, "no-folder", b"");
    let path = configuration(&folder, |document| {
        let templates = |file: &str| json!({ "templates": { "defaultPath": file } });
        document["manager"]["workspaceClass"] = json!({ "g1": templates("typo.yaml"), "g2": templates("unfit.yaml"), "g3": templates("absent.yaml") });
        document["manager"]["preferredWorkspaceClass"] = json!("g4");
        document["manager"]["templateFolder"] = json!("no-folder");
        document["manager"]["urlTemplate"] = json!("{{ .Owner }}");
        let limit = json!({ "bucketSize": 1, "refillInterval": "1s", "key": "surprise", "keyCacheSize": 1 });
        document["rpcServer"]["ratelimits"] = json!({ "/wsman.WorkspaceManager/StartWorkspace": limit });
        document["federation"]["hostKubeconfig"] = json!("kubeconfig");
        document["federation"]["sealing"] = json!({});
    });
    let mut found = problems(&path);
    found.sort();
    assert_eq!(
        found,
        [
            "federation.hostKubeconfig",
            "federation.sealing.keys",
            "manager.preferredWorkspaceClass",
            "manager.templateFolder",
            "manager.urlTemplate",
            "manager.workspaceClass.g1.templates",
            "manager.workspaceClass.g2.templates",
            "manager.workspaceClass.g3.templates.defaultPath",
            "rpcServer.ratelimits./wsman.WorkspaceManager/StartWorkspace.key",
        ]
    );
    assert!(problems(&configuration(&folder, |_| ())).is_empty());
}

#[test]
fn a_pod_template_with_a_typo_is_refused_by_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "pod.yaml", b"spec: {tolerations: [{kee: a}]}");
    let path = configuration(&folder, |document| {
        document["manager"]["workspaceClass"]["g1"] = json!({ "templates": { "regularPath": "pod.yaml" } });
    });
    let error = load(&path).map(drop).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(error.contains("pod.yaml has keys that no pod has: spec.tolerations[0].kee"), "{error}");
}

#[test]
fn one_wrong_value_of_a_namespace_hides_no_other_and_makes_none_up() {
    let folder = tempfile::tempdir().unwrap();
    let defaults = defaults_of(&folder);
    let fields = |change: fn(&mut NamespaceSpec)| {
        let mut spec = NamespaceSpec::of_defaults("workspaces".parse().unwrap(), "secrets".parse().unwrap());
        change(&mut spec);
        vet(&spec, &defaults).into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    assert!(fields(|_| ()).is_empty());
    let one_wrong = fields(|spec| {
        spec.classes = [("own".to_owned(), json!({ "container": { "requests": { "cpu": "two" } } }))].into();
        spec.preferred_class = Some("own".to_owned());
        spec.registry_facade_host = Some("https://reg".to_owned());
    });
    assert_eq!(one_wrong, ["classes.own.container.requests.cpu", "registryFacadeHost"]);
    let other = fields(|spec| {
        spec.classes = [("own".to_owned(), json!({})), ("bad".to_owned(), json!(1))].into();
        spec.preferred_class = Some("g1".to_owned());
        spec.url_template = Some("{{ .Owner }}".to_owned());
        spec.seccomp_profile = Some("/etc/profile.json".to_owned());
    });
    assert_eq!(other, ["urlTemplate", "classes.bad", "preferredClass", "seccompProfile"]);
}
