use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use content::initializer::Fault;
use node::helper::{Metric, Operation, Outcome, Source};
use proto::contentservice::{CloneTargetMode, GitAuthMethod, GitConfig, GitInitializer};

use super::git_server::{GitServer, PASSWORD, USER as LOGIN, commit};
use super::stage::{Stage, USER, git};

fn from(address: String) -> GitInitializer {
    GitInitializer { remote_uri: address, checkout_location: "repo".into(), ..Default::default() }
}

fn with_login(mut git: GitInitializer, password: &str) -> GitInitializer {
    git.config = Some(GitConfig {
        authentication: GitAuthMethod::BasicAuth.into(),
        auth_user: LOGIN.into(),
        auth_password: password.into(),
        ..Default::default()
    });
    git
}

pub async fn the_default_branch_is_cloned_for_the_user_of_the_workspace() {
    let server = GitServer::start();
    let working = server.repository("a");
    commit(&working, &[("first", "1")], "main");
    let latest = commit(&working, &[("second", "2"), ("folder/third", "3")], "main");
    let stage = Stage::new();
    let outcome = stage.clone(from(server.address("a"))).await.unwrap();
    assert!(
        matches!(&outcome, Outcome::Cloned { bytes: 1.., cloned: true, warnings } if warnings.is_empty()),
        "{outcome:?}"
    );
    assert_eq!(stage.read("repo/folder/third"), "3");
    for (path, user, group) in stage.owners() {
        assert_eq!((user, group), (USER, USER), "{}", path.display());
    }
    assert_eq!(std::fs::metadata(stage.path("repo/folder")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(stage.git("repo", &["rev-parse", "HEAD"]), latest);
    assert_eq!(stage.git("repo", &["rev-parse", "--abbrev-ref", "HEAD@{upstream}"]), "origin/main");
    assert_eq!(stage.git("repo", &["rev-parse", "--abbrev-ref", "origin/HEAD"]), "origin/main");
    assert_eq!(stage.git("repo", &["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(stage.git("repo", &["remote", "get-url", "origin"]), server.address("a"));
    assert_eq!(stage.git("repo", &["status", "--porcelain"]), "");
}

pub async fn every_target_is_checked_out() {
    let server = GitServer::start();
    let working = server.repository("a");
    let first = commit(&working, &[("file", "1")], "main");
    let second = commit(&working, &[("file", "2")], "main");
    let branch = commit(&working, &[("file", "3")], "feature/x");
    git(&working, &["push", "--quiet", "origin", &format!("{first}:refs/tags/v1")]);
    let cases = [
        (CloneTargetMode::RemoteCommit, &*first, &*first, "HEAD"),
        (CloneTargetMode::RemoteCommit, &first[..10], &first, "HEAD"),
        (CloneTargetMode::RemoteCommit, "v1", &first, "HEAD"),
        (CloneTargetMode::RemoteCommit, "feature/x", &branch, "HEAD"),
        (CloneTargetMode::RemoteBranch, "feature/x", &branch, "feature/x"),
        (CloneTargetMode::LocalBranch, "mine", &second, "mine"),
        (CloneTargetMode::RemoteHead, "", &second, "main"),
    ];
    for full in [false, true] {
        for (mode, target, expected, name) in &cases {
            let stage = Stage::new();
            let mut git = from(server.address("a"));
            (git.target_mode, git.clone_taget, git.full_clone) = ((*mode).into(), (*target).to_owned(), full);
            stage.clone(git).await.unwrap_or_else(|error| panic!("{mode:?} {target}: {error}"));
            assert_eq!(stage.git("repo", &["rev-parse", "HEAD"]), *expected, "{mode:?} {target}");
            assert_eq!(stage.git("repo", &["rev-parse", "--abbrev-ref", "HEAD"]), *name, "{mode:?} {target}");
            if full && *mode == CloneTargetMode::RemoteHead {
                assert_eq!(stage.git("repo", &["rev-list", "--count", "HEAD"]), "2");
                assert_eq!(
                    stage.git("repo", &["branch", "--remotes", "--list", "*/feature/x"]),
                    "origin/feature/x"
                );
            }
        }
    }
    for (mode, target, words) in [
        (CloneTargetMode::RemoteBranch, "gone", "clone_taget is gone, and the repository has no such branch"),
        (CloneTargetMode::RemoteCommit, "0123456789012345678901234567890123456789", "git fetch failed"),
    ] {
        let mut git = from(server.address("a"));
        (git.target_mode, git.clone_taget) = (mode.into(), target.to_owned());
        let error = Stage::new().clone(git).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.fault(), Fault::User);
    }
}

pub async fn an_upstream_settings_and_submodules_are_part_of_a_clone() {
    let server = GitServer::start();
    let inner = server.repository("inner");
    commit(&inner, &[("inside", "i")], "main");
    let parent = server.repository("parent");
    let of_parent = commit(&parent, &[("parent", "p")], "main");
    let working = server.repository("a");
    let address = server.address("inner");
    git(&working, &["submodule", "add", "--quiet", &address, "sub"]);
    commit(&working, &[("file", "1")], "main");
    let mut request = from(server.address("a"));
    request.upstream_remote_uri = server.address("parent");
    let settings = [("user.name", "Jane \"J\" Doe"), ("core.autocrlf", "input"), ("alias.st", "status")];
    let custom_config: BTreeMap<String, String> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    request.config = Some(GitConfig { custom_config, ..Default::default() });
    let stage = Stage::new();
    let outcome = stage.clone(request).await.unwrap();
    assert!(matches!(&outcome, Outcome::Cloned { warnings, .. } if warnings.is_empty()), "{outcome:?}");
    assert_eq!(stage.read("repo/sub/inside"), "i");
    assert_eq!(stage.git("repo", &["rev-parse", "upstream/main"]), of_parent);
    for (key, value) in settings {
        assert_eq!(stage.git("repo", &["config", "--file", ".git/config", key]), value);
    }
}

pub async fn a_working_copy_is_left_alone_and_an_empty_repository_is_cloned() {
    let server = GitServer::start();
    server.repository("empty");
    let stage = Stage::new();
    stage.clone(from(server.address("empty"))).await.unwrap();
    assert_eq!(stage.git("repo", &["symbolic-ref", "HEAD"]), "refs/heads/main");
    stage.write("repo/mine", "kept");
    let outcome = stage.clone(from(server.address("missing"))).await.unwrap();
    assert_eq!(outcome, Outcome::Cloned { bytes: 0, cloned: false, warnings: Vec::new() });
    assert_eq!(stage.read("repo/mine"), "kept");
    // A folder that has files already, and the workspace as a whole.
    let working = server.repository("a");
    commit(&working, &[("file", "1")], "main");
    let stage = Stage::new();
    stage.write("there/before", "x");
    let mut request = from(server.address("a"));
    request.checkout_location.clear();
    stage.clone(request).await.unwrap();
    assert_eq!((stage.read("file"), stage.read("there/before")), ("1".to_owned(), "x".to_owned()));
    let error = Stage::new().clone(from(server.address("missing"))).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the git server has no such repository"), "{text}");
    assert!(text.contains("git ls-remote failed with exit code 128: "), "{text}");
}

/// Reads all command lines and environments until it is stopped; returns whether one had the text.
fn watch(texts: Vec<String>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<bool> {
    std::thread::spawn(move || {
        let own = std::process::id().to_string();
        let mut found = false;
        while !stop.load(Ordering::Relaxed) {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                if entry.file_name().to_string_lossy() == own {
                    continue;
                }
                for name in ["cmdline", "environ"] {
                    let text = std::fs::read(entry.path().join(name)).unwrap_or_default();
                    let text = String::from_utf8_lossy(&text).into_owned();
                    found |= texts.iter().any(|secret| text.contains(secret.as_str()));
                }
            }
        }
        found
    })
}

pub async fn secrets_are_in_no_output_no_process_and_no_file() {
    let server = GitServer::start();
    let inner = server.repository("private/inner");
    commit(&inner, &[("inside", "i")], "main");
    let working = server.repository("private/a");
    git(&working, &["config", "--file", ".gitmodules", "submodule.sub.path", "sub"]);
    git(
        &working,
        &["config", "--file", ".gitmodules", "submodule.sub.url", &server.address("private/inner")],
    );
    git(
        &working,
        &[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{},sub", git(&inner, &["rev-parse", "HEAD"])),
        ],
    );
    git(&working, &["add", ".gitmodules"]);
    git(&working, &["commit", "--quiet", "-m", "one"]);
    git(&working, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
    let wrong = "planted wrong/p4ssword!";
    let stop = Arc::<AtomicBool>::default();
    let texts =
        vec![PASSWORD.to_owned(), wrong.to_owned(), BASE64_STANDARD.encode(format!("{LOGIN}:{PASSWORD}"))];
    let watching = watch(texts.clone(), Arc::clone(&stop));
    let stage = Stage::new();
    let outcome = stage.clone(with_login(from(server.address("private/a")), PASSWORD)).await.unwrap();
    assert!(matches!(&outcome, Outcome::Cloned { warnings, .. } if warnings.is_empty()), "{outcome:?}");
    assert_eq!(stage.read("repo/sub/inside"), "i");
    // In the URL, as it is and percent-encoded.
    let encoded: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let in_url =
        format!("http://{LOGIN}:{encoded}@{}/private/a.git", server.url.trim_start_matches("http://"));
    let second = Stage::new();
    second.clone(from(in_url)).await.unwrap();
    let error = Stage::new().clone(with_login(from(server.address("private/a")), wrong)).await.unwrap_err();
    stop.store(true, Ordering::Relaxed);
    assert!(!watching.join().unwrap(), "a process shows a secret");
    for text in texts.iter().chain([&encoded]) {
        assert!(stage.has_nowhere(text) && second.has_nowhere(text), "{text}");
        assert!(!format!("{error} {error:?}").contains(text.as_str()), "{error}");
    }
    assert!(error.to_string().contains("Authentication failed"), "{error}");
}

pub async fn a_failure_with_an_address_of_ssh_says_that_there_are_no_keys() {
    for (address, is_ssh) in [("ssh://git@127.0.0.1:9/a", true), ("http://127.0.0.1:9/a", false)] {
        let git = GitInitializer { remote_uri: address.into(), ..GitInitializer::default() };
        let error = Stage::new().clone(git).await.unwrap_err().to_string();
        assert_eq!(error.contains("there are no ssh keys here: use an https address"), is_ssh, "{error}");
    }
}

pub async fn a_login_goes_to_its_own_host_only() {
    let (server, other) = (GitServer::start(), GitServer::start());
    let stolen = other.repository("private/stolen");
    commit(&stolen, &[("inside", "i")], "main");
    let working = server.repository("private/a");
    git(&working, &["config", "--file", ".gitmodules", "submodule.sub.path", "sub"]);
    git(
        &working,
        &["config", "--file", ".gitmodules", "submodule.sub.url", &other.address("private/stolen")],
    );
    git(
        &working,
        &[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{},sub", git(&stolen, &["rev-parse", "HEAD"])),
        ],
    );
    git(&working, &["add", ".gitmodules"]);
    git(&working, &["commit", "--quiet", "-m", "one"]);
    git(&working, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
    let stage = Stage::new();
    let outcome = stage.clone(with_login(from(server.address("private/a")), PASSWORD)).await.unwrap();
    assert!(matches!(&outcome, Outcome::Cloned { warnings, .. } if warnings.len() == 1), "{outcome:?}");
    assert!(other.logins.lock().is_empty(), "the other server got a login");
    // By a redirect of the first request, which git follows.
    let port = other.url.rsplit(':').next().unwrap();
    let redirected = format!("{}/elsewhere/{port}/private/stolen.git", server.url);
    assert!(Stage::new().clone(with_login(from(redirected), PASSWORD)).await.is_err());
    assert!(other.logins.lock().is_empty(), "the other server got a login");
}

pub async fn the_ready_file_is_written_for_the_user() {
    let stage = Stage::new();
    let metrics = vec![Metric { kind: "git".into(), duration: 5, size: 6 }];
    stage.run(Operation::Ready { source: Source::FromBackup, metrics }).await.unwrap();
    let text = stage.read(".gitpod/ready");
    assert_eq!(text, r#"{"source":"from-backup","metrics":[{"type":"git","duration":5,"size":6}]}"#);
    for (path, user, _) in stage.owners() {
        assert_eq!(user, USER, "{}", path.display());
    }
}

pub async fn a_failed_clone_says_whose_fault_it_is() {
    let server = GitServer::start();
    commit(&server.repository("private"), &[("file", "1")], "main");
    let mut commit = from(server.address("private"));
    (commit.target_mode, commit.clone_taget) =
        (CloneTargetMode::RemoteCommit.into(), "0123456789012345678901234567890123456789".to_owned());
    for (request, fault, words) in [
        (from(server.address("broken")), Fault::Platform, "the git server failed; try again later: "),
        (from(server.address("private")), Fault::User, "does not accept the login"),
        (with_login(from(server.address("private")), "wr0ng"), Fault::User, "does not accept the login"),
        (with_login(commit, PASSWORD), Fault::User, "no such branch or commit"),
        (from(server.address("nothing")), Fault::User, "no such repository"),
        (from("http://127.0.0.1:9/a.git".to_owned()), Fault::User, "check the address"),
    ] {
        let address = request.remote_uri.clone();
        let error = Stage::new().clone(request).await.unwrap_err();
        assert!(error.to_string().contains(words), "{address}: {error}");
        assert!(!error.to_string().contains("wr0ng"), "{error}");
        assert_eq!(error.fault(), fault, "{address}: {error}");
    }
}
