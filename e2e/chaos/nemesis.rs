//! Injects one fault after another, by the seed: first each kind once in random order, replica faults at the leader;
//! then random kinds, at a random replica or cluster. Only one fault is active at a time, so that the rest can always
//! make progress.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

use super::rng::Rng;
use super::stage::Stage;
use crate::harness::spaceport::Replica;
use crate::harness::{Cluster, Fault, Part, Proxy, Signal, Way};

/// How long a killed process stays down, in milliseconds.
const AWAY: Range<u64> = 0..2_000;
/// How long a replica is frozen: longer than its lease of 3 s.
const FROZEN: Range<u64> = 3_500..5_000;
/// How long a replica is cut off, or an apiserver or etcd frozen: around the length of a lease, and of the time after
/// which a silent cluster is lost.
const APART: Range<u64> = 1_500..6_000;
/// Time between two faults.
const PEACE: Range<u64> = 200..1_500;
/// Kinds of connection faults.
const CUTS: [Fault; 4] =
    [Fault::Refuse, Fault::BlackHole, Fault::Cut(Way::ToServer), Fault::Cut(Way::ToClient)];

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A replica is killed with SIGKILL, and started again.
    Kill,
    /// A replica is frozen for longer than its lease, and resumed.
    Freeze,
    /// A replica is disconnected from etcd.
    CutFromEtcd,
    /// A replica is disconnected from one cluster.
    CutFromCluster,
    /// The apiserver of a cluster is frozen, and resumed.
    FreezeCluster,
    /// The apiserver of a cluster is killed, and started again.
    KillCluster,
    /// etcd is frozen, and resumed.
    FreezeEtcd,
    /// etcd is killed, and started again with its data.
    KillEtcd,
}

pub const KINDS: [Kind; 8] = [
    Kind::Kill,
    Kind::Freeze,
    Kind::CutFromEtcd,
    Kind::CutFromCluster,
    Kind::FreezeCluster,
    Kind::KillCluster,
    Kind::FreezeEtcd,
    Kind::KillEtcd,
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "replica killed",
            Self::Freeze => "replica frozen",
            Self::CutFromEtcd => "cut from etcd",
            Self::CutFromCluster => "cut from a cluster",
            Self::FreezeCluster => "apiserver frozen",
            Self::KillCluster => "apiserver killed",
            Self::FreezeEtcd => "etcd frozen",
            Self::KillEtcd => "etcd killed",
        })
    }
}

/// Count of each fault.
pub type Done = BTreeMap<Kind, usize>;

pub struct Nemesis {
    stage: Arc<Stage>,
    rng: Rng,
    began: Instant,
}

impl Nemesis {
    pub fn new(stage: &Arc<Stage>, seed: u64) -> Self {
        Self { stage: Arc::clone(stage), rng: Rng::new(seed, "nemesis"), began: Instant::now() }
    }

    /// Injects faults for a time, and longer until every kind has happened. Heals everything at the end.
    pub async fn disturb(&mut self, time: Duration) -> Result<Done> {
        let mut done = Done::new();
        let mut first = self.rng.shuffled(KINDS.to_vec());
        loop {
            let (kind, at_leader) = match first.pop() {
                Some(kind) => (kind, true),
                None if self.began.elapsed() >= time => return Ok(done),
                None => (*self.rng.pick(&KINDS).context("no kinds")?, self.rng.chance(60)),
            };
            self.stage.whole().await?;
            self.fault(kind, at_leader).await.with_context(|| kind.to_string())?;
            *done.entry(kind).or_default() += 1;
            sleep(self.rng.millis(PEACE)).await;
        }
    }

    async fn fault(&mut self, kind: Kind, at_leader: bool) -> Result<()> {
        match kind {
            Kind::Kill | Kind::Freeze | Kind::CutFromEtcd | Kind::CutFromCluster => {
                let any = self.rng.place(self.stage.replicas().len()).context("no replicas")?;
                let place = if at_leader { self.stage.leader().await? } else { any };
                self.at_replica(kind, place).await
            }
            Kind::FreezeCluster | Kind::KillCluster => {
                let cluster =
                    self.rng.pick(&self.stage.disturbable).cloned().context("no cluster of this run")?;
                self.at_cluster(kind, &cluster).await
            }
            Kind::FreezeEtcd | Kind::KillEtcd => self.at_etcd(kind).await,
        }
    }

    async fn at_replica(&mut self, kind: Kind, place: usize) -> Result<()> {
        let replicas = self.stage.replicas();
        let replica = replicas.get(place).context("no such replica")?;
        match kind {
            Kind::Kill => {
                let away = self.rng.millis(AWAY);
                self.tell(kind, &replica.name, away);
                replica.process.kill().await?;
                sleep(away).await;
                self.stage.restart(place).await
            }
            Kind::CutFromEtcd => {
                let (cut, apart) = (self.cut()?, self.rng.millis(APART));
                self.tell(kind, &format!("{} ({cut:?})", replica.name), apart);
                apart_from(&self.stage.etcd_proxy, replica, cut, apart).await;
                Ok(())
            }
            Kind::CutFromCluster => {
                let names: Vec<&String> = self.stage.proxies.keys().collect();
                let name = (*self.rng.pick(&names).context("no clusters")?).clone();
                let (cut, apart) = (self.cut()?, self.rng.millis(APART));
                self.tell(kind, &format!("{} {name} ({cut:?})", replica.name), apart);
                let proxy = self.stage.proxies.get(&name).context("no proxy")?;
                apart_from(proxy, replica, cut, apart).await;
                Ok(())
            }
            _ => {
                let frozen = self.rng.millis(FROZEN);
                self.tell(kind, &replica.name, frozen);
                replica.process.signal(Signal::Stop).await?;
                sleep(frozen).await;
                replica.process.signal(Signal::Cont).await
            }
        }
    }

    async fn at_cluster(&mut self, kind: Kind, cluster: &Cluster) -> Result<()> {
        if kind == Kind::FreezeCluster {
            let frozen = self.rng.millis(APART);
            self.tell(kind, cluster.name(), frozen);
            cluster.pause(Part::ApiServer).await?;
            sleep(frozen).await;
            return cluster.resume(Part::ApiServer).await;
        }
        let away = self.rng.millis(AWAY);
        self.tell(kind, cluster.name(), away);
        cluster.kill(Part::ApiServer).await?;
        sleep(away).await;
        cluster.start(Part::ApiServer).await
    }

    async fn at_etcd(&mut self, kind: Kind) -> Result<()> {
        let etcd = &self.stage.etcd;
        if kind == Kind::FreezeEtcd {
            let frozen = self.rng.millis(APART);
            self.tell(kind, "", frozen);
            etcd.pause().await?;
            sleep(frozen).await;
            return etcd.resume().await;
        }
        let away = self.rng.millis(AWAY);
        self.tell(kind, "", away);
        etcd.kill().await?;
        sleep(away).await;
        etcd.start().await
    }

    fn cut(&mut self) -> Result<Fault> {
        self.rng.pick(&CUTS).copied().context("no cuts")
    }

    fn tell(&self, kind: Kind, of: &str, time: Duration) {
        let at = self.began.elapsed().as_secs_f64();
        eprintln!("[{at:5.1} s] {kind} {of} for {:.1} s", time.as_secs_f64());
    }
}

async fn apart_from(proxy: &Proxy, replica: &Replica, cut: Fault, time: Duration) {
    proxy.set_for(replica.process.pid(), cut);
    sleep(time).await;
    proxy.set_for(replica.process.pid(), Fault::None);
}
