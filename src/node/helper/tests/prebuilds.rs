use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use content::initializer::Step;
use node::helper::{Operation, Outcome};
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{CloneTargetMode, GitInitializer, PrebuildInitializer};

use super::git_server::{GitServer, commit};
use super::stage::{Stage, git, plan};

fn request(server: &GitServer) -> GitInitializer {
    GitInitializer { remote_uri: server.address("a"), checkout_location: "repo".into(), ..Default::default() }
}

/// The server, its working copy, and a workspace as it is after the restore of a prebuild.
async fn restored() -> (GitServer, PathBuf, Stage) {
    let server = GitServer::start();
    let working = server.repository("a");
    let inner = server.repository("inner");
    commit(&inner, &[("inside", "1")], "main");
    git(&working, &["submodule", "add", "--quiet", &server.address("inner"), "sub"]);
    commit(&working, &[("tracked", "1\n"), ("other", "1\n")], "main");
    let stage = Stage::new();
    stage.clone(request(&server)).await.unwrap();
    (server, working, stage)
}

async fn update(stage: &Stage, git: GitInitializer) -> (bool, Vec<String>) {
    let plan = plan(Spec::Prebuild(PrebuildInitializer { prebuild: None, git: vec![git] }));
    let Step::Prebuild(prebuild) = &plan.steps[0] else { panic!("{plan:?}") };
    match stage.run(Operation::update_of(&prebuild.git)).await.unwrap() {
        Outcome::Updated { head_changed, warnings } => (head_changed, warnings),
        other => panic!("{other:?}"),
    }
}

pub async fn repositories_move_to_their_target_and_keep_the_changes() {
    let (server, working, stage) = restored().await;
    stage.write("repo/tracked", "changed by the prebuild\n");
    stage.write("repo/built/output", "new");
    assert_eq!(update(&stage, request(&server)).await, (false, Vec::new()));
    assert_eq!(stage.read("repo/tracked"), "changed by the prebuild\n");
    let latest = commit(&working, &[("other", "2\n")], "main");
    assert_eq!(update(&stage, request(&server)).await, (true, Vec::new()));
    assert_eq!(stage.git("repo", &["rev-parse", "HEAD"]), latest);
    assert_eq!(stage.read("repo/other"), "2\n");
    assert_eq!(stage.read("repo/tracked"), "changed by the prebuild\n");
    assert_eq!((stage.read("repo/built/output"), stage.read("repo/sub/inside")), ("new".into(), "1".into()));
    assert_eq!(stage.git("repo", &["stash", "list"]), "");
    // To where it is already, which needs no server.
    let mut to_commit = request(&server);
    (to_commit.target_mode, to_commit.clone_taget) = (CloneTargetMode::RemoteCommit.into(), latest);
    drop(server);
    assert_eq!(update(&stage, to_commit).await, (false, Vec::new()));
    let elsewhere = GitInitializer { checkout_location: "none".into(), ..request(&GitServer::start()) };
    let (head_changed, warnings) = update(&stage, elsewhere).await;
    assert!(!head_changed && warnings.len() == 1, "{warnings:?}");
}

pub async fn changes_that_conflict_stay_in_the_stash() {
    let (server, working, stage) = restored().await;
    stage.write("repo/tracked", "changed by the prebuild\n");
    commit(&working, &[("tracked", "changed at the remote\n")], "main");
    let (head_changed, warnings) = update(&stage, request(&server)).await;
    assert!(head_changed && warnings.len() == 1, "{warnings:?}");
    assert_eq!(stage.read("repo/tracked"), "changed at the remote\n");
    assert_eq!(stage.git("repo", &["status", "--porcelain"]), "");
    assert!(stage.git("repo", &["stash", "show", "-p"]).contains("changed by the prebuild"));
}

pub async fn hostile_settings_of_a_prebuild_run_nothing_and_are_kept() {
    let (server, working, stage) = restored().await;
    let run = "touch /workspace/pwned; cat";
    let hostile = format!(
        "[core]\n\tsshCommand = {run:?}\n\tfsmonitor = {run:?}\n\thooksPath = /workspace/hooks\n\
         [remote \"origin\"]\n\tuploadpack = {run:?}\n\tvcs = ext\n[url \"ext::sh -c touch% /workspace/pwned \"]\n\tinsteadOf = http://\n\
         [filter \"evil\"]\n\tclean = {run:?}\n\tsmudge = {run:?}\n[merge \"evil\"]\n\tdriver = {run:?}\n\
         [credential]\n\thelper = \"!touch /workspace/pwned\"\n[include]\n\tpath = ../evil\n[submodule \"sub\"]\n\tupdate = \"!touch /workspace/pwned\"\n"
    );
    for config in ["repo/.git/config", "repo/.git/modules/sub/config"] {
        let before = stage.read(config);
        stage.write(config, &(before + &hostile));
    }
    stage.write("repo/evil", "[core]\n\tsshCommand = touch /workspace/pwned\n");
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "post-merge"] {
        for folder in ["hooks", "repo/.git/hooks", "repo/.git/modules/sub/hooks"] {
            let hook = format!("{folder}/{hook}");
            stage.write(&hook, "#!/bin/sh\ntouch /workspace/pwned\n");
            std::fs::set_permissions(stage.path(&hook), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    stage.write("repo/.gitattributes", "* filter=evil merge=evil\n");
    stage.write("repo/tracked", "changed by the prebuild\n");
    let inner = working.parent().unwrap().join("inner.working");
    commit(&inner, &[("inside", "2")], "main");
    git(&working.join("sub"), &["pull", "--quiet", "origin", "main"]);
    commit(&working, &[("other", "2\n")], "main");
    let (head_changed, warnings) = update(&stage, request(&server)).await;
    assert!(head_changed, "{warnings:?}");
    assert!(!stage.path("pwned").exists());
    assert_eq!(stage.read("repo/sub/inside"), "2", "{warnings:?}");
    assert_eq!(stage.read("repo/tracked"), "changed by the prebuild\n");
    for config in ["repo/.git/config", "repo/.git/modules/sub/config"] {
        let kept = stage.git("", &["config", "--no-includes", "--file", config, "core.sshCommand"]);
        assert_eq!(kept, run);
    }
    // A submodule whose repository is elsewhere has settings that nobody made inert.
    stage.write("evil/HEAD", "ref: refs/heads/main\n");
    stage.write("evil/config", &hostile);
    stage.write("repo/sub/.git", "gitdir: /workspace/evil\n");
    let (_, warnings) = update(&stage, request(&server)).await;
    assert!(warnings.iter().any(|warning| warning.contains("the prebuild is not updated")), "{warnings:?}");
    assert!(!stage.path("pwned").exists());
}
