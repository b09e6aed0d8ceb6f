//! The whole pod is compared with a file (`UPDATE_EXPECT=1` rewrites it); the tests check the variations.

use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use prost::Message;
use serde_json::{Value, json};

use crate::decide::tests::{Scene, fresh};
use crate::settings::ClassSettings;
use crate::templates::PodTemplates;
use domain::pod_annotations::PodAnnotations;
use domain::workspace::{GitIdentity, Kind};
use k8s::resources::Workspace;
use proto::contentservice::{
    CompositeInitializer, FromBackupInitializer, GitInitializer, PrebuildInitializer, WorkspaceInitializer,
    workspace_initializer::Spec,
};

use super::*;

fn git(location: &str) -> GitInitializer {
    GitInitializer { checkout_location: location.to_owned(), ..GitInitializer::default() }
}

fn initializer(spec: Spec) -> WorkspaceInitializer {
    WorkspaceInitializer { spec: Some(spec) }
}

fn set_initializer(workspace: &mut Workspace, spec: Spec) {
    workspace.spec.initializer.0 = ByteString(initializer(spec).encode_to_vec());
}

/// A workspace with everything that can be set.
fn full() -> Scene {
    let mut scene = fresh();
    let spec = &mut scene.workspace.spec;
    spec.git =
        Some(Box::new(GitIdentity { email: "jane@example.com".to_owned(), username: "Jane".to_owned() }));
    spec.image.workspace.reference = Some("docker.io/library/debian:13".to_owned());
    spec.workspace_location = "project/src".to_owned();
    spec.ssh_gateway_ca_public_key = Some("ssh-ed25519 AAAA".to_owned());
    let variables = json!([
        {"name": "PLAIN", "value": "1"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "a-env", "key": "k"}}},
        {"name": "EMPTY", "value": ""},
        {"name": "GITPOD_TASKS", "value": "[]"},
        {"name": "GITPOD_HOST", "value": "evil"},
    ]);
    spec.user_env_vars = serde_json::from_value(variables).unwrap();
    spec.sys_env_vars = serde_json::from_value(json!([{"name": "SYSTEM", "value": "2"}])).unwrap();
    set_initializer(&mut scene.workspace, Spec::Git(git("project")));
    scene.workspace.metadata.annotations =
        Some([("gitpod.io/psi".to_owned(), "true".to_owned())].into_iter().collect());
    scene.settings.custom_ca = true;
    scene
}

fn built(scene: &Scene) -> Pod {
    build(&PodInput::parse(&scene.workspace, &scene.settings).unwrap())
}

fn value(scene: &Scene) -> Value {
    serde_json::to_value(built(scene)).unwrap()
}

fn environment(pod: &Value) -> Vec<(String, String)> {
    let list = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.iter().map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

fn variable(pod: &Value, name: &str) -> Option<String> {
    environment(pod).into_iter().find(|(there, _)| there == name).map(|(_, value)| value)
}

/// A workspace without a registry facade, whose image has no workspacekit.
fn plain() -> Scene {
    let mut scene = full();
    scene.settings.registry_facade_host = None;
    scene.settings.workspacekit = false;
    scene
}

fn check_file(scene: &Scene, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pod/testdata").join(file);
    let is = serde_json::to_string_pretty(&value(scene)).unwrap() + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &is).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(is, expected, "UPDATE_EXPECT=1 writes {} anew", path.display());
}

#[test]
fn the_whole_pod() {
    check_file(&full(), "regular.json");
}

#[test]
fn the_whole_pod_without_a_facade_and_a_kit() {
    check_file(&plain(), "plain.json");
}

#[test]
fn a_headless_pod_says_so_and_runs_on_other_nodes() {
    let pod = value(&full().kind(Kind::Prebuild));
    assert_eq!(pod["metadata"]["name"], "prebuild-a");
    assert_eq!(pod["metadata"]["labels"]["gitpod.io/headless"], "true");
    assert_eq!(pod["metadata"]["labels"]["workspaceType"], "prebuild");
    assert_eq!(variable(&pod, "GITPOD_HEADLESS").as_deref(), Some("true"));
    assert!(node_labels(&pod).contains(&"gitpod.io/workload_workspace_headless".to_owned()));
}

#[test]
fn a_pod_requires_nodes_for_its_workspace_type() {
    let check = |kind: Kind, label: &str| {
        let labels = node_labels(&value(&full().kind(kind)));
        let of_work: Vec<&String> = labels.iter().filter(|label| label.contains("workload")).collect();
        assert_eq!(of_work, [&format!("gitpod.io/workload_workspace_{label}")], "{kind:?}");
    };
    check(Kind::Regular, "regular");
    check(Kind::Prebuild, "headless");
    check(Kind::ImageBuild, "headless");
}

fn node_labels(pod: &Value) -> Vec<String> {
    let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    assert_eq!(terms.as_array().unwrap().len(), 1);
    let expressions = terms[0]["matchExpressions"].as_array().unwrap();
    expressions.iter().map(|expression| expression["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn without_a_facade_and_a_kit_the_image_runs_as_it_is() {
    let pod = value(&plain());
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["image"], "docker.io/library/debian:13");
    assert!(container.get("command").is_none() && container.get("readinessProbe").is_none());
    assert_eq!(
        node_labels(&pod),
        ["gitpod.io/workload_workspace_regular", "gitpod.io/ws-daemon_ready_ns_workspaces"]
    );
}

#[test]
fn checkout_roots_come_from_wherever_repositories_are() {
    let check = |spec: Spec, roots: &str| {
        let mut scene = fresh();
        set_initializer(&mut scene.workspace, spec);
        let pod = value(&scene);
        assert_eq!(variable(&pod, "GITPOD_REPO_ROOTS").as_deref(), Some(roots));
        assert_eq!(variable(&pod, "GITPOD_REPO_ROOT").as_deref(), roots.split(',').next());
    };
    check(Spec::Git(git("/workspace/a")), "/workspace/a");
    let backup =
        FromBackupInitializer { checkout_location: "b".to_owned(), ..FromBackupInitializer::default() };
    check(Spec::Backup(backup), "/workspace/b");
    let prebuild = PrebuildInitializer { git: vec![git("c"), git("d")], ..PrebuildInitializer::default() };
    check(Spec::Prebuild(prebuild.clone()), "/workspace/c,/workspace/d");
    let nested = vec![initializer(Spec::Git(git("a"))), initializer(Spec::Prebuild(prebuild))];
    let composite = CompositeInitializer { initializer: nested };
    check(Spec::Composite(composite), "/workspace/a,/workspace/c,/workspace/d");
    check(Spec::Composite(CompositeInitializer::default()), "/workspace");
}

#[test]
fn variables_of_the_user_do_not_replace_those_of_the_system() {
    let pod = value(&full());
    let names: Vec<String> = environment(&pod).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| *name == "GITPOD_HOST").count(), 1);
    assert_eq!(variable(&pod, "GITPOD_HOST").as_deref(), Some("https://example.com"));
    assert!(names.contains(&"GITPOD_TASKS".to_owned()) && names.contains(&"SECRET".to_owned()));
    assert!(!names.contains(&"EMPTY".to_owned()));
}

#[test]
fn users_may_set_nine_of_the_reserved_variables() {
    let allowed = [
        "GITPOD_WORKSPACE_CONTEXT",
        "GITPOD_WORKSPACE_CONTEXT_URL",
        "GITPOD_TASKS",
        "GITPOD_RESOLVED_EXTENSIONS",
        "GITPOD_EXTERNAL_EXTENSIONS",
        "GITPOD_WORKSPACE_CLASS_INFO",
        "GITPOD_IDE_ALIAS",
        "GITPOD_RLIMIT_CORE",
        "GITPOD_IMAGE_AUTH",
    ];
    let others = ["GITPOD_", "GITPOD_TASKS2", "GITPOD_TOKEN", "GITPOD_REPO_ROOT", "GITPOD_MEMORY"];
    let free = ["gitpod_tasks", "GITPOD", "MY_GITPOD_TOKEN", "THEIA_X"];
    let mut scene = full();
    let all = [&allowed[..], &others, &free].concat();
    scene.workspace.spec.user_env_vars = all
        .iter()
        .map(|name| serde_json::from_value(json!({"name": name, "value": "user"})).unwrap())
        .collect();
    let env = environment(&value(&scene));
    let of_user: Vec<&str> =
        env.iter().filter(|(_, value)| value == "user").map(|(name, _)| name.as_str()).collect();
    assert_eq!(of_user, [&allowed[..], &free].concat());
}

#[test]
fn a_workspace_without_a_valid_pod_is_an_error_with_the_reason() {
    let check = |spoil: fn(&mut Scene), text: &str| {
        let mut scene = full();
        spoil(&mut scene);
        let error = PodInput::parse(&scene.workspace, &scene.settings).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    };
    check(
        |scene| scene.workspace.spec.class = "huge".to_owned(),
        "workspace class \"huge\" is not configured in this namespace; it has g1-standard",
    );
    check(|scene| scene.workspace.spec.initializer.0.0 = vec![255, 0, 1], "the initializer cannot be read");
    check(|scene| scene.workspace.metadata.uid = None, "no name or uid");
    check(|scene| scene.workspace.metadata.name = Some(String::new()), "no name or uid");
    let no_image = |scene: &mut Scene| {
        scene.settings.registry_facade_host = None;
        scene.workspace.spec.image.workspace.reference = Some(String::new());
    };
    check(no_image, "spec.image.workspace.ref is empty");
}

#[test]
fn an_initializer_that_nests_too_deep_is_an_error() {
    let mut scene = full();
    let mut nested = initializer(Spec::Git(git("a")));
    for _ in 0..200 {
        nested = initializer(Spec::Composite(CompositeInitializer { initializer: vec![nested] }));
    }
    scene.workspace.spec.initializer.0 = ByteString(nested.encode_to_vec());
    assert!(PodInput::parse(&scene.workspace, &scene.settings).is_err());
}

#[test]
fn zero_resources_of_the_class_are_not_set() {
    let pod = value(&full());
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"], json!({"cpu": "4", "memory": "8Gi"}));
    assert_eq!(resources["requests"], json!({"cpu": "1500m", "memory": "4Gi", "ephemeral-storage": "5Gi"}));
    assert_eq!(variable(&pod, "GITPOD_CPU_COUNT").as_deref(), Some("2"));
    assert_eq!(variable(&pod, "GITPOD_MEMORY").as_deref(), Some("4096"));
}

fn template(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn with_templates(mut scene: Scene, templates: &PodTemplates) -> Scene {
    let class = scene.settings.classes["g1-standard"].class.clone();
    scene.settings.classes.insert("g1-standard".to_owned(), ClassSettings::new(class, templates));
    scene
}

#[test]
fn a_template_fills_what_is_empty_and_overrides_the_container() {
    let template = template(json!({
        "metadata": {"labels": {"team": "x", "owner": "nobody"}},
        "spec": {
            "automountServiceAccountToken": true,
            "priorityClassName": "workspaces",
            "hostname": "other",
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "pool", "operator": "Exists"}]},
            ]}}},
            "containers": [
                {"name": "workspace", "imagePullPolicy": "Always", "env": [{"name": "X", "value": "1"}],
                 "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 9}},
                {"name": "sidecar", "image": "x"},
            ],
        },
    }));
    let pod =
        value(&with_templates(full(), &PodTemplates { default: Some(template), ..PodTemplates::default() }));
    let (spec, labels) = (&pod["spec"], &pod["metadata"]["labels"]);
    assert_eq!((labels["team"].as_str(), labels["owner"].as_str()), (Some("x"), Some("jane")));
    assert_eq!(spec["priorityClassName"], "workspaces");
    assert_eq!(spec["hostname"], "meta-1");
    assert_eq!(spec["automountServiceAccountToken"], false, "what is set explicitly is not empty");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 4);
    assert!(node_labels(&pod).contains(&"pool".to_owned()), "expressions narrow the one term");
    let containers = spec["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "no sidecars");
    assert_eq!(containers[0]["imagePullPolicy"], "Always");
    assert_eq!(environment(&pod).last(), Some(&("X".to_owned(), "1".to_owned())));
    let probe = &containers[0]["readinessProbe"];
    assert_eq!(probe["tcpSocket"]["port"], 80);
    assert!(probe.get("httpGet").is_none(), "only one handler");
    assert_eq!(probe["periodSeconds"], 1);
}

#[test]
fn a_template_of_a_type_is_merged_into_the_default_one_or_used_alone() {
    let named = |name: &str, policy: &str| {
        Some(template(json!({"spec": {
            "priorityClassName": name,
            "containers": [{"name": "workspace", "imagePullPolicy": policy}],
        }})))
    };
    let both = PodTemplates {
        default: named("default", "Never"),
        regular: named("regular", "Always"),
        ..PodTemplates::default()
    };
    let pod = value(&with_templates(full(), &both));
    assert_eq!(pod["spec"]["priorityClassName"], "default");
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
    let alone = PodTemplates { regular: named("regular", "Always"), ..PodTemplates::default() };
    assert_eq!(value(&with_templates(full(), &alone))["spec"]["priorityClassName"], "regular");
    let prebuild = with_templates(full().kind(Kind::Prebuild), &alone);
    assert!(value(&prebuild)["spec"].get("priorityClassName").is_none());
}

#[test]
fn node_selector_terms_of_a_template_narrow_the_single_term_or_are_used_alone() {
    let term = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    let affine = |terms: Value| {
        template(json!({"spec": {"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}}}))
    };
    let merged = |base: Value, more: Value| {
        let pod = serde_json::to_value(merge_templates(&affine(base), &affine(more))).unwrap();
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            .clone()
    };
    assert_eq!(merged(json!([]), json!([term("a"), term("b")])), json!([term("a"), term("b")]));
    let two = json!({"matchExpressions": [
        {"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"},
    ]});
    assert_eq!(merged(json!([term("a")]), json!([term("b")])), json!([two]));
    let ambiguous = json!([term("a"), term("b")]);
    assert_eq!(merged(ambiguous.clone(), json!([term("c")])), ambiguous);
}

#[test]
fn between_templates_maps_gain_keys_lists_grow_and_containers_are_matched_by_name() {
    let default = template(json!({
        "metadata": {"labels": {"a": "1"}},
        "spec": {
            "tolerations": [{"key": "a"}],
            "containers": [{"name": "workspace", "image": "a", "env": [{"name": "A", "value": "1"}]}],
        },
    }));
    let of_type = template(json!({
        "metadata": {"labels": {"a": "2", "b": "2"}},
        "spec": {
            "tolerations": [{"key": "b"}],
            "containers": [
                {"name": "workspace", "image": "b", "env": [{"name": "B", "value": "2"}],
                 "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 7}},
            ],
            "initContainers": [{"name": "setup"}],
        },
    }));
    let pod = serde_json::to_value(merge_templates(&default, &of_type)).unwrap();
    assert_eq!(pod["metadata"]["labels"], json!({"a": "1", "b": "2"}));
    let spec = &pod["spec"];
    assert_eq!(spec["tolerations"], json!([{"key": "a"}, {"key": "b"}]));
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "b");
    assert_eq!(container["env"], json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 7});
    assert_eq!(container["livenessProbe"], probe, "the one probe there is, as a whole");
    let complete =
        with_templates(full(), &PodTemplates { default: Some(of_type), ..PodTemplates::default() });
    assert!(value(&complete)["spec"].get("initContainers").is_none(), "nobody may add containers");
}

/// Annotations that steer networks, meshes, AppArmor and user namespaces, or that the manager itself writes.
const HOSTILE: [(&str, &str); 14] = [
    ("cni.projectcalico.org/ipAddrs", "[\"10.0.0.1\"]"),
    ("k8s.v1.cni.cncf.io/networks", "host-net"),
    ("sidecar.istio.io/inject", "true"),
    ("container.apparmor.security.beta.kubernetes.io/workspace", "unconfined"),
    ("io.kubernetes.cri-o.userns-mode", "auto"),
    ("kubernetes.io/egress-bandwidth", "100G"),
    ("prometheus.io/path", "/else"),
    ("prometheus.io/scrape", "false"),
    ("prometheus.io/port", "1"),
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "true"),
    ("gitpod.io/cpuMinLimit", "64"),
    ("gitpod.io/cpuBurstLimit", "64"),
    ("gitpod.io/netConnLimitPerMinute", "0"),
    ("gitpod.io/psi", "maybe"),
];

/// A pod's annotations, where its Workspace has `annotations` and the configuration allows `allowed`.
fn annotated(annotations: &[(&str, &str)], allowed: &[&str], template: Option<Value>) -> Value {
    let mut scene = full();
    let all = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    scene.workspace.metadata.annotations = Some(all.collect());
    scene.settings.pod_annotations = PodAnnotations::parse(allowed).unwrap();
    let default = template.map(|template| serde_json::from_value(template).unwrap());
    value(&with_templates(scene, &PodTemplates { default, ..PodTemplates::default() }))["metadata"]["annotations"]
        .clone()
}

#[test]
fn annotations_of_a_workspace_are_not_copied_to_its_pod() {
    let own = json!({
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "gitpod.io/cpuBurstLimit": "4",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": "23000",
        "prometheus.io/scrape": "true",
    });
    assert_eq!(annotated(&[], &[], None), own);
    assert_eq!(annotated(&HOSTILE, &[], None), own, "whoever put them there");
    assert_eq!(
        annotated(&[("spaceport.dev/project", "x"), ("spaceport.dev/generation", "3")], &[], None),
        own
    );
    let wide = ["prometheus.io/*", "gitpod.io/*", "cluster-autoscaler.kubernetes.io/*"];
    assert_eq!(annotated(&HOSTILE, &wide, None), own, "however wide the allow-list");
}

#[test]
fn switches_for_the_node_agent_reach_the_pod_as_the_manager_writes_them() {
    let switches = [("gitpod.io/psi", "true"), ("gitpod.io/netConnLimitPerMinute", "true")];
    let pod = annotated(&switches, &[], None);
    assert_eq!(
        (&pod["gitpod.io/psi"], &pod["gitpod.io/netConnLimitPerMinute"]),
        (&json!("true"), &json!("true"))
    );
}

#[test]
fn an_allowed_annotation_reaches_the_pod_unless_the_template_sets_it() {
    let sent = [("example.com/team", "client"), ("example.com/cost", "client"), ("example.org/x", "client")];
    let template = json!({"metadata": {"annotations": {"example.com/team": "admin"}}});
    let pod = annotated(&sent, &["example.com/*"], Some(template));
    assert_eq!((&pod["example.com/team"], &pod["example.com/cost"]), (&json!("admin"), &json!("client")));
    assert!(pod.get("example.org/x").is_none());
}

#[test]
fn no_template_changes_what_the_manager_writes_on_pods() {
    let template = json!({"metadata": {
        "annotations": {"prometheus.io/port": "1", "gitpod.io/cpuBurstLimit": "64"},
        "labels": {"component": "ws-proxy", "gitpod.io/networkpolicy": "none", "owner": "x"},
    }});
    assert_eq!(annotated(&[], &[], Some(template.clone())), annotated(&[], &[], None));
    let default = Some(serde_json::from_value(template).unwrap());
    let pod = value(&with_templates(full(), &PodTemplates { default, ..PodTemplates::default() }));
    assert_eq!(pod["metadata"]["labels"], value(&full())["metadata"]["labels"]);
}

/// The whole policy is evaluated in `e2e/repository/network.rs`.
#[test]
fn the_network_policy_selects_the_pods_of_every_kind_of_workspace() {
    let text = include_str!("../../../clusters/member/networkpolicy.yaml");
    let policies: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let policy = policies.iter().find(|policy| policy["metadata"]["name"] == "workspace-default").unwrap();
    let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
    assert!(!wanted.is_empty() && policy["spec"]["podSelector"].as_object().unwrap().len() == 1);
    for scene in [full(), plain()] {
        for kind in [Kind::Regular, Kind::Prebuild, Kind::ImageBuild] {
            let labels = value(&scene.clone().kind(kind))["metadata"]["labels"].clone();
            assert!(wanted.iter().all(|(key, value)| labels[key] == *value), "{kind:?}: {labels}");
        }
    }
}
