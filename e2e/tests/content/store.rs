//! The store loses, refuses, cuts and delays: content that is not proven to be there is not deleted here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use serde_json::json;

use super::life::{backup, change_everything, is_backed_up};
use super::stage::{BUCKET, Life, OWNER, Stage, stage};
use crate::story::{stop, until};
use e2e::harness::{S3Answer, S3Request};

/// Whether it makes an object of its parts.
fn completes(request: &S3Request) -> bool {
    request.method == Method::POST
        && request.query.contains("uploadId")
        && request.status == Some(StatusCode::OK)
        && request.key.contains("/archives/")
}

#[test]
fn a_truncated_upload_is_noticed_before_anything_is_deleted() -> Result<()> {
    stage("content-truncated", async |stage| {
        let life = Life::new("cut-1", "cut");
        stage.run(&life).await?;
        change_everything(stage, &life).await?;
        let made = stage.list(&life).await?;
        // The store says that it has the object, and has lost its end.
        let root = stage.server.object(BUCKET, "");
        stage.store.after(move |request| {
            if completes(request) {
                let file = root.join(request.key.trim_start_matches('/'));
                let shortened = std::fs::File::options().write(true).open(&file).and_then(|file| {
                    let length = file.metadata()?.len();
                    file.set_len(length - 70_000)
                });
                assert!(shortened.is_ok(), "{}: {shortened:?}", file.display());
            }
        });
        stop(&mut stage.client, "cut-1").await?;
        until("a second upload", async || {
            let completed = stage.store.seen().iter().filter(|request| completes(request)).count();
            ensure!(completed > 1, "{completed} uploads");
            Ok(())
        })
        .await?;
        ensure!(stage.heads("cut")?.is_empty(), "a head names an archive that is truncated");
        ensure!(stage.agent(0)?.path("cut-1/tree")?.exists(), "the content is gone");
        stage.store.heal();
        let down = stage.stopped("cut-1").await?;
        ensure!(is_backed_up(&down), "{down:?}");
        let again = Life::new("cut-2", "cut").with(backup()).on(1);
        stage.run(&again).await?;
        stage.list(&again).await?.is(&made)?;
        stage.stop("cut-2").await?;
        Ok(())
    })
}

/// Refuses every second request for a while, and breaks off what is read.
fn trouble(stage: &Stage) {
    let requests = AtomicUsize::new(0);
    stage.store.choose(move |parts| match requests.fetch_add(1, Ordering::Relaxed) {
        number if number > 40 => None,
        number if number % 4 == 1 => Some(S3Answer::Error(503, "SlowDown")),
        number if number % 4 == 3 && parts.method == Method::GET => Some(S3Answer::Cut(1000)),
        number if number % 4 == 3 => Some(S3Answer::Lose),
        _ => None,
    });
}

#[test]
fn a_store_that_refuses_and_breaks_off_and_keys_that_rotate_delay_a_backup_and_a_restore() -> Result<()> {
    stage("content-trouble", async |stage| {
        let dir = stage.story.installation.dir().to_owned();
        let (before, after) =
            (stage.server.create_user("before").await?, stage.server.create_user("after").await?);
        before.write(&dir)?;
        let life = Life::new("trouble-1", "trouble");
        stage.run(&life).await?;
        change_everything(stage, &life).await?;
        let made = stage.list(&life).await?;
        trouble(stage);
        ensure!(is_backed_up(&stage.stop("trouble-1").await?), "no backup");
        ensure!(stage.store.failed() > 2, "only {} requests failed", stage.store.failed());

        let second = Life::new("trouble-2", "trouble").with(backup()).on(1);
        trouble(stage);
        stage.run(&second).await?;
        stage.list(&second).await?.is(&made)?;
        stage.exec(&second, "filetree fill /workspace/random 13 8").await?;
        let changed = stage.list(&second).await?;
        // The keys change in the middle of an upload, and the old ones end.
        let part = |parts: &http::request::Parts| {
            let query = parts.uri.query().unwrap_or_default();
            query.contains("partNumber=1").then_some(S3Answer::Delay(Duration::from_secs(2)))
        };
        let failed = stage.store.failed();
        stage.store.choose(part);
        stop(&mut stage.client, "trouble-2").await?;
        until("a part to be sent", async || {
            ensure!(stage.store.failed() > failed, "it has not come to that");
            Ok(())
        })
        .await?;
        stage.server.delete_user(&before).await?;
        after.write(&dir)?;
        ensure!(is_backed_up(&stage.stopped("trouble-2").await?), "no backup");
        let third = Life::new("trouble-3", "trouble").with(backup());
        stage.run(&third).await?;
        stage.list(&third).await?.is(&changed)?;
        stage.stop("trouble-3").await?;
        Ok(())
    })
}

#[test]
fn content_whose_backup_is_given_up_stays_on_its_node_and_the_status_says_where() -> Result<()> {
    stage("content-kept", async |stage| {
        let agent = stage.agents.first_mut().context("no agent")?;
        agent.stop().await?;
        agent.configure(&json!({ "node": {
            "backupRetry": { "first": "500ms", "most": "1s", "giveUp": "3s" },
        } }))?;
        agent.start().await?;
        let life = Life::new("kept-1", "kept");
        stage.run(&life).await?;
        stage.exec(&life, "echo work >/workspace/work").await?;
        let other = Life::new("kept-other", "kept-other");
        stage.run(&other).await?;
        stage.store.choose(|parts| {
            parts.uri.path().contains("/kept/").then_some(S3Answer::Error(403, "AccessDenied"))
        });
        let down = stage.stop("kept-1").await?;
        let failed = down.conditions.clone().unwrap_or_default().failed;
        let folder = stage.agent(0)?.path("kept-1")?;
        ensure!(!is_backed_up(&down), "{down:?}");
        for part in ["/var/gitpod/content-kept/kept-1", "metal-1-real", BUCKET, "denies"] {
            ensure!(failed.contains(part), "{part} is not in: {failed}");
        }
        // Others are backed up, and housekeeping has been there.
        ensure!(is_backed_up(&stage.stop("kept-other").await?), "no backup of another workspace");
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(std::fs::read_to_string(folder.join("work"))? == "work\n", "the content is gone");
        ensure!(stage.objects("kept", "").is_empty() && OWNER == "jane", "something was uploaded");
        Ok(())
    })
}
