//! Setup of a run: its own etcd, and three replicas on three clusters, each replica with its own path to etcd and to
//! each cluster.
//!
//! One proxy is in front of etcd and one in front of each cluster; a fault there affects a single replica. Faults on
//! clusters themselves hit only those that nobody else uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::RwLock;
use serde_json::json;

use domain::{record::RecordState, secret::Secret};
use store::{Options, Store, Tls, User};

use super::history::{Record, Recorded};
use crate::harness::spaceport::{Installation, Output, PREFIX, Replica, get, prepare_namespaces};
use crate::harness::{Assets, Cluster, Etcd, EtcdOptions, EtcdSecurity, Proxy, until};

/// Timeout of one step on a busy machine.
const SOON: Duration = Duration::from_mins(1);
/// Timeout of one read of etcd.
const READ: Duration = Duration::from_secs(10);
/// Number of manager replicas.
const REPLICAS: usize = 3;

/// What a stage is built on.
pub struct Ground<'a> {
    /// The programs.
    pub assets: &'a Arc<Assets>,
    /// Folder for its files.
    pub dir: &'a Path,
    /// Clusters with audit logs, prepared as member clusters.
    pub clusters: Vec<Arc<Cluster>>,
    /// Those that nobody else uses.
    pub disturbable: Vec<Arc<Cluster>>,
    /// Kubeconfig of login `spaceport` for each, by name.
    pub kubeconfigs: &'a BTreeMap<String, PathBuf>,
}

/// Dropping it ends the replicas and etcd.
pub struct Stage {
    /// Certificates and configuration.
    pub installation: Installation,
    /// The clusters, reached without proxies.
    pub clusters: Vec<Arc<Cluster>>,
    /// Those that the nemesis may freeze or kill.
    pub disturbable: Vec<Arc<Cluster>>,
    /// Workspace namespace, the same in each.
    pub namespace: String,
    /// Its secrets namespace.
    pub secrets: String,
    /// In front of etcd.
    pub etcd_proxy: Proxy,
    /// In front of each cluster, by name.
    pub proxies: BTreeMap<String, Proxy>,
    replicas: RwLock<Vec<Arc<Replica>>>,
    /// Reads the records, without proxy.
    store: Store,
    /// Length of each audit log before the run.
    pub logged: BTreeMap<String, u64>,
    /// etcd itself; last, so that replicas end before it.
    pub etcd: Etcd,
}

impl Stage {
    /// Builds it; `name` becomes the workspace namespace.
    pub async fn set(ground: Ground<'_>, name: &str) -> Result<Self> {
        let (namespace, secrets) = (name.to_owned(), format!("{name}-secrets"));
        let dir = ground.dir.join(name);
        let secured = EtcdOptions {
            security: EtcdSecurity::MutualTls,
            users: Some(PREFIX.to_owned()),
            ..EtcdOptions::default()
        };
        let etcd = Etcd::start_new(ground.assets, &dir.join("etcd"), "etcd-of-chaos", secured).await?;
        let mut installation =
            Installation::apart(ground.assets, &dir, &etcd, PREFIX, (&namespace, &secrets))?;
        let etcd_proxy = Proxy::of_etcd(&etcd).await?;
        installation.overrides = json!({
            "etcd": { "endpoints": [etcd_proxy.url("https")] },
            "federation": {
                "leader": { "lease": "3s", "renew": "500ms", "stopAfter": "2s" },
                "health": {
                    "probe": "1s", "deadline": "1s", "lostAfter": "4s", "recoverAfter": "1s", "holdDownMax": "1s",
                },
            },
        });
        let (mut proxies, mut logged) = (BTreeMap::new(), BTreeMap::new());
        for cluster in &ground.clusters {
            prepare_namespaces(cluster, &namespace, &secrets).await?;
            proxies.insert(cluster.name().to_owned(), Proxy::of_cluster(cluster).await?);
            let log = cluster.audit_log().context("the fleet has no audit logs")?;
            logged.insert(cluster.name().to_owned(), fs::metadata(log).map_or(0, |log| log.len()));
        }
        let stage = Self {
            installation,
            clusters: ground.clusters,
            disturbable: ground.disturbable,
            namespace,
            secrets,
            etcd_proxy,
            proxies,
            replicas: RwLock::default(),
            store: Store::connect(store_options(&etcd)?).await?,
            logged,
            etcd,
        };
        let started = (0..REPLICAS).map(|n| stage.start(n));
        let started: Vec<_> = futures::future::try_join_all(started).await?;
        *stage.replicas.write() = started;
        stage.register(ground.kubeconfigs).await?;
        Ok(stage)
    }

    async fn start(&self, place: usize) -> Result<Arc<Replica>> {
        Ok(Arc::new(self.installation.start(&format!("manager-{place}")).await?))
    }

    /// Starts the replica at an index again, at new ports.
    pub async fn restart(&self, place: usize) -> Result<()> {
        let replica = self.start(place).await?;
        let mut replicas = self.replicas.write();
        *replicas.get_mut(place).context("no such replica")? = replica;
        Ok(())
    }

    /// The current replicas, by index.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().clone()
    }

    /// Index of the first replica that reports to be the leader.
    pub async fn leader(&self) -> Result<usize> {
        for (place, replica) in self.replicas().iter().enumerate() {
            let metrics = get(&format!("{}/metrics", replica.health)).await;
            if metrics.is_ok_and(|metrics| metrics.contains("spaceport_leading 1")) {
                return Ok(place);
            }
        }
        bail!("no replica is the leader")
    }

    /// Waits until there is a leader, all replicas are ready, and all clusters available to each.
    pub async fn whole(&self) -> Result<()> {
        until(SOON, "all replicas and clusters to be available", async || {
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

    /// Runs the CLI against all replicas, as an admin.
    pub async fn cli(&self, args: &[&str]) -> Result<Output> {
        let replicas = self.replicas();
        let replicas: Vec<&Replica> = replicas.iter().map(AsRef::as_ref).collect();
        self.installation.cli(&replicas, args).await
    }

    /// Registers the clusters through the proxies.
    async fn register(&self, kubeconfigs: &BTreeMap<String, PathBuf>) -> Result<()> {
        for cluster in &self.clusters {
            let name = cluster.name();
            let proxy = self.proxies.get(name).context("no proxy")?;
            let direct = kubeconfigs.get(name).context("no kubeconfig")?;
            let through = self.installation.dir().join(format!("{name}-through.kubeconfig"));
            let kubeconfig = proxy.kubeconfig(direct, &through)?;
            let file = self.installation.cluster_file(name, cluster.region(), &kubeconfig)?;
            let args = ["cluster", "register", "-f", &file.to_string_lossy()];
            // With a lease this short, a busy machine may change leaders without any fault.
            until(SOON, "the cluster to be registered", async || {
                let output = self.cli(&args).await?;
                let done = output.code == 0 || output.stderr.contains("ALREADY_EXISTS");
                ensure!(done, "cannot register {name}: {}", output.stderr);
                Ok(())
            })
            .await?;
        }
        self.whole().await
    }

    /// The records of these workspaces in etcd.
    pub async fn records(&self, ids: BTreeSet<String>) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for id in ids {
            let Some(found) = self.store.placement(&id.parse()?).await? else { continue };
            let state = match found.value.state {
                RecordState::Placed => Recorded::Placed,
                RecordState::Confirmed => Recorded::Confirmed,
                RecordState::Ended { .. } => Recorded::Ended,
            };
            records.push(Record { id, cluster: found.value.cluster.to_string(), state });
        }
        Ok(records)
    }
}

fn store_options(etcd: &Etcd) -> Result<Options> {
    let ca = etcd.ca().map(fs::read_to_string).transpose().context("cannot read etcd's authority")?;
    let identity = etcd.client_identity();
    let tls = ca.map(|ca_pem| Tls {
        ca_pem,
        cert_pem: identity.map(|identity| identity.cert_pem.clone()),
        key_pem: identity.map(|identity| Secret::new(identity.key_pem.clone())),
    });
    let user = etcd
        .user()
        .map(|(name, password)| User { name: name.to_owned(), password: Secret::new(password.to_owned()) });
    let prefix = PREFIX.to_owned();
    Ok(Options { endpoints: vec![etcd.endpoint()], prefix, tls, user, request_timeout: READ })
}

/// Milliseconds of the clock that all parts of a history share.
pub fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
