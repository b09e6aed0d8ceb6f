use k8s_openapi::api::core::v1::{Container, EnvVar as PodVariable, PodSpec};
use proptest::prelude::*;
use serde_json::json;

use super::super::workspace::secrets;
use super::super::workspace::tests::{built, start};
use super::*;
use domain::cluster::NodeAgent;
use domain::workspace::{Access, GitIdentity, Port, Protocol};

fn with(change: impl FnOnce(&mut Start)) -> Start {
    let mut start = start();
    change(&mut start);
    start
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

fn plain(name: &str, length: usize) -> EnvVar {
    EnvVar { name: name.to_owned(), value: EnvValue::Plain(text(length)) }
}

fn checked(start: &Start) -> Result {
    of_variables(start)?;
    super::of_start(start, &built(start), &secrets(start, NodeAgent::Existing))
}

fn field(result: Result) -> &'static str {
    result.unwrap_err().field
}

#[test]
fn an_ordinary_start_fits() {
    assert_eq!(checked(&start()), Ok(()));
    assert!(Parts::of(&built(&start())).total() < 8 * KIB);
}

#[test]
fn what_is_too_large_is_told_by_the_field_that_makes_it_so() {
    type Change = fn(&mut Start);
    let cases: [(&str, Change); 11] = [
        (INITIALIZER, |start| start.initializer.content = vec![7; MIB]),
        (INITIALIZER, |start| drop(start.initializer.secrets.insert("a".to_owned(), text(MIB)))),
        (OF_ANNOTATIONS, |start| drop(start.annotations.insert("a".to_owned(), text(ANNOTATIONS)))),
        ("spec.ssh_public_keys", |start| start.ssh_public_keys = vec![text(MIB)]),
        ("spec.ide_image_layers", |start| start.ide.layers = vec![text(MIB)]),
        ("spec.ide_image", |start| start.ide.web = text(MIB)),
        ("spec.workspace_image", |start| start.image = text(MIB)),
        ("spec.workspace_location", |start| start.workspace_location = text(MIB)),
        ("metadata.team", |start| start.team = Some(text(MIB))),
        ("spec.git", |start| start.git = Some(GitIdentity { username: text(MIB), email: text(1) })),
        ("spec.ports", |start| {
            let port = |port| Port { port, visibility: Access::Owner, protocol: Protocol::Http };
            start.ports = (1..=20_000).map(port).collect();
        }),
    ];
    for (wanted, change) in cases {
        assert_eq!(field(checked(&with(change))), wanted);
    }
}

#[test]
fn variables_have_a_limit_each_and_one_for_all() {
    let of = |user: Vec<EnvVar>, sys: Vec<EnvVar>| {
        checked(&with(|start| (start.user_env, start.sys_env) = (user, sys)))
    };
    let longest = VARIABLE - "A=\0".len();
    assert_eq!(of(vec![plain("A", longest)], vec![]), Ok(()));
    let one_more = of(vec![plain("B", 1), plain("A", longest + 1)], vec![]).unwrap_err();
    assert_eq!(one_more.field, ENVVARS);
    assert_eq!(
        one_more.to_string(),
        "variable 1 as NAME=value must not have more than 131072 bytes and would have 131073"
    );
    assert_eq!(field(of(vec![], vec![plain("A", longest + 1)])), SYS_ENVVARS);
    let many = |count: usize| (0..count).map(|at| plain(&format!("A{at}"), longest - 8)).collect();
    assert_eq!(of(many(7), vec![]), Ok(()));
    assert_eq!(field(of(many(9), vec![])), ENVVARS);
    assert_eq!(field(of(many(3), many(6))), SYS_ENVVARS);
}

#[test]
fn our_own_annotations_count_with_those_of_the_request() {
    let given = |length| {
        let start = with(|start| drop(start.annotations.insert("a".to_owned(), text(length))));
        (bytes_of(built(&start).metadata.annotations.as_ref()), checked(&start))
    };
    let ours = given(0).0;
    assert!(ours > 100, "{ours}");
    assert_eq!(given(ANNOTATIONS - ours).1, Ok(()));
    assert_eq!(field(given(ANNOTATIONS - ours + 1).1), OF_ANNOTATIONS);
}

#[test]
fn characters_that_the_apiserver_escapes_count_as_it_writes_them() {
    for (text, bytes) in
        [("a", 3), ("<", 8), ("&>", 14), ("\u{2028}", 8), ("\u{2029}a", 9), ("\"\n", 6), ("ü", 4)]
    {
        assert_eq!(json(&text), bytes, "{text:?}");
    }
}

#[test]
fn a_change_is_measured_with_what_is_there_and_one_that_makes_it_smaller_is_taken() {
    let keys = |length| json!({ "spec": { "sshPublicKeys": [text(length)] } });
    let grown = |workspace: &Workspace, patch: &Value| of_change(workspace, patch, RESOURCE);
    let mut workspace = built(&start());
    assert_eq!(grown(&workspace, &keys(MIB / 2)), Ok(()));
    assert_eq!(field(grown(&workspace, &keys(MIB))), "spec.ssh_public_keys");
    workspace.spec.initializer.0.0 = vec![7; MIB / 2];
    assert_eq!(field(grown(&workspace, &keys(MIB / 2))), INITIALIZER);
    // As an earlier version let it grow.
    workspace.spec.ssh_public_keys = vec![text(MIB)];
    assert_eq!(grown(&workspace, &keys(MIB - 1)), Ok(()));
    assert_eq!(field(grown(&workspace, &keys(MIB + 1))), "spec.ssh_public_keys");
    assert_eq!(grown(&workspace, &json!({ "spec": { "sshPublicKeys": null } })), Ok(()));
}

#[test]
fn a_timeout_can_be_set_however_much_ports_and_keys_have_grown() {
    let mut workspace = built(&start());
    let free = RESOURCE - Parts::of(&workspace).total();
    let keys = json!({ "spec": { "sshPublicKeys": [text(free - "\"sshPublicKeys\":[\"\"],".len())] } });
    assert_eq!(of_change(&workspace, &keys, RESOURCE), Ok(()));
    workspace = patched(&workspace, &keys).unwrap();
    let timeout = json!({ "spec": { "timeout": { "time": "1h0m0s", "closed": "0" } } });
    assert!(of_change(&workspace, &timeout, RESOURCE).is_err());
    assert_eq!(of_change(&workspace, &timeout, LARGEST), Ok(()));
}

#[test]
fn what_another_manager_made_is_adopted_only_where_it_can_still_be_changed() {
    let mut workspace = built(&start());
    assert_eq!(of_adoption(&workspace), Ok(()));
    workspace.metadata.annotations.get_or_insert_default().insert("a".to_owned(), text(256 * KIB - 200));
    assert_eq!(field(of_adoption(&workspace)), OF_ANNOTATIONS);
    workspace.metadata.annotations = None;
    workspace.spec.ssh_public_keys = vec![text(LARGEST)];
    assert_eq!(field(of_adoption(&workspace)), "spec.ssh_public_keys");
}

#[test]
fn a_pod_is_measured_with_the_variables_that_are_made_for_it() {
    let pod = |env: Vec<PodVariable>| Pod {
        spec: Some(PodSpec {
            containers: vec![Container { env: Some(env), ..Container::default() }],
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    let variable = |name: &str, length| PodVariable {
        name: name.to_owned(),
        value: Some(text(length)),
        value_from: None,
    };
    assert_eq!(of_pod(&pod(vec![variable("A", 1000)])), Ok(()));
    assert_eq!(field(of_pod(&pod(vec![variable("GITPOD_REPO_ROOTS", VARIABLE)]))), INITIALIZER);
    assert_eq!(
        field(of_pod(&pod(vec![variable("THEIA_WORKSPACE_ROOT", VARIABLE)]))),
        "spec.workspace_location"
    );
    let many = (0..9000).map(|at| variable(&format!("A{at}"), 10)).collect();
    assert_eq!(field(of_pod(&pod(many))), ENVVARS);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

/// Whether a `null` is anywhere in an object that is not in a list: a patch would remove what it stands for.
fn has_null(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(|fields| fields.values().any(has_null))
}

proptest! {
    #[test]
    fn a_merge_patch_onto_anything_is_idempotent_and_without_nulls_all_of_it_arrives(
        target in value(), patch in value()
    ) {
        let mut once = target.clone();
        merge(&mut once, &patch);
        let mut twice = once.clone();
        merge(&mut twice, &patch);
        prop_assert_eq!(&once, &twice);
        let mut into_nothing = Value::Null;
        merge(&mut into_nothing, &patch);
        if !has_null(&patch) {
            prop_assert_eq!(into_nothing, patch);
        }
    }
}
