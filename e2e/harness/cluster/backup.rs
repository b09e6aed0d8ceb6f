//! Backups of a cluster's etcd, and restores of them as an admin would do.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::{Cluster, Part};

/// Concurrent writers.
const WRITERS: usize = 4;
/// How far versions are raised: more than is ever written after a backup.
const BUMP: &str = "1000000";

/// Resource versions after a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Versions {
    /// As at the backup: versions seen since are used again, for other states.
    Fall,
    /// Above all versions ever seen, as etcd's documentation recommends for Kubernetes.
    Rise,
}

impl Cluster {
    /// Takes a snapshot of etcd into a new file, while everything runs.
    pub async fn back_up(&self, file: &Path) -> Result<()> {
        let mut snapshot = self.etcd.connect().await?.snapshot().await.context("no snapshot")?;
        let mut to = tokio::fs::File::create_new(file)
            .await
            .with_context(|| format!("cannot make {}", file.display()))?;
        while let Some(part) = snapshot.message().await.context("the snapshot was interrupted")? {
            to.write_all(part.blob()).await?;
        }
        to.sync_all().await.with_context(|| format!("cannot write {}", file.display()))
    }

    /// Restores a snapshot. Scheduler, controllers and kubelets end before and start again after it, as required.
    /// Returns when the apiserver had ended: what it acknowledged until then may be lost.
    pub async fn restore(&self, snapshot: &Path, versions: Versions) -> Result<Timestamp> {
        self.stop_components().await?;
        self.stop(Part::ApiServer).await?;
        let ended = Timestamp::now();
        self.stop(Part::Etcd).await?;
        let data = self.etcd.data();
        tokio::fs::remove_dir_all(&data)
            .await
            .with_context(|| format!("cannot remove {}", data.display()))?;
        let (name, peer) = (self.etcd.name(), "http://127.0.0.1:2380");
        let mut etcdutl = tokio::process::Command::new(self.assets.program("etcdutl"));
        etcdutl.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(&data).args([
            "--name",
            name,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            &format!("{name}={peer}"),
        ]);
        if versions == Versions::Rise {
            etcdutl.args(["--bump-revision", BUMP, "--mark-compacted"]);
        }
        let done = etcdutl.kill_on_drop(true).output().await.context("cannot run etcdutl")?;
        ensure!(done.status.success(), "etcdutl: {}", String::from_utf8_lossy(&done.stderr));
        self.start(Part::Etcd).await?;
        self.start(Part::ApiServer).await?;
        self.start_components().await?;
        Ok(ended)
    }
}

/// Programs that write to a cluster all the time, so that its versions rise fast. Dropping it ends them.
pub struct Writers(JoinSet<()>);

impl Writers {
    pub fn begin(cluster: &Cluster) -> Self {
        let mut writing = JoinSet::new();
        for n in 0..WRITERS {
            let maps = Api::<ConfigMap>::namespaced(cluster.client(), "default");
            writing.spawn(async move {
                let (name, params) = (format!("busy-{n}"), PatchParams::apply("busy").force());
                for count in 0u64.. {
                    let map = json!({
                        "apiVersion": "v1", "kind": "ConfigMap", "data": { "count": count.to_string() },
                    });
                    // Fails while the apiserver is down.
                    let _ = maps.patch(&name, &params, &Patch::Apply(map)).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        Self(writing)
    }
}
