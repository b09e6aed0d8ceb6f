//! Bad input: the workspace fails with one clear sentence and whose fault it is, others on its node do not notice, and no
//! content is lost.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use proto::contentservice::file_download_initializer::FileInfo;
use proto::contentservice::{FileDownloadInitializer, GitInitializer, workspace_initializer::Spec};

use super::life::{backup, change_everything, initializer, is_backed_up, repository};
use super::secrets::{everything, planted};
use super::stage::{BUCKET, Life, OWNER, Stage, stage};
use e2e::harness::{HttpFiles, Launch, Process, S3Answer, Trouble};

/// Starts a workspace that must fail with all these words.
async fn fails_with(stage: &mut Stage, id: &str, spec: Spec, words: &[&str]) -> Result<()> {
    let why = stage.fails(&Life::new(id, &format!("meta-{id}")).with(initializer(spec))).await?;
    fits(id, &why, words)
}

fn fits(id: &str, why: &str, words: &[&str]) -> Result<()> {
    let missing: Vec<_> =
        words.iter().filter(|word| !why.to_lowercase().contains(&word.to_lowercase())).collect();
    ensure!(missing.is_empty(), "{id}: {missing:?} not in: {why}");
    ensure!(!why.contains('\n') && why.len() < 1500, "{id}: not one sentence: {why}");
    eprintln!("{id}: {why}");
    Ok(())
}

fn git_at(stage: &Stage, change: impl FnOnce(&mut GitInitializer)) -> Spec {
    let mut git = repository(stage, "project");
    change(&mut git);
    Spec::Git(git)
}

#[test]
fn a_bad_repository_or_file_fails_with_a_clear_sentence_and_its_owner() -> Result<()> {
    stage("content-input", async |stage| {
        stage.git.create("project").await?;
        stage.git.commit("project", "main", &[("README.md", "hello\n")]).await?;
        let witness = Life::new("witness", "witness");
        stage.run(&witness).await?;
        stage.exec(&witness, "echo here >/workspace/file").await?;

        let gone = stage.git.remote("project").replace(&stage.git.address().port().to_string(), "9");
        let unreachable = git_at(stage, |git| git.remote_uri.clone_from(&gone));
        fails_with(stage, "unreachable", unreachable, &["user", &gone, "connect"]).await?;
        let password = git_at(stage, |git| {
            if let Some(config) = &mut git.config {
                config.auth_password = "wr0ng-passw0rd".to_owned();
            }
        });
        fails_with(stage, "password", password, &["user", "auth"]).await?;
        let branch = git_at(stage, |git| git.clone_taget = "no-such-branch".to_owned());
        fails_with(stage, "branch", branch, &["user", "no-such-branch"]).await?;
        let missing = stage.git.remote("nothing");
        let repository = git_at(stage, |git| git.remote_uri.clone_from(&missing));
        fails_with(stage, "missing", repository, &["user", &missing, "not found"]).await?;
        stage.git.set(Trouble::Status(500));
        fails_with(stage, "broken", git_at(stage, |_| ()), &["platform", "500"]).await?;
        stage.git.set(Trouble::None);

        let files = HttpFiles::start(stage.cluster(0)?.real_node()?.host_address(), None).await?;
        let url = files.put("/tool", "something else");
        let digest = format!("sha256:{}", "0".repeat(64));
        let file = FileInfo { url, file_path: "tool".to_owned(), digest };
        let download = FileDownloadInitializer { files: vec![file], target_location: String::new() };
        fails_with(stage, "digest", Spec::Download(download), &["user", "digest"]).await?;

        ensure!(
            stage.exec(&witness, "cat /workspace/file").await? == "here\n",
            "the other workspace is not well"
        );
        ensure!(is_backed_up(&stage.stop("witness").await?), "no backup of the other workspace");
        let texts = everything(stage).await?;
        planted(stage, &texts)?;
        let wrong = texts.iter().find(|(_, text)| String::from_utf8_lossy(text).contains("wr0ng-passw0rd"));
        ensure!(wrong.is_none(), "{:?} has the password", wrong.map(|(place, _)| place));
        Ok(())
    })
}

#[test]
fn a_damaged_backup_or_a_denied_bucket_fails_the_start_and_leaves_the_backup_alone() -> Result<()> {
    stage("content-damaged", async |stage| {
        let life = Life::new("good-1", "good");
        stage.run(&life).await?;
        change_everything(stage, &life).await?;
        let made = stage.list(&life).await?;
        stage.stop("good-1").await?;
        let (name, size) = stage.objects("good", "archives").pop().context("no archive")?;
        let archive = stage.server.object(BUCKET, &format!("{OWNER}/workspaces/good/archives/{name}"));
        let whole = fs::read(&archive)?;
        let restored = |id: &str| Life::new(id, "good").with(backup()).on(1);

        let mut damaged = whole.clone();
        let middle = usize::try_from(size / 2)?;
        damaged[middle] ^= 0xff;
        write_over(&archive, &damaged)?;
        let why = stage.fails(&restored("corrupt")).await?;
        fits("corrupt", &why, &["platform", &name])?;
        write_over(&archive, &whole[..middle])?;
        let why = stage.fails(&restored("truncated")).await?;
        fits("truncated", &why, &["platform", &name])?;
        write_over(&archive, &whole)?;

        let answers = [
            ("denied", 403, "AccessDenied", "configuration", "denies"),
            ("no-bucket", 404, "NoSuchBucket", "configuration", "no such bucket"),
            ("clock", 403, "RequestTimeTooSkewed", "platform", "correct the clock"),
        ];
        for (id, status, code, owner, words) in answers {
            stage.store.choose(move |_| Some(S3Answer::Error(status, code)));
            let why = stage.fails(&restored(id)).await?;
            fits(id, &why, &[owner, BUCKET, words])?;
            stage.store.heal();
        }
        ensure!(stage.heads("good")?.len() == 1, "{:?}", stage.heads("good")?);
        let again = restored("good-2");
        stage.run(&again).await?;
        stage.list(&again).await?.is(&made)?;
        stage.stop("good-2").await?;
        Ok(())
    })
}

/// In place, so that the store's notes about the object stay.
fn write_over(file: &std::path::Path, content: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::File::options().write(true).truncate(true).open(file)?;
    Ok(file.write_all(content)?)
}

/// Mounts memory over the folder of the workspaces of the second node, while the agent is away.
pub async fn small_disk(stage: &Stage, story: &str, mib: usize) -> Result<()> {
    let (agent, node) = (stage.agent(1)?, stage.cluster(1)?.real_node()?);
    agent.stop().await?;
    let mount = format!("mount -t tmpfs -o size={mib}m,mode=755 small /var/gitpod/{story}");
    let launch = Launch::new("a mount", "/bin/sh".as_ref(), ["-c", &mount], &agent.dir().join("mount.log"));
    let done = Process::start(stage.cluster(1)?.assets(), &node.inside(launch)).await?;
    ensure!(done.exited(crate::story::SOON).await? == 0, "{}", done.log_tail());
    agent.start().await
}

#[test]
fn a_restore_that_fills_the_disk_fails_and_leaves_room_for_others() -> Result<()> {
    stage("content-full", async |stage| {
        let life = Life::new("full-1", "full");
        stage.run(&life).await?;
        stage.exec(&life, "filetree fill /workspace/random 12 9").await?;
        let made = stage.list(&life).await?;
        stage.stop("full-1").await?;
        small_disk(stage, "content-full", 8).await?;
        let why = stage.fails(&Life::new("full-2", "full").with(backup()).on(1)).await?;
        fits("full", &why, &["space", "random"])?;

        // Something smaller has room, and what is in the store is whole.
        let small = Life::new("full-3", "small").on(1);
        stage.run(&small).await?;
        stage.exec(&small, "echo work >/workspace/work").await?;
        ensure!(is_backed_up(&stage.stop("full-3").await?), "no backup");
        let back = Life::new("full-5", "full").with(backup());
        stage.run(&back).await?;
        stage.list(&back).await?.is(&made)?;
        stage.stop("full-5").await?;
        Ok(())
    })
}
