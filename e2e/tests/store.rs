//! The store on a real etcd: elections, guarded writes, mirrors, and failures of etcd.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use domain::{
    cluster::ClusterSpec,
    names::WorkspaceId,
    record::{Digest, PlacementRecord, RecordState},
    secret::Secret,
};
use serde_json::json;
use store::{
    Claim, Election, ElectionThreadError, Error, Leadership, NewCluster, Options, Replica, Sealer,
    SealingKey, Store, Term, Timing, Tls, User,
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use e2e::harness::{Assets, Etcd, EtcdOptions, EtcdSecurity};

mod clusters;
mod election;
mod former_clusters;
mod hung;
mod mirror;
mod placements;
mod troubles;

/// Timeout on a busy machine, where nothing is measured.
const SOON: Duration = Duration::from_secs(20);
/// Far below any lease that a test waits for.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// An etcd and a store on it.
struct Room {
    etcd: Etcd,
    store: Store,
    _dir: TempDir,
}

impl Room {
    async fn open() -> Result<Self> {
        Self::open_with(EtcdOptions::default()).await
    }

    async fn open_with(options: EtcdOptions) -> Result<Self> {
        let dir = TempDir::new()?;
        let etcd =
            Etcd::start_new(&assets().await?, &dir.path().join("etcd"), "etcd-of-store", options).await?;
        let store = Store::connect(store_options(&etcd)?).await?;
        Ok(Self { etcd, store, _dir: dir })
    }

    /// A candidate with its own connection, like another process.
    async fn stand(&self, name: &str, timing: Timing) -> Result<Candidate> {
        stand(store_options(&self.etcd)?, name.to_owned(), timing).await
    }

    /// A leader, and cluster `eu` registered by it.
    async fn lead(&self) -> Result<(Candidate, Term)> {
        let leader = self.stand("leader", Timing::default()).await?;
        let term = leader.leads(SOON).await?;
        leader.store.create_cluster(&term, &sealer()?, &cluster("eu")?).await?;
        Ok((leader, term))
    }
}

async fn stand(options: Options, name: String, timing: Timing) -> Result<Candidate> {
    let store = Store::connect(options).await?;
    let (election, leadership) =
        Election::new(&store, Replica { address: format!("{name}:1"), replica: name }, timing)?;
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(election.run(shutdown.clone()));
    Ok(Candidate { store, leadership, shutdown, task })
}

struct Candidate {
    store: Store,
    leadership: watch::Receiver<Leadership>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ElectionThreadError>>,
}

impl Candidate {
    async fn leads(&self, within: Duration) -> Result<Term> {
        let mut leadership = self.leadership.clone();
        let leads = leadership.wait_for(|now| matches!(now, Leadership::Leading { .. }));
        match &*timeout(within, leads).await.context("no leader in time")?? {
            Leadership::Leading { term } => Ok(term.clone()),
            Leadership::Standby { .. } => bail!("not leading"),
        }
    }

    async fn follows(&self, leader: &str, within: Duration) -> Result<()> {
        let mut leadership = self.leadership.clone();
        let follows = |now: &Leadership| matches!(now, Leadership::Standby { leader: Some(known) } if known.replica == leader);
        timeout(within, leadership.wait_for(follows))
            .await
            .with_context(|| format!("never heard of {leader}"))??;
        Ok(())
    }

    /// Ends it like a kill: nothing is released.
    fn kill(self) {
        self.task.abort();
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn assets() -> Result<Arc<Assets>> {
    static ASSETS: OnceLock<Arc<Assets>> = OnceLock::new();
    if let Some(assets) = ASSETS.get() {
        return Ok(Arc::clone(assets));
    }
    let assets = tokio::task::spawn_blocking(Assets::ensure).await??;
    Ok(Arc::clone(ASSETS.get_or_init(|| Arc::new(assets))))
}

fn store_options(etcd: &Etcd) -> Result<Options> {
    let tls = match (etcd.ca(), etcd.client_identity()) {
        (Some(ca), Some(identity)) => Some(Tls {
            ca_pem: std::fs::read_to_string(ca)?,
            cert_pem: Some(identity.cert_pem.clone()),
            key_pem: Some(Secret::new(identity.key_pem.clone())),
        }),
        _ => None,
    };
    let user = etcd
        .user()
        .map(|(name, password)| User { name: name.to_owned(), password: Secret::new(password.to_owned()) });
    Ok(Options { tls, user, ..plain(&etcd.endpoint()) })
}

fn plain(endpoint: &str) -> Options {
    Options {
        endpoints: vec![endpoint.to_owned()],
        prefix: "/spaceport/".to_owned(),
        tls: None,
        user: None,
        request_timeout: Duration::from_secs(3),
    }
}

/// A short lease, to wait for its expiry.
fn short() -> Timing {
    let ms = Duration::from_millis;
    Timing { ttl: ms(2000), renew: ms(500), stop_after: ms(1400), stalled_after: ms(30_000) }
}

/// A lease that outlives a restart of etcd.
fn patient() -> Timing {
    let seconds = Duration::from_secs;
    Timing { ttl: seconds(30), renew: seconds(1), stop_after: seconds(25), stalled_after: seconds(60) }
}

fn sealer() -> Result<Sealer> {
    Ok(Sealer::new(vec![SealingKey { id: "test".to_owned(), secret: Secret::new(vec![7; 32]) }])?)
}

fn cluster(name: &str) -> Result<NewCluster> {
    let spec: ClusterSpec = serde_json::from_value(json!({
        "name": name, "region": "europe", "weight": 100, "maxWeight": 100,
        "namespaces": [{ "namespace": "ws", "secretsNamespace": "ws-secrets" }],
    }))?;
    let kubeconfig = Some(Secret::new(format!("kubeconfig of {name}: hunter2").into_bytes()));
    Ok(NewCluster {
        spec,
        api_server: format!("https://{name}.example:6443"),
        kubeconfig,
        cluster_uid: String::new(),
    })
}

fn record(workspace: &str, meta: &str) -> Result<PlacementRecord> {
    Ok(PlacementRecord {
        workspace: workspace.parse()?,
        meta: meta.parse()?,
        owner: "owner".parse()?,
        cluster: "eu".parse()?,
        namespace: "ws".parse()?,
        generation: 1,
        digest: Digest("d1".to_owned()),
        keying: None,
        placed_at: jiff::Timestamp::from_second(1_800_000_000)?,
        state: RecordState::Placed,
        given_up: None,
        ending: None,
        port_of: None,
    })
}

async fn claimed(store: &Store, term: &Term, record: &PlacementRecord) -> Result<i64> {
    match store.claim(term, record).await? {
        Claim::Claimed { version } => Ok(version),
        other => bail!("not claimed: {other:?}"),
    }
}
