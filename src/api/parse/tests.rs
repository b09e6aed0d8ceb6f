use prost::Message;
use tonic_types::StatusExt;

use super::*;
use crate::domain::workspace::{Access, EnvValue, Kind, Port, Protocol, Start};
use crate::proto::contentservice::{
    CompositeInitializer, EmptyInitializer, GitConfig, GitInitializer, PrebuildInitializer,
    WorkspaceInitializer, workspace_initializer::Spec,
};

fn request() -> wsman::StartWorkspaceRequest {
    wsman::StartWorkspaceRequest {
        id: "ws-1".into(),
        service_prefix: "meta-1".into(),
        metadata: Some(wsman::WorkspaceMetadata {
            owner: "jane".into(),
            meta_id: "meta-1".into(),
            ..Default::default()
        }),
        spec: Some(wsman::StartWorkspaceSpec {
            workspace_image: "image".into(),
            workspace_location: "/".into(),
            initializer: Some(from(Spec::Empty(EmptyInitializer {}))),
            ..Default::default()
        }),
        r#type: 0,
    }
}

fn from(spec: Spec) -> WorkspaceInitializer {
    WorkspaceInitializer { spec: Some(spec) }
}

fn git(password: &str) -> GitInitializer {
    GitInitializer {
        remote_uri: "https://example.org/a.git".into(),
        config: Some(GitConfig { auth_password: password.into(), ..Default::default() }),
        ..Default::default()
    }
}

fn with(change: impl FnOnce(&mut wsman::StartWorkspaceSpec)) -> Result<Start, Status> {
    let mut request = request();
    change(request.spec.as_mut().unwrap());
    start(request)
}

/// The fields that a refused request names.
fn fields<T: std::fmt::Debug>(result: Result<T, Status>) -> Vec<String> {
    let status = result.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let details = status.get_details_bad_request().unwrap();
    details.field_violations.into_iter().map(|violation| violation.field).collect()
}

#[test]
fn an_empty_request_names_every_missing_field_and_does_not_panic() {
    assert_eq!(
        fields(start(wsman::StartWorkspaceRequest::default())),
        ["id", "metadata", "metadata.meta_id", "metadata.owner", "service_prefix", "spec"]
    );
    let mut without_contents = request();
    without_contents.spec = Some(wsman::StartWorkspaceSpec::default());
    assert_eq!(
        fields(start(without_contents)),
        ["spec.workspace_image", "spec.workspace_location", "spec.initializer"]
    );
}

#[test]
fn a_minimal_request_is_taken_without_ide_and_git() {
    let start = start(request()).unwrap();
    assert_eq!(start.kind, Kind::Regular);
    assert_eq!(start.ide.web, "");
    assert_eq!(start.admission, Access::Owner);
}

#[test]
fn ports_are_checked_for_range_and_repetition() {
    let port = |port| wsman::PortSpec { port, ..Default::default() };
    assert_eq!(
        fields(with(|spec| spec.ports = vec![port(0), port(65_536)])),
        ["spec.ports[0].port", "spec.ports[1].port"]
    );
    assert_eq!(fields(with(|spec| spec.ports = vec![port(80), port(80)])), ["spec.ports[1].port"]);
    let public = wsman::PortSpec { port: 8080, visibility: 1, protocol: 1, ..Default::default() };
    let start = with(|spec| spec.ports = vec![public]).unwrap();
    let expected = Port { port: 8080, visibility: Access::Everyone, protocol: Protocol::Https };
    assert_eq!(start.ports, [expected]);
}

#[test]
fn a_timeout_must_be_a_duration_that_the_resource_can_hold() {
    for bad in ["1", "x", "-5m", "5us"] {
        assert_eq!(fields(with(|spec| spec.timeout = bad.into())), ["spec.timeout"], "{bad}");
    }
    let start = with(|spec| spec.closed_timeout = "1h30m".into()).unwrap();
    assert_eq!(start.timeouts.closed, Some(std::time::Duration::from_mins(90)));
}

#[test]
fn unknown_numbers_of_enums_are_refused() {
    assert_eq!(fields(with(|spec| spec.admission = 7)), ["spec.admission"]);
    assert_eq!(fields(with(|spec| spec.feature_flags = vec![3])), ["spec.feature_flags"]);
    let mut unknown_type = request();
    unknown_type.r#type = 9;
    assert_eq!(fields(start(unknown_type)), ["type"]);
}

#[test]
fn passwords_leave_the_initializer_under_their_path() {
    let nested = from(Spec::Composite(CompositeInitializer {
        initializer: vec![
            from(Spec::Git(git("one"))),
            from(Spec::Prebuild(PrebuildInitializer { prebuild: None, git: vec![git("two"), git("")] })),
        ],
    }));
    let start = with(|spec| spec.initializer = Some(nested)).unwrap();
    let secrets: Vec<(&str, &str)> =
        start.token_secrets.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        secrets,
        [("initializer.composite.0.git", "one"), ("initializer.composite.1.prebuild.0.git", "two")]
    );
    let stored = WorkspaceInitializer::decode(start.initializer.as_slice()).unwrap();
    let shown = String::from_utf8_lossy(&start.initializer).into_owned();
    assert!(shown.contains("extracted-secret/initializer.composite.0.git"));
    assert!(!shown.contains("one\u{0}"));
    assert!(matches!(stored.spec, Some(Spec::Composite(_))));
}

#[test]
fn a_git_initializer_without_configuration_is_taken() {
    let bare = GitInitializer { remote_uri: "https://example.org/a.git".into(), ..Default::default() };
    assert!(with(|spec| spec.initializer = Some(from(Spec::Git(bare)))).is_ok());
    assert_eq!(
        fields(with(|spec| spec.initializer = Some(from(Spec::Git(GitInitializer::default()))))),
        ["spec.initializer.git.remote_uri"]
    );
    assert_eq!(
        fields(with(|spec| spec.initializer = Some(WorkspaceInitializer::default()))),
        ["spec.initializer"]
    );
}

#[test]
fn annotations_of_our_own_and_malformed_ones_are_refused() {
    for key in ["spaceport.dev/generation", "a b", "UPPER.example/x", ""] {
        let mut bad = request();
        bad.metadata.as_mut().unwrap().annotations.insert(key.into(), "x".into());
        assert_eq!(fields(start(bad)), ["metadata.annotations"], "{key}");
    }
    let mut good = request();
    good.metadata.as_mut().unwrap().annotations.insert("example.org/Key_1".into(), "x".into());
    assert!(start(good).is_ok());
}

#[test]
fn a_reference_takes_precedence_over_a_value_and_nameless_variables_are_dropped() {
    let secret = wsman::environment_variable::SecretKeyRef { secret_name: "s".into(), key: "k".into() };
    let start = with(|spec| {
        spec.envvars = vec![
            wsman::EnvironmentVariable { name: "A".into(), value: "v".into(), secret: Some(secret) },
            wsman::EnvironmentVariable { name: String::new(), value: "v".into(), secret: None },
        ];
    })
    .unwrap();
    assert_eq!(start.user_env.len(), 1);
    assert!(matches!(start.user_env[0].value, EnvValue::Secret(_)));
}

#[test]
fn placement_wishes_are_parsed_and_their_errors_named() {
    let wish =
        wsman::Placement { regions: vec!["Europe".into()], cluster: "EU".into(), ..Default::default() };
    assert_eq!(
        fields(with(|spec| spec.placement = Some(wish))),
        ["spec.placement.regions[0]", "spec.placement.cluster"]
    );
    let wish = wsman::Placement { require_region: true, ..Default::default() };
    assert_eq!(fields(with(|spec| spec.placement = Some(wish))), ["spec.placement.require_region"]);
}

#[test]
fn the_same_request_has_the_same_canonical_form_whatever_the_order_of_its_maps() {
    let with_annotations = |keys: [&str; 3]| {
        let mut request = request();
        let annotations = &mut request.metadata.as_mut().unwrap().annotations;
        annotations.extend(keys.map(|key| (key.to_owned(), key.to_owned())));
        start(request).unwrap().canonical
    };
    assert_eq!(with_annotations(["a", "b", "c"]), with_annotations(["c", "a", "b"]));
    assert_ne!(with_annotations(["a", "b", "c"]), with_annotations(["d", "a", "b"]));
}

#[test]
fn what_is_read_of_a_log_is_checked() {
    let of = |since: Option<prost_types::Duration>| {
        let resume_token = String::new();
        logs(&v1::LogsRequest {
            id: "ws".into(),
            follow: true,
            tail: Some(0),
            since,
            previous: true,
            resume_token,
        })
    };
    let minutes = prost_types::Duration { seconds: 300, nanos: 0 };
    let (id, options) = of(Some(minutes)).unwrap();
    let since = Some(Duration::from_mins(5));
    assert_eq!(
        (id.as_str(), options),
        ("ws", LogOptions { follow: true, tail: Some(0), since, previous: true, after: None })
    );
    let resumed = |follow, token: &str| {
        let resume_token = token.to_owned();
        logs(&v1::LogsRequest { id: "ws".into(), follow, resume_token, ..v1::LogsRequest::default() })
    };
    let token = "2026-11-24T12:00:00Z/1/2";
    assert_eq!(resumed(true, token).unwrap().1.after.unwrap().to_string(), token);
    for bad in [resumed(false, token), resumed(true, "x")] {
        assert_eq!(fields(bad), ["resume_token"]);
    }
    assert_eq!(of(None).unwrap().1.since, None);
    for seconds in [0, -1] {
        let given = prost_types::Duration { seconds, nanos: 0 };
        assert_eq!(fields(of(Some(given))), ["since"], "{seconds}");
    }
    assert_eq!(fields(logs(&v1::LogsRequest::default())), ["id"]);
}
