use clap::Parser;

use super::content::repository_name;
use super::*;
use proto::contentservice::workspace_initializer::Spec as Initializer;
use proto::contentservice::{CloneTargetMode, GitAuthMethod, GitInitializer};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: RequestArgs,
}

fn parse(flags: &str) -> Result<StartWorkspaceRequest> {
    let line = format!("start --owner me --image registry.example:5000/org/Full_Image:v1@sha256:0 {flags}");
    build(&Line::try_parse_from(line.split_whitespace())?.args, Patience::default())
}

fn spec_of(flags: &str) -> StartWorkspaceSpec {
    parse(flags).unwrap().spec.unwrap()
}

#[test]
fn the_least_request_has_what_every_server_needs() {
    let request = parse("--id a").unwrap();
    let spec = request.spec.unwrap();
    assert_eq!(spec.placement, None);
    assert_eq!(spec.workspace_location, ".");
    assert!(spec.ide_image.is_some());
    assert!(matches!(spec.initializer.unwrap().spec, Some(Initializer::Empty(_))));
    let meta_id = request.metadata.unwrap().meta_id;
    assert!(meta_id.starts_with("full-image-") && meta_id.parse::<MetaId>().is_ok(), "{meta_id}");
    assert_eq!(request.service_prefix, meta_id);
}

#[test]
fn the_same_instance_id_makes_the_same_request() {
    assert_eq!(parse("--id a").unwrap(), parse("--id a").unwrap());
    assert_ne!(parse("--id a").unwrap().service_prefix, parse("--id b").unwrap().service_prefix);
    assert_ne!(parse("").unwrap().id, parse("").unwrap().id);
}

#[test]
fn the_suffix_of_a_made_name_is_the_same_in_every_release() {
    let request = parse("--id 0f2c4f0e-6f3c-4b5e-9d5e-3b1c7f6a2d10").unwrap();
    assert_eq!(request.service_prefix, "full-image-a080e55bc9");
}

#[test]
fn the_place_is_asked_for_in_order() {
    let placement = spec_of(
        "--region asia --region europe --require-region --cluster eu --label a=b=c --permission p --namespace n",
    )
    .placement
    .unwrap();
    assert_eq!(placement.regions, ["asia", "europe"]);
    assert!(placement.require_region);
    assert_eq!((placement.cluster.as_str(), placement.namespace.as_str()), ("eu", "n"));
    assert_eq!(placement.cluster_labels["a"], "b=c");
    assert_eq!(placement.permissions, ["p"]);
}

#[test]
fn a_repository_gives_the_content_and_the_folder() {
    let spec = spec_of("--git-url https://git.example/org/site.git --git-branch next");
    assert_eq!(spec.workspace_location, "site");
    let Some(Initializer::Git(git)) = spec.initializer.unwrap().spec else { panic!("not git") };
    assert_eq!((git.clone_taget.as_str(), git.checkout_location.as_str()), ("next", "site"));
    assert_eq!(git.target_mode(), CloneTargetMode::RemoteBranch);
    assert!(git.config.is_some());
}

#[test]
fn a_repository_is_named_by_its_path_and_never_by_host_or_login() {
    for (url, name) in [
        ("git@git.example:org/site", "site"),
        ("git@git.example:site.git", "site"),
        ("https://git.example/org/site.git/?a=/b#c", "site"),
        ("ssh://git@git.example:22/site", "site"),
        ("site", "site"),
    ] {
        assert_eq!(repository_name(url).as_deref(), Some(name), "{url}");
    }
    for url in [
        "",
        "https://",
        "https://git.example",
        "https://jane:hunter2@git.example",
        "https://git.example/..",
        "a:",
    ] {
        assert_eq!(repository_name(url), None, "{url}");
        if url.contains("hunter2") {
            continue;
        }
        // The server reports the address; nothing else is wrong.
        let line = ["start", "--owner", "me", "--image", "image", "--git-url", url];
        let args = Line::try_parse_from(line).unwrap().args;
        let request = build(&args, Patience::default()).unwrap();
        let spec = request.spec.unwrap();
        assert_eq!(spec.workspace_location, ".", "{url}");
        let Some(Initializer::Git(git)) = spec.initializer.unwrap().spec else { panic!("not git") };
        assert_eq!((git.remote_uri.as_str(), git.checkout_location.as_str()), (url, ""), "{url}");
    }
}

#[test]
fn ports_variables_and_timeouts_are_taken_over() {
    let spec =
        spec_of("--port 80:public --port 443 --env A=b=c --env PATH --timeout-after 90m --closed-timeout 0");
    assert_eq!(spec.ports[0].visibility(), PortVisibility::Public);
    assert_eq!(spec.ports[1].visibility(), PortVisibility::Private);
    assert_eq!(spec.envvars[0].value, "b=c");
    assert_eq!(spec.envvars[1].value, std::env::var("PATH").unwrap());
    assert_eq!((spec.timeout.as_str(), spec.closed_timeout.as_str()), ("1h30m0s", "0s"));
}

#[test]
fn wrong_flags_are_refused_and_values_are_never_shown() {
    for bad in [
        "--port 0",
        "--port 70000",
        "--port 80:open",
        "--port 80 --port 80:public",
        "--env =x",
        "--env NOT_SET_ANYWHERE",
        "--label a",
        "--id A_b",
        "--region Europe!",
        "--require-region",
        "--timeout-after 5",
        "--timeout-after 0s",
        "--max-lifetime 0",
        "--closed-timeout=-1s",
        "--type x",
        "--git-branch x",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    let variable: Variable = "TOKEN=hunter2".parse().unwrap();
    assert_eq!(format!("{variable:?}"), "TOKEN=***");
}

fn git_of(flags: &str) -> GitInitializer {
    match spec_of(&format!("--git-url https://git.example/org/site.git {flags}")).initializer.unwrap().spec {
        Some(Initializer::Git(git)) => git,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repository_has_one_target_and_its_folder() {
    let commit = git_of("--git-commit 0123abc --git-full-clone");
    assert_eq!((commit.target_mode(), &*commit.clone_taget), (CloneTargetMode::RemoteCommit, "0123abc"));
    assert!(commit.full_clone && !git_of("").full_clone);
    let branch = git_of("--git-new-branch mine");
    assert_eq!((branch.target_mode(), &*branch.clone_taget), (CloneTargetMode::LocalBranch, "mine"));
    assert_eq!(git_of("--git-location a/b").checkout_location, "a/b");
    let spec = spec_of("--git-url https://git.example/org/site.git --git-location a/b");
    assert_eq!(spec.workspace_location, "a/b");
    let config = git_of("").config.unwrap();
    assert_eq!((config.authentication(), &*config.auth_user), (GitAuthMethod::NoAuth, ""));
    for wrong in ["--git-branch a --git-commit b", "--git-commit a --git-new-branch b"] {
        assert!(parse(&format!("--git-url https://git.example/a {wrong}")).is_err(), "{wrong}");
    }
    for alone in
        ["--git-commit a", "--git-new-branch a", "--git-full-clone", "--git-location a", "--git-user a"]
    {
        assert!(parse(alone).is_err(), "{alone}");
    }
}

#[test]
fn a_password_comes_from_a_file_and_never_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let flags = format!("--git-user jane --git-password-file {}", file.display());
    for (text, password) in
        [("hunter2\n", "hunter2"), ("hunter 2\r\n", "hunter 2"), ("a\u{e4}:@", "a\u{e4}:@")]
    {
        std::fs::write(&file, text).unwrap();
        let config = git_of(&flags).config.unwrap();
        assert_eq!(config.authentication(), GitAuthMethod::BasicAuth);
        assert_eq!((&*config.auth_user, &*config.auth_password), ("jane", password));
    }
    let refused = |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        let flags = format!("--git-url https://git.example/a {flags}");
        parse(&flags).unwrap_err().to_string().replace(&file.display().to_string(), "FILE")
    };
    assert_eq!(refused(b"\n"), "the password from FILE is empty");
    for content in [&b"hunter2\n\n"[..], b"hunter2\nmore", b"hunter2\0"] {
        let text = refused(content);
        assert!(text.contains("must not contain control characters") && !text.contains("hunter2"), "{text}");
    }
    assert_eq!(refused(b"hunter2\xff"), "FILE is not a text");
    std::fs::remove_file(&file).unwrap();
    let missing = parse(&format!("--git-url https://git.example/a {flags}")).unwrap_err().to_string();
    assert!(missing.starts_with("failed to read "), "{missing}");
    for (url, wrong) in [
        ("https://git.example/a", "--git-user jane"),
        ("https://git.example/a", "--git-password-prompt"),
        ("https://git.example/a", "--git-password-file /dev/null"),
        ("https://git.example/a", "--git-user jane --git-password-prompt --git-password-file x"),
        ("https://jane:hunter2@git.example/a", ""),
        ("https://hunter2@git.example/a", ""),
        ("ssh://jane:hunter2@git.example/a", ""),
    ] {
        let text = parse(&format!("--git-url {url} {wrong}")).unwrap_err().to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!url.contains("hunter2") || text.contains("--git-password-file"), "{text}");
    }
    assert!(parse("--git-url ssh://git@git.example/a").is_ok());
}

#[test]
fn a_workspace_comes_back_from_its_newest_backup_or_a_named_one() {
    let initializer = |flags: &str| spec_of(flags).initializer.unwrap().spec.unwrap();
    let Initializer::Backup(backup) = initializer("--meta-id m --from-backup --workspace-location a") else {
        panic!("no backup")
    };
    assert_eq!((&*backup.checkout_location, backup.from_volume_snapshot), ("a", false));
    let name = "workspaces/m/archives/1-1.tar.zst@gitpod-user-me";
    for flags in [format!("--meta-id m --from-backup={name}"), format!("--from-snapshot {name}")] {
        let Initializer::Snapshot(snapshot) = initializer(&flags) else { panic!("{flags}") };
        assert_eq!(snapshot.snapshot, name);
    }
    for wrong in [
        "--from-backup",
        "--meta-id m --from-backup=x",
        "--from-snapshot https://user:hunter2@host/x",
        "--meta-id m --from-backup --git-url https://git.example/a",
        "--meta-id m --from-backup --from-snapshot a@bucket",
        "--from-snapshot a@bucket --git-url https://git.example/a",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
