//! The storage of a workspace on a real node: refused by btrfs at the limit of its class, or measured.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt as _};
use proto::wsman::WorkspaceStatus;
use serde_json::{Value, json};

use super::life::{backup, is_backed_up};
use super::stage::{CLUSTERS, Life, Stage, stage};
use crate::story::until;
use e2e::harness::{Launch, Process};

const MADE: Duration = Duration::from_secs(30);
const FULL: &str = "The storage is full:";

#[test]
fn a_workspace_is_refused_more_than_its_quota_and_comes_back_full_on_another_cluster() -> Result<()> {
    if !has_btrfs()? {
        return Ok(());
    }
    stage("content-quota", async |stage| {
        for at in 0..CLUSTERS.len() {
            on_btrfs(stage, at).await?;
        }
        let first = Life::new("quota-1", "quota").limited();
        stage.run(&first).await?;
        let said =
            stage.exec(&first, "dd if=/dev/urandom of=/workspace/big bs=64k count=2000 2>&1; sync").await?;
        ensure!(said.contains("quota exceeded"), "{said}");
        let status = stage.reach(&first.id, is_full).await?;
        ensure!(status.message.contains("writes fail"), "{}", status.message);
        let doctor = stage.story.cli(&["cluster", "doctor", CLUSTERS[0].0]).await?;
        ensure!(doctor.stdout.contains("storage quota: btrfs-qgroup on"), "{}", doctor.stdout);
        let written = stage.list(&first).await?;
        let down = stage.stop(&first.id).await?;
        ensure!(is_backed_up(&down), "{:?}", down.conditions);

        let second = Life::new("quota-2", "quota").limited().on(1).with(backup());
        stage.run(&second).await?;
        ensure!(stage.list(&second).await? == written, "the files differ");
        let said =
            stage.exec(&second, "dd if=/dev/urandom of=/workspace/more bs=64k count=99 2>&1; sync").await?;
        ensure!(said.contains("quota exceeded"), "{said}");
        stage.reach(&second.id, is_full).await?;
        let script = "rm -f /workspace/big /workspace/more && sync && dd if=/dev/urandom of=/workspace/more bs=64k count=9";
        stage.exec(&second, script).await?;
        stage.reach(&second.id, |status| !is_full(status)).await?;
        stage.stop(&second.id).await?;

        let third = Life::new("quota-3", "quota").limited().on(1).with(backup());
        stage.run(&third).await?;
        let size = stage.exec(&third, "stat -c %s /workspace/more").await?;
        ensure!(size.trim() == "589824", "{size}");
        stage.stop(&third.id).await.map(drop)
    })
}

#[test]
fn a_measured_workspace_says_that_it_is_full_and_a_node_whose_quota_cannot_work_takes_none() -> Result<()> {
    stage("content-measured", async |stage| {
        configure(stage, 0, "measured").await?;
        let life = Life::new("measured-1", "measured").limited();
        stage.run(&life).await?;
        let script =
            "dd if=/dev/urandom of=/workspace/big bs=1M count=40 && ln /workspace/big /workspace/again";
        stage.exec(&life, script).await?;
        let status = stage.reach(&life.id, is_full).await?;
        ensure!(status.message.contains("writes are not stopped"), "{}", status.message);
        stage.exec(&life, "rm /workspace/big /workspace/again").await?;
        stage.reach(&life.id, |status| !is_full(status)).await?;
        stage.stop(&life.id).await?;

        let agent = stage.agents.first_mut().context("no agent")?;
        agent.stop().await?;
        agent.configure(&quota("btrfs-qgroup"))?;
        agent.spawn().await?;
        until("the agent to say why it is not ready", async || {
            let log = std::fs::read_to_string(agent.log())?;
            ensure!(log.contains("is not on btrfs: mount a btrfs file system there"), "{log}");
            Ok(())
        })
        .await?;
        let node = agent.cluster().real_node()?.name().to_owned();
        let label = format!("gitpod.io/ws-daemon_ready_ns_{}", stage.story.namespace);
        let found = Api::<Node>::all(agent.cluster().client()).get(&node).await?;
        ensure!(!found.labels().contains_key(&label), "{:?}", found.labels());
        agent.stop().await?;
        agent.configure(&quota("measured"))?;
        agent.start().await
    })
}

fn is_full(status: &WorkspaceStatus) -> bool {
    status.message.starts_with(FULL)
}

fn quota(backend: &str) -> Value {
    json!({ "node": { "quota": { "backend": backend, "interval": "1s" } } })
}

async fn configure(stage: &mut Stage, at: usize, backend: &str) -> Result<()> {
    let agent = stage.agents.get_mut(at).context("no such agent")?;
    agent.stop().await?;
    agent.configure(&quota(backend))?;
    agent.start().await
}

/// Gives an agent a btrfs file system for its workspaces.
async fn on_btrfs(stage: &mut Stage, at: usize) -> Result<()> {
    let agent = stage.agent(at)?;
    agent.stop().await?;
    let (node, root) = (agent.cluster().real_node()?, agent.host_path().to_owned());
    let image = format!("/var/{}.btrfs", stage.story.namespace);
    File::create(node.path(&image))?.set_len(1 << 30)?;
    let script = "mkfs.btrfs -q \"$0\" && mount -o loop \"$0\" \"$1\" && btrfs quota enable \"$1\"";
    let log = agent.dir().join("btrfs.log");
    let launch = Launch::new("btrfs", Path::new("sh"), ["-c", script, &image, &root], &log);
    let process = Process::start(agent.cluster().assets(), &node.inside(launch)).await?;
    let code = process.exited(MADE).await?;
    ensure!(code == 0, "no btrfs: {}", process.log_tail());
    configure_stopped(stage, at).await
}

async fn configure_stopped(stage: &mut Stage, at: usize) -> Result<()> {
    let agent = stage.agents.get_mut(at).context("no such agent")?;
    agent.configure(&quota("btrfs-qgroup"))?;
    agent.start().await
}

/// Whether this machine can have btrfs; as [`e2e::harness::real_node::available`] otherwise.
fn has_btrfs() -> Result<bool> {
    let supports = std::fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\tbtrfs\n"));
    let runs = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if supports && runs("btrfs") && runs("losetup") {
        return Ok(true);
    }
    let why = "quotas of btrfs need a kernel with btrfs, and the packages btrfs-progs and mount; `make node-assets` installs them";
    if std::env::var_os("REQUIRE_REAL_NODE").is_some_and(|value| value == "1") {
        bail!("{why}");
    }
    // Not `eprintln!`, which tests that pass do not show.
    let _ = writeln!(std::io::stderr(), "SKIPPED {why}");
    Ok(false)
}
