use prost::Message;
use tonic_types::StatusExt;

use super::*;
use domain::workspace::{Access, EnvValue, Kind, Port, Protocol, SealedInitializer, Start};
use proto::contentservice::{
    CompositeInitializer, EmptyInitializer, FileDownloadInitializer, GitConfig, GitInitializer,
    PrebuildInitializer, WorkspaceInitializer, file_download_initializer, workspace_initializer::Spec,
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

fn at(checkout_location: &str, git: GitInitializer) -> GitInitializer {
    GitInitializer { checkout_location: checkout_location.into(), ..git }
}

fn with(change: impl FnOnce(&mut wsman::StartWorkspaceSpec)) -> Result<Start, Status> {
    let mut request = request();
    change(request.spec.as_mut().unwrap());
    start(request)
}

/// The fields that a rejected request names.
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
            from(Spec::Prebuild(PrebuildInitializer {
                prebuild: None,
                git: vec![at("a", git("two")), at("b", git(""))],
            })),
        ],
    }));
    let start = with(|spec| spec.initializer = Some(nested)).unwrap();
    let secrets: Vec<(&str, &str)> =
        start.initializer.secrets.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        secrets,
        [("initializer.composite.0.git", "one"), ("initializer.composite.1.prebuild.0.git", "two")]
    );
    let stored = WorkspaceInitializer::decode(start.initializer.content.as_slice()).unwrap();
    let shown = String::from_utf8_lossy(&start.initializer.content).into_owned();
    assert!(shown.contains("extracted-secret/initializer.composite.0.git"));
    assert!(!shown.contains("one\u{0}"));
    assert!(matches!(stored.spec, Some(Spec::Composite(_))));
}

fn stored_git(sealed: &SealedInitializer) -> GitInitializer {
    match WorkspaceInitializer::decode(sealed.content.as_slice()).unwrap().spec {
        Some(Spec::Git(git)) => git,
        other => panic!("{other:?}"),
    }
}

#[test]
fn user_and_password_of_a_url_become_basic_authentication() {
    let cloned = |url: &str| {
        let git = GitInitializer { remote_uri: url.into(), ..GitInitializer::default() };
        let start = with(|spec| spec.initializer = Some(from(Spec::Git(git)))).unwrap();
        let stored = stored_git(&start.initializer);
        let config = stored.config.unwrap_or_default();
        let password = start.initializer.secrets.get("initializer.git").cloned().unwrap_or_default();
        (stored.remote_uri, config.authentication, config.auth_user, password)
    };
    let git = |url: &str, method, user: &str, password: &str| {
        (url.to_owned(), method, user.to_owned(), password.to_owned())
    };
    assert_eq!(
        cloned("https://jane:hunt%20er%3a2@example.org/a.git?x=@y"),
        git("https://example.org/a.git?x=@y", 1, "jane", "hunt er:2")
    );
    assert_eq!(cloned("HTTP://a@b:c@example.org"), git("HTTP://example.org", 1, "a@b", "c"));
    assert_eq!(cloned("https://t0ken@example.org/"), git("https://example.org/", 1, "t0ken", ""));
    for plain in [
        "https://example.org/~jane/a.git",
        "https://example.org/a@b",
        "git@example.org:a/b.git",
        "ssh://git@example.org/a",
    ] {
        assert_eq!(cloned(plain), git(plain, 0, "", ""));
    }
}

#[test]
fn a_password_that_looks_like_a_reference_is_a_password() {
    let mut initializer = git("extracted-secret/other");
    initializer.upstream_remote_uri = "https://example.org/a.git".into();
    let start = with(|spec| spec.initializer = Some(from(Spec::Git(initializer)))).unwrap();
    assert_eq!(start.initializer.secrets["initializer.git"], "extracted-secret/other");
    assert_eq!(
        stored_git(&start.initializer).config.unwrap().auth_password,
        "extracted-secret/initializer.git"
    );
    assert_eq!(start.own_agents_initializer, None);
}

#[test]
fn secrets_are_extracted_for_the_own_node_agent_and_listed_for_others() {
    let config = GitConfig {
        custom_config: [("http.extraHeader".to_owned(), "hunter2-header".to_owned())].into(),
        authentication: 2,
        auth_user: "hunter2-user".into(),
        auth_password: "hunter2-password".into(),
        auth_ots: "https://hunter2-ots".into(),
    };
    let git = GitInitializer {
        remote_uri: "https://jane:hunter2-remote@example.org/a.git".into(),
        upstream_remote_uri: "https://jane:hunter2-up@example.org/a.git".into(),
        config: Some(config),
        ..GitInitializer::default()
    };
    let file = |file_path: &str, url: &str| file_download_initializer::FileInfo {
        url: url.into(),
        file_path: file_path.into(),
        ..Default::default()
    };
    let download = FileDownloadInitializer {
        files: vec![
            file("a", "https://example.org/a"),
            file("b", "https://example.org/a?X-Sig=hunter2-query"),
        ],
        ..FileDownloadInitializer::default()
    };
    let both =
        CompositeInitializer { initializer: vec![from(Spec::Git(git)), from(Spec::Download(download))] };
    let start = with(|spec| spec.initializer = Some(from(Spec::Composite(both)))).unwrap();
    let path = "spec.initializer.composite";
    assert_eq!(
        start.clear_text,
        [
            format!("{path}.0.git.remote_uri"),
            format!("{path}.0.git.upstream_remote_uri"),
            format!("{path}.0.git.config.auth_user"),
            format!("{path}.0.git.config.auth_ots"),
            format!("{path}.0.git.config.custom_config.0"),
            format!("{path}.1.download.files.1.url"),
        ]
    );
    let shown = |sealed: &SealedInitializer| String::from_utf8_lossy(&sealed.content).into_owned();
    assert!(!shown(&start.initializer).contains("hunter2-password"));
    let own = start.own_agents_initializer.unwrap();
    assert!(!shown(&own).contains("hunter2"), "{}", shown(&own));
    assert!(shown(&own).contains("http.extraHeader"));
    assert_eq!(own.secrets.len(), 7);
    assert!(own.secrets.values().all(|secret| secret.contains("hunter2")), "{:?}", own.secrets.keys());
    let content = WorkspaceInitializer::decode(own.content.as_slice()).unwrap();
    assert!(matches!(content.spec, Some(Spec::Composite(_))));
}

#[test]
fn a_password_under_many_composites_has_a_key_that_a_secret_takes() {
    let deep = |password: &str| {
        let mut initializer = from(Spec::Git(git(password)));
        for _ in 0..40 {
            let inner = CompositeInitializer { initializer: vec![initializer] };
            initializer = from(Spec::Composite(inner));
        }
        with(|spec| spec.initializer = Some(initializer)).unwrap()
    };
    let start = deep("hunter2");
    let (key, password) = start.initializer.secrets.first_key_value().unwrap();
    assert_eq!(password, "hunter2");
    assert!(
        key.len() <= 253 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        "{key}"
    );
    assert_eq!(deep("hunter2").initializer, start.initializer, "the same request is the same");
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
fn reserved_and_malformed_annotations_are_rejected() {
    for key in ["spaceport.dev/generation", "a b", "a_b.example/x", "x/y/z", ""] {
        let mut bad = request();
        bad.metadata.as_mut().unwrap().annotations.insert(key.into(), "x".into());
        assert_eq!(fields(start(bad)), ["metadata.annotations"], "{key}");
    }
    let mut good = request();
    good.metadata.as_mut().unwrap().annotations.insert("example.org/Key_1".into(), "x".into());
    good.metadata.as_mut().unwrap().annotations.insert("Example.org/Key_2".into(), "ä\n".into());
    assert!(start(good).is_ok());
}

#[test]
fn annotations_that_node_agents_act_on_are_refused() {
    for name in ["cpuMinLimit", "cpuBurstLimit", "netConnLimitPerMinute", "psi"] {
        let mut bad = request();
        bad.metadata.as_mut().unwrap().annotations.insert(format!("gitpod.io/{name}"), "64".into());
        assert_eq!(fields(start(bad)), ["metadata.annotations"], "{name}");
    }
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
fn dropped_variables_are_reported_with_their_index() {
    let said = |names: &[&str]| {
        let variable =
            |name: &&str| wsman::EnvironmentVariable { name: (*name).into(), ..Default::default() };
        let mut request = request();
        request.spec.as_mut().unwrap().sys_envvars = names.iter().map(variable).collect();
        without_effect(&request)
    };
    assert!(said(&["A"]).is_empty());
    assert_eq!(
        said(&["A", "", "B", ""]),
        ["2 of spec.sys_envvars have no name and are left out: spec.sys_envvars[1], spec.sys_envvars[3]"]
    );
    let many = said(&[""; 1_000]);
    assert!(many[0].starts_with("1000 of") && many[0].ends_with(", ...") && many[0].len() < 300, "{many:?}");
    assert!(without_effect(&wsman::StartWorkspaceRequest::default()).is_empty());
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
fn options_of_a_log_are_checked() {
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

#[test]
fn a_page_begins_where_the_one_before_ended_and_nowhere_else() {
    let jane = wsman::MetadataFilter { owner: "jane".into(), ..Default::default() };
    let list = list("i", Some(&jane));
    let token = list.token("ws-1");
    assert_eq!(page(&list, "").unwrap(), "");
    assert_eq!(page(&list, &token).unwrap(), "ws-1");
    for bad in ["ws-1", "nonsense", "\u{1b}", &token[1..]] {
        assert_eq!(fields(page(&list, bad)), ["page_token"], "{bad}");
    }
    let all = self::list("i", None);
    assert_eq!(fields(page(&all, &token)), ["page_token"], "of another filter");
    let empty = self::list("i", Some(&wsman::MetadataFilter::default()));
    assert_eq!(page(&empty, &all.token("ws-1")).unwrap(), "ws-1", "no filter and an empty one are the same");
}

#[test]
fn any_start_request_is_parsed_or_refused_by_field() {
    let git = from(Spec::Git(git("hunter2")));
    let beside = from(Spec::Git(at("b", self::git(""))));
    let composite = from(Spec::Composite(CompositeInitializer { initializer: vec![git, beside] }));
    let mut whole = request();
    whole.spec.as_mut().unwrap().initializer = Some(composite);
    let seeds = [request().encode_to_vec(), whole.encode_to_vec()];
    fuzz::target("start-requests", &[&seeds[0], &seeds[1]], |input| {
        let Ok(request) = wsman::StartWorkspaceRequest::decode(input) else { return };
        if let Err(status) = start(request) {
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{}", status.message());
            assert!(status.get_details_bad_request().is_some(), "{}", status.message());
        }
    });
}

#[test]
fn fields_that_no_pod_can_have_are_rejected_by_name() {
    type Change = Box<dyn FnOnce(&mut wsman::StartWorkspaceSpec)>;
    let variable = |name: &str| wsman::EnvironmentVariable { name: name.into(), ..Default::default() };
    let secret = |secret_name: &str, key: &str| {
        let (secret_name, key) = (secret_name.to_owned(), key.to_owned());
        let secret = Some(wsman::environment_variable::SecretKeyRef { secret_name, key });
        wsman::EnvironmentVariable { name: "A".into(), secret, ..Default::default() }
    };
    let changes: Vec<(&str, Change)> = vec![
        ("spec.workspace_image", Box::new(|spec| spec.workspace_image = "https://a.example/b".into())),
        (
            "spec.ide_image.web_ref",
            Box::new(|spec| spec.ide_image.get_or_insert_default().web_ref = "A b".into()),
        ),
        (
            "spec.ide_image_layers[1]",
            Box::new(|spec| spec.ide_image_layers = vec!["a".into(), String::new()]),
        ),
        ("spec.workspace_location", Box::new(|spec| spec.workspace_location = "../x".into())),
        ("spec.workspace_location", Box::new(|spec| spec.workspace_location = "/etc".into())),
        ("spec.git.email", Box::new(|spec| spec.git.get_or_insert_default().email = "a\nb".into())),
        ("spec.envvars[1].name", Box::new(move |spec| spec.envvars = vec![variable("A"), variable("A=B")])),
        ("spec.sys_envvars[0].name", Box::new(move |spec| spec.sys_envvars = vec![variable("É")])),
        ("spec.envvars[0].secret.secret_name", Box::new(move |spec| spec.envvars = vec![secret("A", "k")])),
        ("spec.envvars[0].secret.key", Box::new(move |spec| spec.envvars = vec![secret("a", "")])),
        ("spec.ssh_public_keys[0]", Box::new(|spec| spec.ssh_public_keys = vec!["a\nb".into()])),
    ];
    for (field, change) in changes {
        assert_eq!(fields(with(change)), [field]);
    }
}

#[test]
fn an_id_never_names_the_folder_of_another_workspaces_node_agent() {
    let of = |id: &str| start(wsman::StartWorkspaceRequest { id: id.to_owned(), ..request() });
    assert_eq!(fields(of("x-daemon")), ["id"]);
    assert!(of("x-daemons").is_ok() && of("daemon").is_ok());
}

#[test]
fn ssh_keys_are_one_line_each() {
    let of = |keys: &[&str]| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        ssh_keys(wsman::UpdateSshKeyRequest { id: "ws".into(), keys })
    };
    assert_eq!(of(&["ssh-ed25519 AAAA jane@example.org"]).unwrap().1.len(), 1);
    assert_eq!(fields(of(&[])), ["keys"]);
    assert_eq!(fields(of(&["ssh-ed25519 A\nssh-rsa B", " ", "a\0"])), ["keys[0]", "keys[1]", "keys[2]"]);
}
