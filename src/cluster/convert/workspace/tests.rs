use super::*;
use crate::domain::placement::PlacementRequest;
use crate::domain::workspace::{IdeImage, SecretRef};

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: EnvValue::Plain(value.to_owned()) }
}

fn start() -> Start {
    Start {
        id: "a".parse().unwrap(),
        meta: "meta".parse().unwrap(),
        owner: "jane".parse().unwrap(),
        kind: Kind::Regular,
        annotations: [("mine".to_owned(), "1".to_owned()), (names::GENERATION.to_owned(), "9".to_owned())]
            .into(),
        team: None,
        project: Some("p".to_owned()),
        image: "img".to_owned(),
        ide: IdeImage::default(),
        initializer: vec![1, 2],
        token_secrets: BTreeMap::new(),
        workspace_location: String::new(),
        git: None,
        ports: Vec::new(),
        user_env: Vec::new(),
        sys_env: Vec::new(),
        admission: Access::Owner,
        timeouts: Timeouts::default(),
        ssh_public_keys: Vec::new(),
        features: Features { psi: true, ..Features::default() },
        placement: PlacementRequest::default(),
        canonical: Vec::new(),
    }
}

fn built(start: &Start) -> Workspace {
    let build = Build {
        namespace: &"ws".parse().unwrap(),
        class: "small",
        generation: 2,
        digest: &Digest("d1".to_owned()),
        installation: "i-1",
        storage_quota: Some(5),
        cpu_min_limit: Some("1"),
        cpu_burst_limit: None,
        ssh_ca_public_key: Some("key"),
    };
    workspace(start, &build)
}

#[test]
fn a_workspace_carries_its_labels_finalizer_and_annotations_and_ours_win() {
    let workspace = built(&start());
    let annotations = workspace.metadata.annotations.unwrap();
    let expected = [
        ("mine", "1"),
        ("gitpod.io/psi", "true"),
        ("gitpod.io/cpuMinLimit", "1"),
        ("spaceport.dev/generation", "2"),
        ("spaceport.dev/spec-digest", "d1"),
        ("spaceport.dev/installation", "i-1"),
        ("spaceport.dev/project", "p"),
    ];
    assert_eq!(annotations, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let labels = workspace.metadata.labels.unwrap();
    assert_eq!(labels["workspaceID"], "meta");
    assert_eq!(labels["gitpod.io/managed-by"], "spaceport");
    assert_eq!(workspace.metadata.finalizers.unwrap(), ["gitpod.io/finalizer"]);
    assert_eq!(workspace.spec.ssh_gateway_ca_public_key, None, "not asked for");
}

#[test]
fn protected_variables_go_to_the_secret_and_open_ones_stay() {
    let mut start = start();
    let reference = SecretRef { name: "s".to_owned(), key: "k".to_owned() };
    start.user_env = vec![
        variable("PASSWORD", "hunter2"),
        variable("EMPTY", ""),
        variable("GITPOD_TASKS", "t"),
        variable("THEIA_SUPERVISOR_TOKENS", "tokens"),
        variable("SYSTEM", "x"),
        EnvVar { name: "REF".to_owned(), value: EnvValue::Secret(reference) },
    ];
    start.sys_env = vec![variable("SYSTEM", "y")];
    let workspace = built(&start);
    let json = serde_json::to_value(&workspace.spec).unwrap();
    assert!(!json.to_string().contains("hunter2"));
    // echo -n PASSWORD | sha256sum
    let key = "0be64ae89ddd24e225434de95d501711339baeee18f009ba9b4369af27d30d60";
    let names: Vec<_> = workspace.spec.user_env_vars.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["PASSWORD", "GITPOD_TASKS", "THEIA_SUPERVISOR_TOKENS", "SYSTEM", "REF"]);
    let held = &json["userEnvVars"][0]["valueFrom"]["secretKeyRef"];
    assert_eq!((held["name"].as_str(), held["key"].as_str()), (Some("a-env"), Some(key)));
    assert_eq!(json["userEnvVars"][1]["value"], "t");
    assert_eq!(json["userEnvVars"][4]["valueFrom"]["secretKeyRef"]["name"], "s");
    let env = secrets(&start).env.unwrap();
    assert_eq!(env.expose().len(), 2);
    assert_eq!(env.expose()[key], "hunter2");
}

#[test]
fn no_secret_is_made_for_nothing() {
    let mut start = start();
    let none = secrets(&start);
    assert!(none.env.is_none() && none.tokens.is_none());
    start.token_secrets = [("initializer.git".to_owned(), "hunter2".to_owned())].into();
    let some = secrets(&start);
    assert!(some.tokens.is_some());
    assert!(!format!("{some:?}").contains("hunter2"));
}

#[test]
fn timeouts_are_durations_that_the_schema_takes() {
    let cases = [
        (Duration::ZERO, "0s"),
        (Duration::from_micros(1), "1ms"),
        (Duration::from_nanos(1_500_000_001), "1.501s"),
        (Duration::from_mins(90), "1h30m0s"),
    ];
    for (duration, text) in cases {
        assert_eq!(timeout_text(duration), text);
    }
}
