use std::collections::BTreeMap;

use node::helper::Outcome;
use proto::contentservice::{GitConfig, GitInitializer};

use super::git_server::{GitServer, commit};
use super::stage::{Stage, git};

/// Whether anything of a hostile repository ran.
fn is_untouched(stage: &Stage) -> bool {
    !stage.path("pwned").exists() && stage.has_nowhere("planted-of-the-node")
}

pub async fn repositories_run_nothing() {
    let server = GitServer::start();
    let secret = tempfile::tempdir().unwrap();
    git(secret.path(), &["init", "--quiet", "."]);
    std::fs::write(secret.path().join("file"), "planted-of-the-node").unwrap();
    git(secret.path(), &["add", "file"]);
    git(secret.path(), &["commit", "--quiet", "-m", "one"]);
    let of_secret = git(secret.path(), &["rev-parse", "HEAD"]);
    let local = secret.path().to_str().unwrap();
    for (name, url) in [
        ("ext", "ext::sh -c touch% /workspace/pwned"),
        ("file", &*format!("file://{local}")),
        ("path", local),
        ("workspace", "/workspace"),
        ("option", "--upload-pack=touch /workspace/pwned"),
        ("ssh", "ssh://-oProxyCommand=touch /workspace/pwned/x"),
        ("fd", "fd::0"),
        ("update", &*server.address("ext")),
    ] {
        let working = server.repository(name);
        let run = if name == "update" { "\tupdate = !touch /workspace/pwned\n" } else { "" };
        let modules = format!("[submodule \"sub\"]\n\tpath = sub\n\turl = {url}\n{run}");
        let attributes = "* filter=evil diff=evil merge=evil\n";
        let hook = "#!/bin/sh\ntouch /workspace/pwned\n";
        let files = [
            (".gitmodules", &*modules),
            (".gitattributes", attributes),
            (".gitconfig", "[core]\n\tfsmonitor = touch /workspace/pwned\n"),
            (".lfsconfig", "[lfs]\n\turl = http://127.0.0.1:1\n"),
            ("hooks/post-checkout", hook),
        ];
        git(&working, &["update-index", "--add", "--cacheinfo", &format!("160000,{of_secret},sub")]);
        for (path, text) in files {
            std::fs::create_dir_all(working.join(path).parent().unwrap()).unwrap();
            std::fs::write(working.join(path), text).unwrap();
        }
        git(&working, &["add", ".gitmodules", ".gitattributes", ".gitconfig", ".lfsconfig", "hooks"]);
        git(&working, &["update-index", "--chmod=+x", "hooks/post-checkout"]);
        git(&working, &["commit", "--quiet", "-m", "one"]);
        git(&working, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
        let stage = Stage::new();
        let request = GitInitializer {
            remote_uri: server.address(name),
            checkout_location: "repo".into(),
            ..Default::default()
        };
        let outcome = stage.clone(request).await.unwrap();
        assert!(
            matches!(&outcome, Outcome::Cloned { warnings, .. } if warnings.len() == 1),
            "{name}: {outcome:?}"
        );
        assert!(is_untouched(&stage), "{name}");
        assert!(!stage.path("repo/sub/file").exists(), "{name}");
    }
}

pub async fn settings_of_a_request_run_nothing() {
    let server = GitServer::start();
    let working = server.repository("a");
    commit(
        &working,
        &[
            ("hooks/post-checkout", "#!/bin/sh\ntouch /workspace/pwned\n"),
            (".gitattributes", "* filter=evil\n"),
        ],
        "main",
    );
    let run = "touch /workspace/pwned";
    let settings = [
        ("core.fsmonitor", run),
        ("core.hooksPath", "/workspace/repo/hooks"),
        ("core.sshCommand", run),
        ("core.askPass", run),
        ("core.gitProxy", run),
        ("credential.helper", "!touch /workspace/pwned"),
        ("filter.evil.smudge", run),
        ("filter.evil.clean", run),
        ("filter.evil.process", run),
        ("filter.evil.required", "true"),
        ("protocol.ext.allow", "always"),
        ("remote.origin.uploadpack", run),
        ("remote.origin.vcs", "ext"),
        ("submodule.sub.update", "!touch /workspace/pwned"),
        ("url.ext::sh -c touch% /workspace/pwned .insteadOf", "http://"),
        ("include.path", "/etc/passwd"),
        ("init.templateDir", "/workspace/repo"),
    ];
    let custom_config: BTreeMap<String, String> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = GitInitializer {
        remote_uri: server.address("a"),
        checkout_location: "repo".into(),
        config: Some(GitConfig { custom_config, ..Default::default() }),
        ..Default::default()
    };
    let stage = Stage::new();
    stage.clone(request).await.unwrap();
    assert!(is_untouched(&stage));
    // They are the user's, so they are in the repository afterwards.
    assert_eq!(stage.git("repo", &["config", "--file", ".git/config", "core.sshCommand"]), run);
}
