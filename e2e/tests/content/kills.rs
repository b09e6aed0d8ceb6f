//! The agent, the kubelet, the container runtime and the store end in the middle of everything: no content is lost, nothing
//! is done twice, and what was sent is not sent again.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use http::request::Parts;
use proto::contentservice::workspace_initializer::Spec;
use proto::wsman::{TakeSnapshotRequest, WorkspacePhase};

use super::life::{backup, change_everything, initializer, is_backed_up, repository, snapshot};
use super::secrets::{planted, processes};
use super::stage::{BUCKET, Life, OWNER, Stage, stage};
use crate::story::{start, stop, until};
use e2e::harness::{Fault, NodePart, S3Answer, Trouble};

/// A request at which the agent is killed.
type At = fn(&Parts) -> Option<S3Answer>;

fn query(parts: &Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

/// The steps of a backup that the store sees, in their order. Of those that change something, the store does it, and the
/// agent does not hear of it.
const BACKUP: [(&str, At); 5] = [
    ("the upload begins", |parts| {
        (parts.method == Method::POST && query(parts).starts_with("uploads")).then_some(S3Answer::HoldAnswer)
    }),
    ("a part is sent", |parts| query(parts).contains("partNumber=2").then_some(S3Answer::Hold)),
    ("the upload is completed", |parts| {
        (parts.method == Method::POST && query(parts).contains("uploadId")).then_some(S3Answer::HoldAnswer)
    }),
    ("the archive is proven", |parts| {
        let reads = parts.method == Method::GET && parts.uri.path().contains("/archives/");
        reads.then_some(S3Answer::Hold)
    }),
    ("the head is written", |parts| {
        let writes = parts.method == Method::PUT && parts.uri.path().contains("/heads/");
        writes.then_some(S3Answer::HoldAnswer)
    }),
];

/// Waits until a request is held, and kills the agent there.
async fn kill_there(stage: &Stage, agent: usize, step: &str) -> Result<()> {
    let failed = stage.store.failed();
    kill_after(stage, agent, step, failed).await
}

async fn kill_after(stage: &Stage, agent: usize, step: &str, failed: usize) -> Result<()> {
    until(step, async || {
        ensure!(stage.store.failed() > failed, "it has not come to that");
        Ok(())
    })
    .await?;
    stage.agent(agent)?.kill().await
}

#[test]
fn an_agent_that_is_killed_at_each_step_of_a_backup_loses_nothing_and_backs_up_once() -> Result<()> {
    stage("content-killed", async |stage| {
        let life = Life::new("kill-1", "kill");
        stage.run(&life).await?;
        change_everything(stage, &life).await?;
        let made = stage.list(&life).await?;
        let folder = stage.agent(0)?.path("kill-1")?;
        for (number, (step, at)) in BACKUP.into_iter().enumerate() {
            let failed = stage.store.failed();
            stage.store.choose(at);
            if number == 0 {
                stop(&mut stage.client, "kill-1").await?;
            } else {
                stage.agent(0)?.spawn().await?;
            }
            kill_after(stage, 0, step, failed).await?;
            ensure!(folder.join("tree").exists(), "the content is gone before the agent knows of its backup");
        }
        // Last, everything is done and only the resource does not say so.
        stage.store.choose(|parts| {
            let uri = parts.uri.to_string().replace("%2F", "/");
            uri.contains("/workspaces/kill/").then_some(S3Answer::Delay(Duration::from_secs(1)))
        });
        let failed = stage.store.failed();
        stage.agent(0)?.spawn().await?;
        until("the backup goes on", async || {
            ensure!(stage.store.failed() > failed, "it has not come to that");
            Ok(())
        })
        .await?;
        let node = stage.cluster(0)?.real_node()?;
        node.api().set(Fault::BlackHole).await?;
        let kept = stage.agent(0)?.path(&format!(".spaceport/kept/{OWNER}/kill"))?;
        let is_kept = until("the folder to be kept", async || {
            ensure!(kept.join("tree").exists(), "it is not");
            Ok(())
        })
        .await;
        stage.agent(0)?.kill().await?;
        node.api().heal().await?;
        is_kept?;
        stage.store.heal();
        stage.agent(0)?.start().await?;
        let down = stage.stopped("kill-1").await?;
        ensure!(is_backed_up(&down), "{down:?}");
        let (archives, heads) = (stage.objects("kill", "archives"), stage.heads("kill")?);
        ensure!(archives.len() == 1 && heads.len() == 1, "{archives:?} {heads:?}");
        ensure!(heads[0]["size"] == archives[0].1, "{heads:?}");
        // An answer with the id of an upload that was lost: only the bucket's lifecycle rule removes that.
        ensure!(
            stage.server.open_uploads(BUCKET) <= 1,
            "{} uploads are left",
            stage.server.open_uploads(BUCKET)
        );

        let again = Life::new("kill-2", "kill").with(backup()).on(1);
        stage.run(&again).await?;
        stage.list(&again).await?.is(&made)?;
        stage.stop("kill-2").await?;
        Ok(())
    })
}

/// What a killed initialisation left is not there any more.
async fn nothing_is_left_over(stage: &Stage, life: &Life) -> Result<()> {
    let seen = stage.exec(life, "ls -A /workspace").await?;
    ensure!(!seen.contains("half"), "{seen}");
    Ok(())
}

#[test]
fn an_agent_that_is_killed_while_it_initialises_or_takes_a_snapshot_does_it_once_more() -> Result<()> {
    stage("content-killed-early", async |stage| {
        stage.git.create("project").await?;
        stage.git.commit("project", "main", &[("README.md", "hello\n")]).await?;
        // In the middle of a clone; what the process list shows meanwhile.
        let first = Life::new("early-1", "early").with(initializer(Spec::Git(repository(stage, "project"))));
        stage.git.set(Trouble::Hang);
        start(&mut stage.client, first.request()).await?;
        until("the clone to begin", async || {
            ensure!(!stage.git.seen().is_empty(), "no request");
            Ok(())
        })
        .await?;
        planted(stage, &processes(stage, 0)?)?;
        stage.agent(0)?.kill().await?;
        fs::write(stage.agent(0)?.path("early-1/half")?, "half")?;
        stage.git.set(Trouble::None);
        stage.agent(0)?.start().await?;
        stage.reach("early-1", |status| status.phase() == WorkspacePhase::Running).await?;
        ensure!(stage.exec(&first, "cat /workspace/project/README.md").await? == "hello\n", "not cloned");
        nothing_is_left_over(stage, &first).await?;

        // In the middle of a snapshot: the URL that was published stays.
        change_everything(stage, &first).await?;
        let made = stage.list(&first).await?;
        stage.store.choose(|parts| query(parts).contains("partNumber=2").then_some(S3Answer::Hold));
        let mut client = stage.client.clone();
        let published = client
            .take_snapshot(TakeSnapshotRequest { id: "early-1".to_owned(), return_immediately: true })
            .await?;
        let url = published.into_inner().url;
        kill_there(stage, 0, "a part of the snapshot is sent").await?;
        stage.store.heal();
        stage.agent(0)?.start().await?;
        let name = url
            .split('@')
            .next()
            .unwrap_or_default()
            .trim_start_matches(&format!("{OWNER}/workspaces/early/"));
        until("the snapshot", async || {
            ensure!(!stage.objects("early", "").iter().all(|(key, _)| key != name), "{name} is not there");
            Ok(())
        })
        .await?;
        stage.stop("early-1").await?;

        // In the middle of a restore.
        stage.store.choose(|parts| BACKUP[3].1(parts));
        let second = Life::new("early-2", "early").with(backup()).on(1);
        stage.begin(&second).await?;
        kill_there(stage, 1, "the archive is read").await?;
        fs::write(stage.agent(1)?.path("early-2/half")?, "half")?;
        stage.store.heal();
        stage.agent(1)?.start().await?;
        stage.reach("early-2", |status| status.phase() == WorkspacePhase::Running).await?;
        stage.list(&second).await?.is(&made)?;
        stage.stop("early-2").await?;
        let third = Life::new("early-3", "early-copy").with(snapshot(&url)).on(1);
        stage.run(&third).await?;
        stage.list(&third).await?.is(&made)?;
        stage.stop("early-3").await?;
        Ok(())
    })
}

#[test]
fn the_kubelet_the_runtime_and_the_store_may_end_during_a_stop() -> Result<()> {
    stage("content-outages", async |stage| {
        let life = Life::new("out-1", "out");
        stage.run(&life).await?;
        change_everything(stage, &life).await?;
        let made = stage.list(&life).await?;
        let node = stage.cluster(0)?.real_node()?;
        let held = |parts: &Parts| {
            query(parts).contains("partNumber=2").then_some(S3Answer::Delay(Duration::from_secs(1)))
        };
        stage.store.choose(held);
        let failed = stage.store.failed();
        node.kill_part(NodePart::Containerd).await?;
        node.kill_part(NodePart::Kubelet).await?;
        stop(&mut stage.client, "out-1").await?;
        node.start_part(NodePart::Containerd).await?;
        node.start_part(NodePart::Kubelet).await?;
        until("a part to be sent", async || {
            ensure!(stage.store.failed() > failed, "it has not come to that");
            Ok(())
        })
        .await?;
        stage.server.stop().await?;
        let mark = stage.store.seen().len();
        until("requests that fail", async || {
            let requests = stage.store.seen().len() - mark;
            ensure!(requests > 2, "only {requests}");
            Ok(())
        })
        .await?;
        ensure!(stage.agent(0)?.path("out-1/tree")?.exists(), "the content is gone");
        stage.store.heal();
        stage.server.restart().await?;
        let down = stage.stopped("out-1").await?;
        ensure!(is_backed_up(&down), "{down:?}");
        let again = Life::new("out-2", "out").with(backup()).on(1);
        stage.run(&again).await?;
        stage.list(&again).await?.is(&made)?;
        stage.stop("out-2").await.map(drop)
    })
}
