//! What a run happens on: three replicas on three clusters, each replica with its own way to etcd and to each cluster.
//!
//! One proxy stands before etcd and one before each cluster; a fault there holds for the process of one replica alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::RwLock;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{audit, history::Write};
use crate::harness::spaceport::{Installation, Replica, get, prepare_namespaces};
use crate::harness::{Cluster, Fleet, Proxy};

/// For whatever must happen soon, on a busy machine.
const SOON: Duration = Duration::from_mins(1);
/// Replicas of the manager.
const REPLICAS: usize = 3;

/// The stage. Dropping it ends the replicas.
pub struct Stage {
    /// Certificates and configuration.
    pub installation: Installation,
    /// The clusters, which nothing is between here and there.
    pub clusters: Vec<Arc<Cluster>>,
    /// Workspace namespace in each of them.
    pub namespace: String,
    secrets: String,
    /// Before etcd.
    pub etcd: Proxy,
    /// Before each cluster, by its name.
    pub proxies: BTreeMap<String, Proxy>,
    replicas: RwLock<Vec<Arc<Replica>>>,
    /// How long each audit log was before the run.
    logged: BTreeMap<String, u64>,
}

impl Stage {
    /// Sets it on a fleet with audit logs: `name` is that of the workspace namespace and part of etcd's prefix,
    /// `kubeconfigs` has the login `spaceport` for each cluster.
    pub async fn set(fleet: &Fleet, kubeconfigs: &BTreeMap<String, PathBuf>, name: &str) -> Result<Self> {
        let (namespace, secrets) = (name.to_owned(), format!("{name}-secrets"));
        let dir = fleet.dir().join(name);
        let prefix = format!("/spaceport/{name}/");
        let mut installation =
            Installation::apart(fleet.assets(), &dir, fleet.etcd(), &prefix, (&namespace, &secrets))?;
        let etcd = Proxy::of_etcd(fleet.etcd()).await?;
        installation.overrides = json!({
            "etcd": { "endpoints": [etcd.url("https")] },
            "federation": {
                "leader": { "lease": "3s", "renew": "500ms", "stopAfter": "2s" },
                "health": {
                    "probe": "1s", "deadline": "1s", "lostAfter": "4s", "recoverAfter": "1s", "holdDownMax": "1s",
                },
            },
        });
        let (mut proxies, mut logged) = (BTreeMap::new(), BTreeMap::new());
        for cluster in fleet.clusters() {
            prepare_namespaces(cluster, &namespace, &secrets).await?;
            proxies.insert(cluster.name().to_owned(), Proxy::of_cluster(cluster).await?);
            let log = cluster.audit_log().context("the fleet has no audit logs")?;
            logged.insert(cluster.name().to_owned(), fs::metadata(log).map_or(0, |log| log.len()));
        }
        let clusters = fleet.clusters().to_vec();
        let replicas = RwLock::default();
        let stage = Self { installation, clusters, namespace, secrets, etcd, proxies, replicas, logged };
        let started = (0..REPLICAS).map(|n| stage.start(n));
        let started: Vec<_> = futures::future::try_join_all(started).await?;
        *stage.replicas.write() = started;
        stage.register(kubeconfigs).await?;
        Ok(stage)
    }

    async fn start(&self, place: usize) -> Result<Arc<Replica>> {
        Ok(Arc::new(self.installation.start(&format!("manager-{place}")).await?))
    }

    /// Starts the replica of a place anew, at new ports.
    pub async fn restart(&self, place: usize) -> Result<()> {
        let replica = self.start(place).await?;
        let mut replicas = self.replicas.write();
        *replicas.get_mut(place).context("no such replica")? = replica;
        Ok(())
    }

    /// The replicas as they are now, by their places.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().clone()
    }

    /// Place of the replica that says that it leads; of several the first.
    pub async fn leader(&self) -> Result<usize> {
        for (place, replica) in self.replicas().iter().enumerate() {
            let metrics = get(&format!("{}/metrics", replica.health)).await;
            if metrics.is_ok_and(|metrics| metrics.contains("spaceport_leading 1")) {
                return Ok(place);
            }
        }
        bail!("nobody leads")
    }

    /// Waits until somebody leads, all replicas are ready, and all clusters available to each.
    pub async fn whole(&self) -> Result<()> {
        until("all replicas and clusters to be well", async || {
            self.leader().await?;
            for replica in self.replicas() {
                get(&format!("{}/readyz", replica.health)).await?;
                let metrics = get(&format!("{}/metrics", replica.health)).await?;
                for cluster in &self.clusters {
                    let name = cluster.name();
                    let gauge =
                        format!("spaceport_cluster_health{{cluster=\"{name}\",health=\"Available\"}} 1");
                    ensure!(metrics.contains(&gauge), "{name} is not available to {}", replica.name);
                }
            }
            Ok(())
        })
        .await
    }

    /// Registers the clusters as reached through the proxies.
    async fn register(&self, kubeconfigs: &BTreeMap<String, PathBuf>) -> Result<()> {
        let replicas = self.replicas();
        let replicas: Vec<&Replica> = replicas.iter().map(AsRef::as_ref).collect();
        for cluster in &self.clusters {
            let name = cluster.name();
            let proxy = self.proxies.get(name).context("no proxy")?;
            let direct = kubeconfigs.get(name).context("no kubeconfig")?;
            let through = self.installation.dir().join(format!("{name}-through.kubeconfig"));
            let kubeconfig = proxy.kubeconfig(direct, &through)?;
            let file = self.installation.cluster_file(name, cluster.region(), &kubeconfig)?;
            let args = ["cluster", "register", "-f", &file.to_string_lossy()];
            let output = self.installation.cli(&replicas, &args).await?;
            ensure!(output.code == 0, "cannot register {name}: {}", output.stderr);
        }
        self.whole().await
    }

    /// What the apiservers noted of this run's fenced writes, by cluster.
    pub fn writes(&self) -> Result<BTreeMap<String, Vec<Write>>> {
        let mut writes = BTreeMap::new();
        for cluster in &self.clusters {
            let path = cluster.audit_log().context("the fleet has no audit logs")?;
            let mut log = fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
            log.seek(SeekFrom::Start(self.logged.get(cluster.name()).copied().unwrap_or(0)))?;
            let mut text = String::new();
            log.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
            let found = audit::writes(&text, &[&self.namespace, &self.secrets]);
            writes.insert(cluster.name().to_owned(), found);
        }
        Ok(writes)
    }
}

/// Milliseconds of the clock that all parts of a history share.
pub fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// Asks again until the answer is good; the error is the last answer that was not.
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let give_up = Instant::now() + SOON;
    loop {
        match check().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > give_up => {
                return Err(error.context(format!("waited {SOON:?} for {what}")));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}
