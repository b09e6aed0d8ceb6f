//! What users do: start, change files, stop, start again here and elsewhere, snapshots, prebuilds, aborts.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown};

use anyhow::{Context as _, Result, ensure};
use proto::contentservice::{
    FromBackupInitializer, GitConfig, GitInitializer, PrebuildInitializer, SnapshotInitializer,
    WorkspaceInitializer, workspace_initializer::Spec,
};
use proto::wsman::{
    StopWorkspaceRequest, TakeSnapshotRequest, WorkspaceConditionBool, WorkspaceConditions, WorkspaceStatus,
};

use super::stage::{Life, OWNER, PASSWORD, Stage, USER, stage};
use crate::story::until;
use e2e::harness::Listing;

/// A user of the workspace other than its own one: 998 in the container's user namespace.
const OTHER_USER: u32 = 100_000 + 997;

pub fn initializer(spec: Spec) -> WorkspaceInitializer {
    WorkspaceInitializer { spec: Some(spec) }
}

/// The last backup.
pub fn backup() -> WorkspaceInitializer {
    let checkout_location = "project".to_owned();
    initializer(Spec::Backup(FromBackupInitializer { checkout_location, ..FromBackupInitializer::default() }))
}

pub fn snapshot(url: &str) -> WorkspaceInitializer {
    initializer(Spec::Snapshot(snapshot_of(url)))
}

fn snapshot_of(url: &str) -> SnapshotInitializer {
    SnapshotInitializer { snapshot: url.to_owned(), ..SnapshotInitializer::default() }
}

/// The branch main of a repository, into `project`, with the right login.
pub fn repository(stage: &Stage, name: &str) -> GitInitializer {
    let config = GitConfig {
        authentication: proto::contentservice::GitAuthMethod::BasicAuth.into(),
        auth_user: USER.to_owned(),
        auth_password: PASSWORD.to_owned(),
        ..GitConfig::default()
    };
    GitInitializer {
        remote_uri: stage.git.remote(name),
        target_mode: proto::contentservice::CloneTargetMode::RemoteBranch.into(),
        clone_taget: "main".to_owned(),
        checkout_location: "project".to_owned(),
        config: Some(config),
        ..GitInitializer::default()
    }
}

/// Whether the last backup is complete.
pub fn is_backed_up(status: &WorkspaceStatus) -> bool {
    let complete = status.conditions.as_ref().map(WorkspaceConditions::final_backup_complete);
    complete == Some(WorkspaceConditionBool::True)
}

/// Makes files of all kinds in the container, and gives some of them to another user, as a user in its own user namespace
/// would.
pub async fn change_everything(stage: &Stage, life: &Life) -> Result<()> {
    stage.exec(life, "filetree make /workspace/tree && filetree fill /workspace/random 12 7").await?;
    let folder = stage.agent(life.cluster)?.path(&life.id)?.join("tree");
    for name in ["modes/0600", "modes/4755", "links/one", "links/to-dangling", "many/001"] {
        // As the change of the owner takes setuid away, so does the listing see it.
        lchown(folder.join(name), Some(OTHER_USER), Some(OTHER_USER))?;
    }
    Ok(())
}

#[test]
fn every_file_comes_back_on_the_same_node_and_on_another_cluster() -> Result<()> {
    stage("content-life", async |stage| {
        stage.git.create("project").await?;
        stage
            .git
            .commit("project", "main", &[("README.md", "hello\n"), ("src/main.go", "package main\n")])
            .await?;
        let first = Life::new("life-1", "life").with(initializer(Spec::Git(repository(stage, "project"))));
        let up = stage.run(&first).await?;
        let metrics = up.initializer_metrics.and_then(|metrics| metrics.git).context("no metrics of git")?;
        ensure!(metrics.size > 0 && metrics.duration.is_some(), "{metrics:?}");
        ensure!(
            stage.exec(&first, "cat /workspace/project/README.md; id -u").await? == "hello\n33333\n",
            "not cloned"
        );
        change_everything(stage, &first).await?;
        stage.exec(&first, "cd /workspace/project && echo more >>README.md && echo new >notes").await?;
        let made = stage.list(&first).await?;
        ensure!(made.len() > 400, "only {} entries", made.len());

        let down = stage.stop("life-1").await?;
        let repo = down.repo.clone().context("no git status")?;
        ensure!(
            repo.branch == "main" && repo.total_uncommited_files == 1 && repo.total_untracked_files == 1,
            "{repo:?}"
        );
        ensure!(is_backed_up(&down), "{down:?}");
        let archives = stage.objects("life", "archives");
        ensure!(archives.len() == 1 && archives[0].1 > 12 << 20, "{archives:?}");
        let head = stage.heads("life")?.pop().context("no head")?;
        ensure!(head["size"] == archives[0].1, "{head}");
        let kept = stage.agent(0)?.path(&format!(".spaceport/kept/{OWNER}/life"))?;
        let inode = fs::metadata(&kept).context("the folder was not kept")?.ino();

        again_on_the_same_node(stage, &made, inode).await?;
        on_the_other_cluster(stage, &made).await?;
        Ok(())
    })
}

/// The folder is renamed, and nothing downloaded; a stop without changes uploads nothing.
async fn again_on_the_same_node(stage: &mut Stage, made: &Listing, inode: u64) -> Result<()> {
    let mark = stage.store.seen().len();
    let second = Life::new("life-2", "life").with(backup());
    stage.run(&second).await?;
    stage.list(&second).await?.is(made)?;
    ensure!(fs::metadata(stage.agent(0)?.path("life-2")?)?.ino() == inode, "another folder");
    // The index proves that the archive is still there.
    let read: u64 = stage.requests(mark, "/archives/").iter().map(|request| request.received).sum();
    ensure!(read < 512 << 10, "{read} bytes were downloaded");
    let mark = stage.store.seen().len();
    let down = stage.stop("life-2").await?;
    ensure!(is_backed_up(&down) && down.repo.is_some(), "{down:?}");
    let sent: usize = stage.requests(mark, "/archives/").iter().map(|request| request.sent).sum();
    ensure!(sent == 0, "{sent} bytes were uploaded");
    let heads = stage.heads("life")?;
    ensure!(heads.len() == 2 && heads[0]["archive"] == heads[1]["archive"], "{heads:?}");
    Ok(())
}

/// Files are the same there; what is left on the first node is older then, and is not used.
async fn on_the_other_cluster(stage: &mut Stage, made: &Listing) -> Result<()> {
    let third = Life::new("life-3", "life").with(backup()).on(1);
    let up = stage.run(&third).await?;
    let metrics = up.initializer_metrics.and_then(|metrics| metrics.backup).context("no metrics")?;
    ensure!(metrics.size > 0, "{metrics:?}");
    stage.list(&third).await?.is(made)?;
    stage.exec(&third, "echo elsewhere >/workspace/elsewhere && rm -r /workspace/random").await?;
    let changed = stage.list(&third).await?;
    stage.stop("life-3").await?;
    ensure!(stage.objects("life", "archives").len() == 2, "{:?}", stage.objects("life", "archives"));
    let fourth = Life::new("life-4", "life").with(backup());
    stage.run(&fourth).await?;
    stage.list(&fourth).await?.is(&changed)?;
    stage.stop("life-4").await?;
    Ok(())
}

#[test]
fn a_snapshot_of_a_running_workspace_starts_another_one_and_an_abort_saves_nothing() -> Result<()> {
    stage("content-snapshot", async |stage| {
        let first = Life::new("snap-1", "snap");
        stage.run(&first).await?;
        change_everything(stage, &first).await?;
        let made = stage.list(&first).await?;
        let request = TakeSnapshotRequest { id: "snap-1".to_owned(), return_immediately: false };
        let url = stage.client.take_snapshot(request).await?.into_inner().url;
        ensure!(url.starts_with(&format!("{OWNER}/workspaces/snap/snapshot-")) && url.contains('@'), "{url}");
        stage.exec(&first, "echo later >/workspace/later").await?;
        stage.list(&first).await?.is(&made).err().context("nothing changed")?;

        let abort = StopWorkspaceRequest { id: "snap-1".to_owned(), policy: 2 };
        stage.client.stop_workspace(abort).await?;
        let down = stage.stopped("snap-1").await?;
        ensure!(!is_backed_up(&down), "{down:?}");
        ensure!(
            stage.objects("snap", "archives").is_empty() && stage.heads("snap")?.is_empty(),
            "it was saved"
        );
        let folder = stage.agent(0)?.path("snap-1")?;
        until("the content to be removed", async || {
            let left: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
            ensure!(left.is_empty(), "{left:?} is there");
            Ok(())
        })
        .await?;

        let second = Life::new("snap-2", "snap-copy").with(snapshot(&url)).on(1);
        let up = stage.run(&second).await?;
        ensure!(up.initializer_metrics.is_some_and(|metrics| metrics.snapshot.is_some()), "no metrics");
        stage.list(&second).await?.is(&made)?;
        ensure!(is_backed_up(&stage.stop("snap-2").await?), "no backup");
        ensure!(stage.objects("snap-copy", "archives").len() == 1, "no archive");
        Ok(())
    })
}

#[test]
fn a_prebuild_keeps_its_logs_and_starts_workspaces_at_the_newest_commit() -> Result<()> {
    stage("content-prebuild", async |stage| {
        stage.git.create("project").await?;
        let before = stage.git.commit("project", "main", &[("README.md", "one\n")]).await?;
        let script = "echo building; mkdir -p project/build && echo artefact >project/build/out";
        let git = initializer(Spec::Git(repository(stage, "project")));
        let build = Life::new("build-1", "build").with(git).prebuild(script);
        crate::story::start(&mut stage.client, build.request()).await?;
        let down = stage.stopped("build-1").await?;
        let conditions = down.conditions.clone().unwrap_or_default();
        ensure!(conditions.failed.is_empty() && conditions.headless_task_failed.is_empty(), "{conditions:?}");
        let url = conditions.snapshot;
        ensure!(url.starts_with(&format!("{OWNER}/workspaces/build/snapshot-")), "{url}");
        let logs = stage.objects("build", "instances/build-1/logs");
        ensure!(logs.len() == 1 && logs[0].0 == "0", "{logs:?}");
        let log = stage
            .server
            .object(super::stage::BUCKET, &format!("{OWNER}/workspaces/build/instances/build-1/logs/0"));
        ensure!(fs::read_to_string(log)? == "building\n", "another log");

        let after = stage.git.commit("project", "main", &[("README.md", "two\n")]).await?;
        let prebuild = PrebuildInitializer {
            prebuild: Some(snapshot_of(&url)),
            git: vec![repository(stage, "project")],
        };
        let life = Life::new("from-build", "from-build").with(initializer(Spec::Prebuild(prebuild))).on(1);
        stage.run(&life).await?;
        let seen = stage
            .exec(&life, "cd /workspace/project && cat README.md build/out .git/refs/heads/main")
            .await?;
        ensure!(before != after && seen == format!("two\nartefact\n{after}\n"), "{seen}");
        stage.stop("from-build").await?;
        Ok(())
    })
}
