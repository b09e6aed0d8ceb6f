use super::*;
use domain::placement::PlacementRequest;
use domain::workspace::{Access, EnvSecretRef, IdeImage, Kind, SealedInitializer};

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: EnvValue::Plain(value.to_owned()) }
}

pub(in crate::convert) fn start() -> Start {
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
        initializer: SealedInitializer { content: vec![1, 2], ..SealedInitializer::default() },
        own_agents_initializer: None,
        clear_text: Vec::new(),
        workspace_location: String::new(),
        git: None,
        ports: Vec::new(),
        user_env: Vec::new(),
        sys_env: Vec::new(),
        admission: Access::Owner,
        timeouts: OwnTimeouts::default(),
        ssh_public_keys: Vec::new(),
        features: Features { psi: true, ..Features::default() },
        placement: PlacementRequest::default(),
        canonical: Vec::new(),
    }
}

pub(in crate::convert) fn built(start: &Start) -> Workspace {
    let build = Build {
        namespace: &"ws".parse().unwrap(),
        class: "small",
        generation: 2,
        digest: &Digest("d1".to_owned()),
        installation: "i-1",
        keying: Some(&Keying { secret: 3, nonce: "0f".to_owned() }),
        placed_at: Timestamp::UNIX_EPOCH,
        node_agent: NodeAgent::Existing,
        storage_quota: Some(5),
        cpu_min_limit: Some("1"),
        cpu_burst_limit: None,
        ssh_ca_public_key: Some("key"),
    };
    workspace(start, &build)
}

#[test]
fn what_only_the_manager_sets_is_never_a_clients() {
    let mut start = start();
    for key in
        [names::CPU_MIN_LIMIT, names::CPU_BURST_LIMIT, names::CONNECTION_LIMIT, names::PSI, "spaceport.dev/x"]
    {
        assert!(is_reserved(key), "{key}");
        start.annotations.insert(key.to_owned(), "of the client".to_owned());
    }
    let annotations = built(&start).metadata.annotations.unwrap();
    assert!(annotations.values().all(|value| value != "of the client"), "{annotations:?}");
    assert_eq!(annotations["mine"], "1");
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
        ("spaceport.dev/keying", "3.0f"),
        ("spaceport.dev/placed-at", "1970-01-01T00:00:00Z"),
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
fn no_variable_stands_in_clear_text_whatever_its_name_and_whose_it_is() {
    let mut start = start();
    let reference = EnvSecretRef { name: "s".to_owned(), key: "k".to_owned() };
    start.user_env = vec![
        variable("PASSWORD", "hunter2"),
        variable("EMPTY", ""),
        variable("GITPOD_IMAGE_AUTH", "hunter2"),
        variable("THEIA_SUPERVISOR_TOKENS", "hunter2"),
        variable("BOTH", "hunter2-user"),
        EnvVar { name: "REF".to_owned(), value: EnvValue::Secret(reference) },
    ];
    start.sys_env = vec![variable("BOTH", "hunter2-system"), variable("NODE_EXTRA_CA_CERTS", "hunter2")];
    let workspace = built(&start);
    let json = serde_json::to_value(&workspace.spec).unwrap();
    assert!(!json.to_string().contains("hunter2"));
    // echo -n PASSWORD | sha256sum
    let key = "0be64ae89ddd24e225434de95d501711339baeee18f009ba9b4369af27d30d60";
    let names: Vec<_> = workspace.spec.user_env_vars.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["PASSWORD", "GITPOD_IMAGE_AUTH", "THEIA_SUPERVISOR_TOKENS", "BOTH", "REF"]);
    let held = &json["userEnvVars"][0]["valueFrom"]["secretKeyRef"];
    assert_eq!((held["name"].as_str(), held["key"].as_str()), (Some("a-env"), Some(key)));
    assert_eq!(json["userEnvVars"][4]["valueFrom"]["secretKeyRef"]["name"], "s");
    let env = secrets(&start, NodeAgent::Existing).env.unwrap();
    assert_eq!(env.expose().len(), 6);
    assert_eq!(env.expose()[key], "hunter2");
    let held = |list: &str, at: usize| {
        let key = json[list][at]["valueFrom"]["secretKeyRef"]["key"].as_str().unwrap();
        env.expose()[key].as_str()
    };
    assert_eq!((held("userEnvVars", 3), held("sysEnvVars", 0)), ("hunter2-user", "hunter2-system"));
}

#[test]
fn an_initializer_is_sealed_for_the_node_agent_that_serves_there() {
    let mut start = start();
    let own = SealedInitializer { content: vec![9], secrets: [("k".to_owned(), "v".to_owned())].into() };
    start.own_agents_initializer = Some(own);
    assert_eq!(start.initializer_for(NodeAgent::Existing).content, [1, 2]);
    assert_eq!(start.initializer_for(NodeAgent::Spaceport).content, [9]);
    assert!(secrets(&start, NodeAgent::Existing).tokens.is_none());
    assert_eq!(secrets(&start, NodeAgent::Spaceport).tokens.unwrap().expose()["k"], "v");
}

#[test]
fn no_secret_is_made_for_nothing() {
    let mut start = start();
    let none = secrets(&start, NodeAgent::Existing);
    assert!(none.env.is_none() && none.tokens.is_none());
    start.initializer.secrets = [("initializer.git".to_owned(), "hunter2".to_owned())].into();
    let some = secrets(&start, NodeAgent::Existing);
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
