//! Disturbs one replica after another, as the seed says: each kind of fault first of all at the leader, in some order, then
//! any, at whichever replica. Only one is disturbed at a time, so that two can always go on.

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
use crate::harness::{Fault, Proxy, Signal, Way};

/// How long a killed replica is away, in milliseconds.
const AWAY: Range<u64> = 0..3_000;
/// How long one is frozen: longer than its lease of 3 s.
const FROZEN: Range<u64> = 3_500..6_000;
/// How long one is cut off: shorter and longer than a lease.
const APART: Range<u64> = 1_500..6_000;
/// Between two faults.
const PEACE: Range<u64> = 200..2_000;
/// How connections are cut.
const CUTS: [Fault; 4] =
    [Fault::Refuse, Fault::BlackHole, Fault::Cut(Way::ToServer), Fault::Cut(Way::ToClient)];

/// What is done to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Killed with SIGKILL, and started again.
    Kill,
    /// Stopped for longer than its lease, and continued.
    Freeze,
    /// Cut from etcd.
    CutFromEtcd,
    /// Cut from one cluster.
    CutFromCluster,
}

/// All of them.
pub const KINDS: [Kind; 4] = [Kind::Kill, Kind::Freeze, Kind::CutFromEtcd, Kind::CutFromCluster];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "killed",
            Self::Freeze => "frozen",
            Self::CutFromEtcd => "cut from etcd",
            Self::CutFromCluster => "cut from a cluster",
        })
    }
}

/// How often each fault happened.
pub type Done = BTreeMap<Kind, usize>;

/// Disturbs for a time, and longer until every kind has happened. In the end everything is well again.
pub async fn disturb(stage: &Arc<Stage>, seed: u64, time: Duration) -> Result<Done> {
    let mut rng = Rng::new(seed, "nemesis");
    let began = Instant::now();
    let mut done = Done::new();
    let mut first = rng.shuffled(KINDS.to_vec());
    loop {
        let (kind, at_leader) = match first.pop() {
            Some(kind) => (kind, true),
            None if began.elapsed() >= time => return Ok(done),
            None => (*rng.pick(&KINDS).context("no kinds")?, rng.chance(60)),
        };
        stage.whole().await?;
        let any = rng.place(stage.replicas().len()).context("no replicas")?;
        let place = if at_leader { stage.leader().await? } else { any };
        fault(stage, &mut rng, kind, place, began)
            .await
            .with_context(|| format!("manager-{place} {kind}"))?;
        *done.entry(kind).or_default() += 1;
        sleep(rng.millis(PEACE)).await;
    }
}

async fn fault(stage: &Stage, rng: &mut Rng, kind: Kind, place: usize, began: Instant) -> Result<()> {
    let replicas = stage.replicas();
    let replica = replicas.get(place).context("no such replica")?;
    let tell = |how: &str, time: Duration| {
        let at = began.elapsed().as_secs_f64();
        eprintln!("[{at:5.1} s] {} {kind}{how} for {:.1} s", replica.name, time.as_secs_f64());
    };
    match kind {
        Kind::Kill => {
            let away = rng.millis(AWAY);
            tell("", away);
            replica.process.kill().await?;
            sleep(away).await;
            stage.restart(place).await
        }
        Kind::Freeze => {
            let frozen = rng.millis(FROZEN);
            tell("", frozen);
            replica.process.signal(Signal::Stop).await?;
            sleep(frozen).await;
            replica.process.signal(Signal::Cont).await
        }
        Kind::CutFromEtcd => {
            let (cut, apart) = (cut(rng)?, rng.millis(APART));
            tell(&format!(" ({cut:?})"), apart);
            apart_from(&stage.etcd, replica, cut, apart).await;
            Ok(())
        }
        Kind::CutFromCluster => {
            let names: Vec<&String> = stage.proxies.keys().collect();
            let name = *rng.pick(&names).context("no clusters")?;
            let (cut, apart) = (cut(rng)?, rng.millis(APART));
            tell(&format!(" {name} ({cut:?})"), apart);
            apart_from(stage.proxies.get(name).context("no proxy")?, replica, cut, apart).await;
            Ok(())
        }
    }
}

fn cut(rng: &mut Rng) -> Result<Fault> {
    rng.pick(&CUTS).copied().context("no cuts")
}

async fn apart_from(proxy: &Proxy, replica: &Replica, cut: Fault, time: Duration) {
    proxy.set_for(replica.process.pid(), cut);
    sleep(time).await;
    proxy.set_for(replica.process.pid(), Fault::None);
}
