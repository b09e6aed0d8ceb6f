//! What a person sees of content on the command line: where it comes from, how far it is, what failed and by whose fault, and what
//! can be restored.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::Value;

use super::secrets::{everything, planted};
use super::stage::{CLUSTERS, Life, OWNER, PASSWORD, Stage, USER, stage};
use crate::story::until;
use e2e::harness::S3Answer;
use e2e::harness::spaceport::Output;

async fn workspace(stage: &Stage, args: &[&str]) -> Result<Output> {
    stage.story.cli(&[&["workspace"], args].concat()).await
}

/// The result of a verb that must succeed.
async fn view(stage: &Stage, args: &[&str]) -> Result<Value> {
    let output = workspace(stage, &[args, &["-o", "json"]].concat()).await?;
    ensure!(output.code == 0, "{args:?}: {}", output.stderr);
    serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
}

/// The verb that starts an instance of a workspace and waits for it.
fn start<'a>(id: &'a str, meta: &'a str, cluster: usize, more: &[&'a str]) -> Vec<&'a str> {
    let region = CLUSTERS[cluster].1;
    let args = ["start", "--id", id, "--meta-id", meta, "--owner", OWNER, "--image", "image:1"];
    [&args[..], &["--region", region, "--wait"], more].concat()
}

#[test]
fn a_workspace_starts_from_a_commit_and_comes_back_from_its_newest_or_a_named_backup() -> Result<()> {
    stage("content-verbs", async |stage| {
        stage.git.create("project").await?;
        let first = stage.git.commit("project", "main", &[("README.md", "one\n")]).await?;
        stage.git.commit("project", "main", &[("README.md", "two\n")]).await?;
        let file = stage.story.installation.dir().join("git-password");
        std::fs::write(&file, format!("{PASSWORD}\n"))?;
        let (url, file) = (stage.git.remote("project"), file.display().to_string());
        let git = ["--git-url", &url, "--git-user", USER, "--git-password-file", &file];
        let commit = ["--git-commit", &first, "--git-location", "src/project"];
        let life = Life::new("verbs-1", "verbs");
        view(stage, &start("verbs-1", "verbs", 0, &[&git[..], &commit].concat())).await?;
        ensure!(
            stage.exec(&life, "cat /workspace/src/project/README.md").await? == "one\n",
            "another commit"
        );

        let shown = view(stage, &["show", "verbs-1"]).await?;
        let content = &shown["content"];
        ensure!(content["initialization"]["succeeded"] == true, "{shown}");
        ensure!(content["initializers"][0]["kind"] == "git" && content["size"].as_u64() > Some(0), "{shown}");
        ensure!(content["newestBackup"].is_null(), "{shown}");
        stage.exec(&life, "echo first >/workspace/file").await?;
        let output = workspace(stage, &["stop", "verbs-1", "--wait"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);

        let size = stage.objects("verbs", "archives").pop().context("no archive")?.1;
        let listed = view(stage, &["backups", "verbs-1"]).await?;
        ensure!(listed["backups"].as_array().is_some_and(|all| all.len() == 1), "{listed}");
        let backup = &listed["backups"][0];
        ensure!(
            backup["newest"] == true && backup["size"] == size && backup["instance"] == "verbs-1",
            "{backup}"
        );
        let name = backup["name"].as_str().context("no name")?;

        back(stage, size).await?;
        let listed = view(stage, &["backups", "verbs", "--owner", OWNER]).await?;
        ensure!(listed["backups"].as_array().is_some_and(|all| all.len() == 2), "{listed}");
        ensure!(listed["backups"][0]["name"] != name && listed["backups"][1]["name"] == name, "{listed}");
        let named = format!("--from-backup={name}");
        view(stage, &start("verbs-3", "verbs", 0, &[&named])).await?;
        let life = Life::new("verbs-3", "verbs");
        ensure!(stage.exec(&life, "cat /workspace/file").await? == "first\n", "another backup");
        let output = workspace(stage, &["stop", "verbs-3", "--wait"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);

        whose_fault(stage, &url).await?;
        planted(stage, &everything(stage).await?)
    })
}

/// On the other cluster, from the newest backup.
async fn back(stage: &mut Stage, size: u64) -> Result<()> {
    view(stage, &start("verbs-2", "verbs", 1, &["--from-backup"])).await?;
    let second = Life::new("verbs-2", "verbs").on(1);
    ensure!(stage.exec(&second, "cat /workspace/file").await? == "first\n", "another file");
    let shown = workspace(stage, &["show", "verbs-2"]).await?.stdout;
    let newest = shown.lines().find(|line| line.starts_with("newest backup:")).context("no newest backup")?;
    ensure!(newest.contains("ago"), "{shown}");
    ensure!(
        shown.lines().any(|line| line.starts_with("initializers:") && line.contains("backup: ")),
        "{shown}"
    );
    ensure!(view(stage, &["show", "verbs-2"]).await?["content"]["newestBackup"]["size"] == size, "{shown}");
    stage.exec(&second, "echo second >/workspace/file").await?;
    let output = workspace(stage, &["stop", "verbs-2", "--wait"]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    Ok(())
}

/// A failed start ends with one sentence, and so does `show` of it.
async fn whose_fault(stage: &mut Stage, url: &str) -> Result<()> {
    let wrong = stage.story.installation.dir().join("wrong-password");
    std::fs::write(&wrong, "wr0ng-passw0rd\n")?;
    let wrong = wrong.display().to_string();
    let git = ["--git-url", url, "--git-user", USER, "--git-password-file", &wrong];
    let output = workspace(stage, &start("wrong-1", "wrong", 0, &git)).await?;
    ensure!(output.code == 1 && output.stderr.contains("does not accept the login"), "{}", output.stderr);
    ensure!(output.stderr.trim_end().ends_with("(fault of the user)"), "{}", output.stderr);
    ensure!(!output.stderr.contains("wr0ng-passw0rd"), "{}", output.stderr);
    let shown = workspace(stage, &["show", "wrong-1"]).await?.stdout;
    let sentence = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(sentence.contains("does not accept the login"), "{shown}");
    let output = workspace(stage, &start("none-1", "none", 0, &["--from-backup"])).await?;
    ensure!(output.code == 1 && output.stderr.contains("has no backup"), "{}", output.stderr);
    Ok(())
}

#[test]
fn a_long_backup_and_a_long_restore_say_how_far_they_are_and_why_they_are_tried_again() -> Result<()> {
    stage("content-progress", async |stage| {
        let life = Life::new("slow-1", "slow");
        stage.run(&life).await?;
        stage.exec(&life, "filetree fill /workspace/random 12 9").await?;
        // No such bucket, until the first try has failed.
        stage.store.choose(|parts| {
            (parts.method != Method::GET && parts.uri.path().contains("/slow/"))
                .then_some(S3Answer::Error(404, "NoSuchBucket"))
        });
        crate::story::stop(&mut stage.client, "slow-1").await?;
        let again = stage.reach("slow-1", |status| status.message.contains("is tried again")).await?;
        for part in ["no such bucket", "(fault of the configuration)"] {
            ensure!(again.message.contains(part), "{}", again.message);
        }
        // Each part takes long.
        stage.store.choose(|parts| {
            let query = parts.uri.query().unwrap_or_default();
            query.contains("partNumber").then_some(S3Answer::Delay(Duration::from_secs(8)))
        });
        let output = workspace(stage, &["stop", "slow-1", "--wait"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        ensure!(
            output.stderr.contains("Writing the archive, ") && output.stderr.contains("iB"),
            "{}",
            output.stderr
        );
        until("the conditions of the end", async || {
            let left = stage.story.resources(CLUSTERS[0].0)?.get_opt("slow-1").await?;
            let progress = left.and_then(|left| left.status?.condition("ContentProgress").cloned());
            ensure!(progress.is_none_or(|progress| progress.status == "False"), "it is still in progress");
            Ok(())
        })
        .await?;

        stage.store.choose(|parts| {
            let reads = parts.method == Method::GET && parts.uri.path().contains("/archives/");
            reads.then_some(S3Answer::Delay(Duration::from_secs(4)))
        });
        let output = workspace(stage, &start("slow-2", "slow", 1, &["--from-backup"])).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let said = ["Restoring the ", "Looking for the last backup"];
        ensure!(said.iter().any(|said| output.stderr.contains(said)), "{}", output.stderr);
        stage.store.heal();
        stage.stop("slow-2").await?;
        Ok(())
    })
}
