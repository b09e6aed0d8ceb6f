use std::os::unix::fs::PermissionsExt;

use node::helper::{GitStatus, Operation, Outcome};
use proto::contentservice::GitInitializer;

use super::git_server::{GitServer, commit};
use super::stage::{Stage, git, give};

async fn status(stage: &Stage) -> Option<GitStatus> {
    match stage.run(Operation::GitStatus { folder: "repo".into() }).await.unwrap() {
        Outcome::Status { status } => status,
        other => panic!("{other:?}"),
    }
}

async fn cloned(server: &GitServer) -> Stage {
    let stage = Stage::new();
    let request = GitInitializer {
        remote_uri: server.address("a"),
        checkout_location: "repo".into(),
        ..Default::default()
    };
    stage.clone(request).await.unwrap();
    stage
}

pub async fn the_lists_and_totals_are_those_of_the_working_copy() {
    let server = GitServer::start();
    let working = server.repository("a");
    let latest = commit(&working, &[("a", "1"), ("b c", "2"), ("d", "3")], "main");
    let stage = cloned(&server).await;
    let clean = GitStatus { branch: "main".into(), latest_commit: latest, ..Default::default() };
    assert_eq!(status(&stage).await, Some(clean));
    let repo = stage.path("repo");
    git(&repo, &["commit", "--quiet", "--allow-empty", "-m", "mine \u{1b}[31m and so on"]);
    git(&repo, &["mv", "d", "renamed"]);
    stage.write("repo/b c", "changed");
    (0..130).for_each(|at| stage.write(&format!("repo/new/{at:03}"), "x"));
    give(&repo);
    let found = status(&stage).await.unwrap();
    assert_eq!(found.latest_commit, git(&repo, &["rev-parse", "HEAD"]));
    assert_eq!(found.uncommitted_files, ["b c", "renamed"]);
    assert_eq!((found.total_uncommitted_files, found.total_untracked_files), (2, 130));
    assert_eq!(found.untracked_files.len(), 101);
    assert_eq!(found.untracked_files.last().unwrap(), "... and 30 more");
    assert_eq!(found.total_unpushed_commits, 1);
    assert!(found.unpushed_commits[0].ends_with(": mine [31m and so on"), "{:?}", found.unpushed_commits);
    git(&repo, &["checkout", "--quiet", "--detach"]);
    give(&repo);
    assert_eq!(status(&stage).await.unwrap().branch, "(detached)");
    std::fs::remove_dir_all(repo.join(".git")).unwrap();
    assert_eq!(status(&stage).await, None);
}

pub async fn settings_and_filters_of_the_user_run_nothing() {
    let server = GitServer::start();
    let working = server.repository("a");
    commit(&working, &[("a", "1"), (".gitattributes", "* filter=evil\na filter=e=v.i\n")], "main");
    let stage = cloned(&server).await;
    let run = "touch /workspace/pwned; cat";
    let config = format!(
        "[core]\n\tfsmonitor = {run:?}\n\thooksPath = /workspace/repo/hooks\n\tpager = {run:?}\n[log]\n\tshowSignature = true\n\
         [gpg]\n\tprogram = {run:?}\n[filter \"evil\"]\n\tclean = {run:?}\n\tprocess = {run:?}\n\trequired = true\n\
         [filter \"e=v.i\"]\n\tclean = {run:?}\n\trequired\n[alias]\n\tstatus = \"!{run}\"\n"
    );
    let before = stage.read("repo/.git/config");
    stage.write("repo/.git/config", &(before + &config));
    stage.write("repo/hooks/post-index-change", "#!/bin/sh\ntouch /workspace/pwned\n");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(stage.path("repo/hooks/post-index-change"), executable).unwrap();
    stage.write("repo/a", "2");
    let found = status(&stage).await.unwrap();
    assert_eq!(found.uncommitted_files, ["a"]);
    assert!(!stage.path("pwned").exists());
}
