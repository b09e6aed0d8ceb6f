//! Kills agents, helpers, kubelets, container runtimes and the store, and breaks the ways to store and apiserver. One fault at a
//! time on a site, any number of sites at once.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use parking_lot::Mutex;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::rng::Rng;
use super::ground::{Ground, Site};
use super::moments::{Moment, stages};
use crate::harness::{Fault, NodePart, S3Answer, S3Proxy};

/// How a helper is recognized among the processes of a node.
const HELPER: &str = "content-helper";
/// How long a helper is waited for.
const PATIENCE: Duration = Duration::from_secs(4);
/// The kind of fault of the store that serves less than it has: starts may fail by it, and say that content is damaged.
const LIES: u64 = 2;
/// Timeout of one fault with its end. An agent that is not ready then does not start again.
const ONE: Duration = Duration::from_mins(1);

/// What a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Agent,
    Helper,
    Kubelet,
    Containerd,
    Store,
    /// Not killed: requests to the store fail for a while.
    WayToStore,
    /// Not killed: no byte from or to the apiserver.
    WayToApiserver,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Tally {
    wanted: u64,
    kills: AtomicU64,
    /// By victim and by what a workspace of that site was doing.
    at: Mutex<BTreeMap<(Victim, String), usize>>,
    faults: Mutex<BTreeMap<Victim, usize>>,
    /// Kills at a request or at a new stage, by its name.
    moments: Mutex<BTreeMap<String, usize>>,
    planted: AtomicUsize,
}

impl Tally {
    pub fn of(wanted: u64) -> Self {
        Self { wanted, ..Self::default() }
    }

    pub fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.kills() >= self.wanted
    }

    fn note(&self, ground: &Ground, site: Option<usize>, victim: Victim) {
        *self.faults.lock().entry(victim).or_default() += 1;
        if !matches!(victim, Victim::WayToStore | Victim::WayToApiserver) {
            self.kills.fetch_add(1, Ordering::Relaxed);
        }
        let sites = ground.sites.iter().enumerate().filter(|(at, _)| site.is_none_or(|site| site == *at));
        for (_, stage, doing) in sites.flat_map(|(at, site)| stages(ground, at, site)) {
            *self.at.lock().entry((victim, format!("{doing:?}, {stage}"))).or_default() += 1;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.lock();
        for (victim, count) in self.faults.lock().iter() {
            let steps = at.iter().filter(|((of, _), _)| of == victim);
            let mut text = String::new();
            for ((_, step), count) in steps {
                write!(text, "; {count} x {step}")?;
            }
            writeln!(f, "  {victim:?}: {count}{text}")?;
        }
        for (moment, count) in self.moments.lock().iter() {
            writeln!(f, "  killed when {moment}: {count}")?;
        }
        let planted = self.planted.load(Ordering::Relaxed);
        write!(f, "  files planted in half-made content while its agent was dead: {planted}")
    }
}

/// Faults of one site, or of the store.
pub struct Nemesis {
    rng: Rng,
    ground: Arc<Ground>,
    tally: Arc<Tally>,
}

impl Nemesis {
    pub fn new(name: &str, seed: u64, ground: &Arc<Ground>, tally: &Arc<Tally>) -> Self {
        Self { rng: Rng::new(seed, name), ground: Arc::clone(ground), tally: Arc::clone(tally) }
    }

    /// Breaks things at a site until `end` or until there were enough kills, and mends everything.
    pub async fn haunt(&mut self, at: usize, end: &CancellationToken) -> Result<()> {
        let ground = Arc::clone(&self.ground);
        let site = ground.site(at)?;
        while !end.is_cancelled() && !self.tally.is_full() {
            let one = timeout(ONE, Box::pin(self.one(at, site))).await;
            one.with_context(|| format!("a fault of {} does not end", site.cluster.name()))??;
            sleep(self.rng.millis(100..900)).await;
        }
        site.store.heal();
        let node = site.cluster.real_node()?;
        node.api().heal().await?;
        node.start_part(NodePart::Containerd).await?;
        node.start_part(NodePart::Kubelet).await?;
        if !site.agent.is_running() {
            site.agent.start().await?;
        }
        Ok(())
    }

    async fn one(&mut self, at: usize, site: &Site) -> Result<()> {
        match self.rng.below(100) {
            0..58 => self.kill_agent(at, site).await,
            58..70 => self.kill_helper(at, site).await,
            70..78 => self.kill_part(at, site, NodePart::Kubelet).await,
            78..86 => self.kill_part(at, site, NodePart::Containerd).await,
            86..95 => self.break_store(at, site).await,
            _ => self.break_apiserver(at, site).await,
        }
    }

    async fn kill_agent(&mut self, at: usize, site: &Site) -> Result<()> {
        if !site.agent.is_running() {
            site.agent.start().await?;
        }
        let moment = Moment::choose(&mut self.rng);
        let came = moment.comes(&self.ground, at).await?;
        if self.rng.chance(50) {
            sleep(self.rng.millis(0..25)).await;
        }
        ensure!(site.agent.is_running(), "the agent of {} ended by itself", site.cluster.name());
        if !self.ground.may_kill_agent(at) {
            site.store.heal();
            return Ok(());
        }
        site.agent.kill().await?;
        self.tally.note(&self.ground, Some(at), Victim::Agent);
        if let Some(moment) = came {
            *self.tally.moments.lock().entry(moment).or_default() += 1;
        }
        self.plant(at, site)?;
        site.store.heal();
        sleep(self.rng.millis(0..500)).await;
        // Sometimes the next kill comes while it starts.
        if self.rng.chance(70) { site.agent.start().await } else { site.agent.spawn().await }
    }

    /// Leaves a file in content that is being made, which must not be there once it is complete.
    fn plant(&self, at: usize, site: &Site) -> Result<()> {
        for (instance, stage, _) in stages(&self.ground, at, site) {
            let folder = site.agent.path(&instance)?;
            if stage == "initialising" && folder.is_dir() {
                fs::write(folder.join(format!("half-{instance}")), "half")?;
                self.tally.planted.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn kill_helper(&mut self, at: usize, site: &Site) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let traces = site.cluster.real_node()?.traces();
        let mut found = helpers(&traces);
        while found.is_empty() && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
            found = helpers(&traces);
        }
        sleep(self.rng.millis(0..60)).await;
        let Some(pid) = self.rng.pick(&found) else { return Ok(()) };
        let killed = Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).output().await?;
        // It may have ended before.
        if killed.status.success() {
            self.tally.note(&self.ground, Some(at), Victim::Helper);
        }
        Ok(())
    }

    async fn kill_part(&mut self, at: usize, site: &Site, part: NodePart) -> Result<()> {
        let node = site.cluster.real_node()?;
        sleep(self.rng.millis(0..800)).await;
        node.kill_part(part).await?;
        let victim = if part == NodePart::Kubelet { Victim::Kubelet } else { Victim::Containerd };
        self.tally.note(&self.ground, Some(at), victim);
        sleep(self.rng.millis(0..1500)).await;
        node.start_part(part).await
    }

    async fn break_store(&mut self, at: usize, site: &Site) -> Result<()> {
        let kind = self.rng.below(5);
        if kind == LIES {
            *site.lied.lock() = Some(Instant::now() + ONE);
        }
        spoil(&site.store, kind, self.rng.within(2..5));
        self.tally.note(&self.ground, Some(at), Victim::WayToStore);
        sleep(self.rng.millis(500..3000)).await;
        site.store.heal();
        if kind == LIES {
            *site.lied.lock() = Some(Instant::now());
        }
        Ok(())
    }

    async fn break_apiserver(&mut self, at: usize, site: &Site) -> Result<()> {
        let api = site.cluster.real_node()?.api();
        api.set(if self.rng.chance(50) { Fault::BlackHole } else { Fault::Refuse }).await?;
        self.tally.note(&self.ground, Some(at), Victim::WayToApiserver);
        sleep(self.rng.millis(300..2500)).await;
        api.heal().await
    }

    /// Kills the store now and then, until `end` or until there were enough kills.
    pub async fn haunt_store(&mut self, end: &CancellationToken) -> Result<()> {
        while !end.is_cancelled() && !self.tally.is_full() {
            sleep(self.rng.millis(3000..9000)).await;
            self.ground.server.kill().await?;
            self.tally.note(&self.ground, None, Victim::Store);
            sleep(self.rng.millis(0..1500)).await;
            self.ground.server.restart().await?;
        }
        Ok(())
    }
}

/// Every few requests fails.
fn spoil(store: &S3Proxy, kind: u64, every: u64) {
    let requests = AtomicU64::new(0);
    store.choose(move |parts| {
        let number = requests.fetch_add(1, Ordering::Relaxed);
        let reads = parts.method == Method::GET;
        number.is_multiple_of(every).then_some(match kind {
            0 => S3Answer::Error(503, "SlowDown"),
            1 if reads => S3Answer::Cut(1000),
            LIES if reads => S3Answer::Shorten(100),
            3 => S3Answer::Delay(Duration::from_millis(700)),
            _ => S3Answer::Lose,
        })
    });
}

/// Processes of helpers.
fn helpers(traces: &crate::harness::Traces) -> Vec<u32> {
    let is_helper = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(HELPER.as_bytes())
    };
    traces.processes().map(|(pid, _)| pid).filter(is_helper).collect()
}
