//! Spaceport's own etcd and any number of clusters.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    assets::{Assets, target_dir},
    cluster::{Cluster, ClusterOptions},
    control_plane::Audit,
    etcd::{Etcd, EtcdOptions, EtcdSecurity},
    nodes::NodeSize,
    process::fresh_dir,
    real_node::RealNodeOptions,
};

/// Clusters that boot at once: each keeps a core busy meanwhile.
const AT_ONCE: usize = 2;

/// Options of a fleet.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    pub etcd: EtcdOptions,
    /// The clusters, in the order of [`Fleet::clusters`].
    pub clusters: Vec<ClusterOptions>,
}

impl FleetOptions {
    /// Mutual TLS and users for etcd, and `count` clusters: eu-1, us-1, ap-1, then cluster-4 and so on.
    pub fn of(count: usize) -> Self {
        let name = |i| match i {
            0 => "eu-1".to_owned(),
            1 => "us-1".to_owned(),
            2 => "ap-1".to_owned(),
            i => format!("cluster-{}", i + 1),
        };
        let etcd = EtcdOptions {
            security: EtcdSecurity::MutualTls,
            users: Some("/spaceport/".to_owned()),
            ..EtcdOptions::default()
        };
        Self { etcd, clusters: (0..count).map(|i| ClusterOptions::named(&name(i))).collect() }
    }

    /// Clusters of these names and regions, each with a real node and no simulated one
    /// ([`real_node::available`](super::real_node::available)).
    pub fn of_real_nodes(clusters: &[(&str, &str)]) -> Self {
        let mut options = Self::of(clusters.len()).with_nodes(0, &NodeSize::default()).with_real_nodes();
        for (cluster, (name, region)) in options.clusters.iter_mut().zip(clusters) {
            (cluster.name, cluster.region) = ((*name).to_owned(), (*region).to_owned());
        }
        options
    }

    /// The same with `nodes` nodes of `size` in each cluster.
    #[must_use]
    pub fn with_nodes(mut self, nodes: usize, size: &NodeSize) -> Self {
        for cluster in &mut self.clusters {
            cluster.nodes = nodes;
            cluster.node_size = size.clone();
        }
        self
    }

    /// The same with a real node in each cluster ([`real_node::available`](super::real_node::available)).
    #[must_use]
    pub fn with_real_nodes(mut self) -> Self {
        for cluster in &mut self.clusters {
            cluster.real_node = Some(RealNodeOptions::default());
        }
        self
    }

    /// The same with an audit log of each apiserver.
    #[must_use]
    pub fn audited(mut self, audit: Audit) -> Self {
        for cluster in &mut self.clusters {
            cluster.audit = audit;
        }
        self
    }
}

/// A running fleet. Dropping it ends every process and removes its files.
pub struct Fleet {
    // Fields are dropped in this order: clusters, etcd, files.
    clusters: Vec<Arc<Cluster>>,
    etcd: Etcd,
    assets: Arc<Assets>,
    dir: TempDir,
}

impl Fleet {
    /// Builds what is missing and boots everything; reports progress on standard error.
    pub async fn boot(options: FleetOptions) -> Result<Self> {
        let started = Instant::now();
        let assets =
            Arc::new(tokio::task::spawn_blocking(Assets::ensure).await.context("the build was cancelled")??);
        let dir = run_dir()?;
        let count = options.clusters.len();
        tell(started, &format!("booting etcd and {count} clusters in {}", dir.path().display()));
        let etcd =
            Etcd::start_new(&assets, &dir.path().join("etcd"), "etcd-of-spaceport", options.etcd).await?;
        let boot = |cluster: ClusterOptions| {
            let (assets, folder) = (Arc::clone(&assets), dir.path().join(&cluster.name));
            async move {
                let (name, begun) = (cluster.name.clone(), Instant::now());
                let cluster = Box::pin(Cluster::boot(&assets, &folder, cluster)).await?;
                tell(started, &format!("{name} is up ({:.1} s)", begun.elapsed().as_secs_f64()));
                anyhow::Ok(Arc::new(cluster))
            }
        };
        let clusters = stream::iter(options.clusters).map(boot).buffered(AT_ONCE).try_collect().await?;
        Ok(Self { clusters, etcd, assets, dir })
    }

    /// In the order of the options.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    pub fn cluster(&self, name: &str) -> Result<&Arc<Cluster>> {
        self.clusters
            .iter()
            .find(|cluster| cluster.name() == name)
            .with_context(|| format!("no cluster {name}"))
    }

    /// Spaceport's etcd.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The programs, to start more processes with.
    pub fn assets(&self) -> &Arc<Assets> {
        &self.assets
    }

    /// Its folder, also for files of the processes that use the fleet.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How to reach everything, as in `fleet.json`.
    pub fn describe(&self) -> Value {
        let identity = self.etcd.client_identity();
        let clusters = self.clusters.iter().map(|cluster| {
            json!({
                "name": cluster.name(), "region": cluster.region(),
                "api": cluster.api(), "kubeconfig": cluster.kubeconfig(),
            })
        });
        json!({
            "pid": std::process::id(),
            "dir": self.dir(),
            "etcd": {
                "endpoint": self.etcd.endpoint(),
                "ca": self.etcd.ca(),
                "cert": identity.map(|identity| &identity.cert),
                "key": identity.map(|identity| &identity.key),
                "user": self.etcd.user().map(|(name, _)| name),
                "password": self.etcd.user().map(|(_, password)| password),
            },
            "clusters": clusters.collect::<Vec<_>>(),
        })
    }
}

/// A new folder under `target/e2e/run`; removes those that killed processes left there.
pub fn run_dir() -> Result<TempDir> {
    let runs = target_dir()?.join("e2e/run");
    fresh_dir(&runs)?;
    for entry in fs::read_dir(&runs).context("cannot list earlier runs")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split_once('-').and_then(|(pid, _)| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(&runs).context("cannot make a folder for this run")
}

fn tell(started: Instant, what: &str) {
    eprintln!("[{:5.1} s] {what}", started.elapsed().as_secs_f64());
}
