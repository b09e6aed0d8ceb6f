use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use domain::secret::Secret;
use proptest::prelude::*;
use prost::Message as _;
use proto::contentservice::file_download_initializer::FileInfo;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{
    CloneTargetMode, CompositeInitializer, EmptyInitializer, FileDownloadInitializer, FromBackupInitializer,
    GitAuthMethod, GitConfig, GitInitializer, PrebuildInitializer, SnapshotInitializer, WorkspaceInitializer,
};

use super::scrub::Scrubber;
use super::*;

fn plan_with(spec: Spec, secrets: &[(&str, &str)]) -> Result<Plan, Error> {
    let secrets: BTreeMap<String, Secret<String>> =
        secrets.iter().map(|(key, value)| ((*key).to_owned(), Secret::new((*value).to_owned()))).collect();
    parse(&WorkspaceInitializer { spec: Some(spec) }.encode_to_vec(), &secrets)
}

fn plan(spec: Spec) -> Result<Plan, Error> {
    plan_with(spec, &[])
}

fn repository(change: impl FnOnce(&mut GitInitializer)) -> GitInitializer {
    let mut git = GitInitializer { remote_uri: "https://example.org/a.git".into(), ..Default::default() };
    change(&mut git);
    git
}

fn composite(specs: Vec<Spec>) -> Spec {
    let initializer = specs.into_iter().map(|spec| WorkspaceInitializer { spec: Some(spec) }).collect();
    Spec::Composite(CompositeInitializer { initializer })
}

fn snapshot(name: &str) -> SnapshotInitializer {
    SnapshotInitializer { snapshot: name.into(), from_volume_snapshot: false }
}

fn download(target: &str, url: &str, path: &str, digest: &str) -> Spec {
    let file = FileInfo { url: url.into(), file_path: path.into(), digest: digest.into() };
    Spec::Download(FileDownloadInitializer { files: vec![file], target_location: target.into() })
}

fn first_git(plan: &Plan) -> &Git {
    plan.repositories().next().unwrap()
}

#[test]
fn composites_are_flattened_in_their_order() {
    let inner = composite(vec![Spec::Empty(EmptyInitializer {}), Spec::Snapshot(snapshot("s@abc"))]);
    let outer = composite(vec![inner, Spec::Git(repository(|git| git.checkout_location = "a".into()))]);
    let plan = plan(outer).unwrap();
    assert!(plan.is_composite);
    assert!(matches!(plan.steps[..], [Step::Empty, Step::Snapshot(_), Step::Git(_)]));
    assert_eq!(first_git(&plan).field, "initializer.composite.initializer[1].git");
}

#[test]
fn of_several_restores_the_last_one_counts() {
    let prebuild = |name: &str| PrebuildInitializer { prebuild: Some(snapshot(name)), git: Vec::new() };
    let specs = vec![
        Spec::Snapshot(snapshot("first@abc")),
        Spec::Prebuild(prebuild("second@abc")),
        Spec::Backup(FromBackupInitializer::default()),
    ];
    let plan = plan(composite(specs)).unwrap();
    assert_eq!(plan.superseded, ["initializer.composite.initializer[0].snapshot.snapshot"]);
    let [Step::Prebuild(kept), Step::Backup(_)] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
    let object = kept.snapshot.as_ref().unwrap();
    assert_eq!((&*object.object, &*object.bucket, &*object.name), ("second", "abc", "second@abc"));
}

#[test]
fn references_become_the_secrets_of_the_workspace() {
    let git = repository(|git| {
        git.remote_uri = "extracted-secret/url".into();
        git.config = Some(GitConfig {
            custom_config: [("http.extraHeader".to_owned(), "extracted-secret/header".to_owned())].into(),
            authentication: GitAuthMethod::BasicAuth.into(),
            auth_user: "extracted-secret/user".into(),
            auth_password: "extracted-secret/initializer.git".into(),
            ..Default::default()
        });
    });
    let secrets = [
        ("url", "https://joe:p%40ss@example.org/a.git"),
        ("header", "Authorization: Bearer abcdefgh"),
        ("user", "jane"),
        ("initializer.git", "extracted-secret/url"),
    ];
    let plan = plan_with(Spec::Git(git.clone()), &secrets).unwrap();
    let found = first_git(&plan);
    assert_eq!(found.remote, "https://example.org/a.git");
    let login = found.remote_login.as_ref().unwrap();
    assert_eq!((&**login.user.expose(), &**login.password.expose()), ("joe", "p@ss"));
    let Auth::Basic(login) = &found.auth else { panic!("not basic") };
    // Resolved once: a secret that looks like a reference is a secret.
    assert_eq!((&**login.user.expose(), &**login.password.expose()), ("jane", "extracted-secret/url"));
    assert_eq!(found.config[0].1.expose(), "Authorization: Bearer abcdefgh");
    let printed = format!("{plan:?}");
    assert!(
        !printed.contains("p@ss") && !printed.contains("Bearer") && !printed.contains("jane"),
        "{printed}"
    );

    let error = plan_with(Spec::Git(git), &secrets[..3]).unwrap_err();
    assert_eq!(error.fault(), Fault::Platform);
    assert_eq!(
        error.to_string(),
        "initializer.git.config.auth_password refers to the key initializer.git, which the Secret of the workspace's \
         tokens does not have"
    );
}

#[test]
fn a_refusal_names_the_field_and_the_rule() {
    let cases: Vec<(Spec, &str)> = vec![
        (Spec::Git(repository(|git| git.remote_uri.clear())), "initializer.git.remote_uri is required"),
        (
            Spec::Git(repository(|git| git.checkout_location = "../a".into())),
            "initializer.git.checkout_location must not contain `..`",
        ),
        (
            Spec::Git(repository(|git| git.target_mode = CloneTargetMode::RemoteBranch.into())),
            "initializer.git.clone_taget is required by the target mode",
        ),
        (Spec::Git(repository(|git| git.target_mode = 9)), "initializer.git.target_mode is not a known mode"),
        (Spec::Snapshot(snapshot("")), "initializer.snapshot.snapshot is required"),
        (
            download("", "https://h/a", "/etc/passwd", ""),
            "initializer.download.files[0].file_path must be relative to the target location",
        ),
        (
            download("", "file:///etc/passwd", "a", ""),
            "initializer.download.files[0].url must be an address such as https://HOST/PATH or http://HOST/PATH, without \
             spaces",
        ),
        (
            Spec::Git(repository(|git| git.remote_uri = "ssh://jane:pw@example.org/a".into())),
            "initializer.git.remote_uri must not hold a password, except for http and https",
        ),
    ];
    for (spec, text) in cases {
        let error = plan(spec).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.fault(), Fault::User);
    }
    let twice = || Spec::Git(repository(|_| ()));
    let error = plan(composite(vec![twice(), twice()])).unwrap_err();
    assert!(error.to_string().contains("has the same path as"), "{error}");
    assert_eq!(parse(&[0xff], &BTreeMap::new()).unwrap_err().fault(), Fault::Platform);
    assert_eq!(
        parse(&[], &BTreeMap::new()).unwrap_err().to_string(),
        "initializer must say what to initialise from"
    );
}

#[test]
fn hostile_addresses_names_and_settings_are_refused() {
    for address in [
        "ext::sh -c touch% /tmp/x",
        "file:///etc",
        "/etc",
        "../a",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x:a",
        "ssh://-oProxyCommand=x/a",
        "fd::17/foo",
        "a\nb",
    ] {
        let git = repository(|git| git.remote_uri = address.into());
        assert!(plan(Spec::Git(git)).is_err(), "{address}");
        let git = repository(|git| git.upstream_remote_uri = address.into());
        assert!(plan(Spec::Git(git)).is_err(), "{address}");
    }
    for name in ["--force", "a b", "a..b", "x.lock", "a\0"] {
        let git = repository(|git| {
            git.target_mode = CloneTargetMode::LocalBranch.into();
            git.clone_taget = name.into();
        });
        assert!(plan(Spec::Git(git)).is_err(), "{name}");
    }
    for (key, value) in [("core", "x"), ("a\n.b", "x"), ("user.name", "a\0b")] {
        let config = GitConfig { custom_config: [(key.into(), value.into())].into(), ..Default::default() };
        let git = repository(|git| git.config = Some(config));
        assert!(plan(Spec::Git(git)).is_err(), "{key}");
    }
}

#[test]
fn files_have_their_path_from_the_workspace_and_their_digest() {
    let hex = "0".repeat(64);
    let spec = download("/workspace/x/", "https://h/a?sig=1", "./y//z", &format!("sha256:{hex}"));
    let plan = plan(spec).unwrap();
    let Step::Download(download) = &plan.steps[0] else { panic!("not a download") };
    assert_eq!(download.files[0].path, "x/y/z");
    assert_eq!(download.files[0].digest, Some(Digest { algorithm: "sha256".into(), hex }));
}

proptest! {
    /// Whatever is accepted stays below the workspace.
    #[test]
    fn accepted_paths_stay_below_the_workspace(path in "[a./\\x00-\\x1f~ ü-]{0,12}|(/workspace)?(/|\\.|\\.\\.|a){0,8}") {
        let git = repository(|git| git.checkout_location = path.clone());
        let folder = plan(Spec::Git(git)).ok().map(|plan| first_git(&plan).folder.as_str().to_owned());
        let file = plan(download("", "https://h/a", &path, "")).ok().map(|plan| {
            let Step::Download(download) = &plan.steps[0] else { panic!("not a download") };
            download.files[0].path.clone()
        });
        for path in [folder, file].into_iter().flatten() {
            prop_assert!(!path.starts_with('/') && !path.chars().any(char::is_control), "{path:?}");
            prop_assert!(path.split('/').all(|part| part != ".." && part != "."), "{path:?}");
        }
    }

    /// Whatever is accepted as a remote names a host, is no option, no remote helper and no file.
    #[test]
    fn accepted_remotes_name_a_host(
        address in "(https?|ssh|git|ext|file|fd|ftp|git\\+ssh)?(::|://|:)?[-a-z@:/. ]{0,16}"
    ) {
        let git = repository(|git| git.remote_uri = address.clone());
        if let Ok(plan) = plan(Spec::Git(git)) {
            let remote = &first_git(&plan).remote;
            prop_assert!(!remote.starts_with('-'));
            prop_assert!(!remote.starts_with("ext::") && !remote.starts_with("file://") && !remote.starts_with("fd::"));
            // Otherwise git takes it for a path.
            prop_assert!(remote.split_once(':').is_some_and(|(host, _)| !host.contains('/')), "{remote}");
        }
    }

    /// No part of a secret that is long enough is left, in any of the forms.
    #[test]
    fn secrets_are_scrubbed_in_every_form(secret in "[ -~]{12,40}", before in "[a-z]{0,7}") {
        let scrubber = Scrubber::new([secret.as_str()]);
        let percent: Vec<String> = secret.bytes().map(|b| format!("%{b:02x}")).collect();
        let pair = format!("{before}{secret}");
        for form in [secret.clone(), percent.concat(), BASE64_STANDARD.encode(&pair), BASE64_URL_SAFE.encode(&pair)] {
            let text = scrubber.scrub(&format!("fatal: {form} failed"));
            prop_assert!(text.contains("[redacted]"), "{form}: {text}");
            prop_assert!(!text.contains(&form), "{form}: {text}");
        }
    }
}

#[test]
fn a_secret_that_is_too_short_to_find_withholds_the_output() {
    assert!(Scrubber::new(["ab"]).scrub("tab").starts_with("[withheld"));
    assert_eq!(Scrubber::new([""]).scrub("tab"), "tab");
}

#[test]
fn urls_with_a_login_or_a_query_are_scrubbed() {
    let plan = plan(download("", "https://jane:hunter22@h/a?X-Sig=0123456789", "a", "")).unwrap();
    let text = Scrubber::of_plan(&plan).scrub("GET /a?X-Sig=0123456789 as jane:hunter22");
    assert!(!text.contains("0123456789") && !text.contains("hunter22"), "{text}");
}
