//! Backups and restores of seeded trees: the node agent beside `tar | zstd`, restic and kopia, on the same disk in one run.
//!
//! The agent is the real one, with a store in a folder as its peers have. It serves two simulated nodes of a control plane; the
//! status that a controller and a kubelet would write is written by hand, so nothing but the agent's own work is measured. Every
//! restore ends with a sync of the file system.

mod memory;
mod peers;
mod product;
mod trees;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use e2e::harness::{Fleet, FleetOptions};

use self::memory::Used;
use self::peers::{PEERS, Peer};
use self::product::Product;
use self::trees::{Change, Tree, trees};
use super::results::Output;
use super::scenarios::{Scale, Scenario};
use super::stage::{Profile, program};
use super::table::Recorder;

/// What a step of the product or of a peer took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Seconds, a sync after a restore included.
    pub seconds: f64,
    /// Memory.
    pub memory: Used,
}

/// Name of the product in results.
const OURS: &str = "Spaceport";
/// Name of the peer that is the floor.
const FLOOR: &str = "tar | zstd";

/// Measures all trees of a scale.
pub async fn run(scale: Scale, profile: Profile, output: &Output) -> Result<()> {
    let mut record = Recorder::default();
    let measured = Box::pin(measure(scale, profile, &mut record)).await;
    let failed = measured.as_ref().err().map(|error| format!("{error:#}"));
    output.keep(&mut record, Scenario::Content, failed.as_deref())?;
    measured
}

async fn measure(scale: Scale, profile: Profile, record: &mut Recorder) -> Result<()> {
    let fleet = Fleet::boot(FleetOptions::of(1)).await?;
    fleet.assets().ensure_peers()?;
    // On the disk, not in memory, whatever /tmp is.
    let work = fleet.dir().join("content");
    let cluster = fleet.clusters().first().context("no cluster")?;
    let product = Product::start(cluster, &work, &program(profile)?).await?;
    for (tree, rounds) in trees(scale) {
        let source = work.join("trees").join(tree.name);
        eprintln!("making tree {}", tree.name);
        tree.make(&source)?;
        for round in 0..rounds {
            let mut bench =
                Round { work: &work, tree: &tree, source: &source, number: round, record: &mut *record };
            bench.product(&product).await?;
            // The slow ones once.
            for peer in PEERS.iter().filter(|peer| round == 0 || peer.name == FLOOR) {
                bench.peer(peer)?;
            }
        }
        fs::remove_dir_all(&source).with_context(|| format!("cannot remove {}", source.display()))?;
    }
    product.stop().await
}

/// One round over one tree.
struct Round<'a> {
    work: &'a Path,
    tree: &'a Tree,
    source: &'a Path,
    number: usize,
    record: &'a mut Recorder,
}

impl Round<'_> {
    /// The life of a workspace on one node, and then on the other.
    async fn product(&mut self, product: &Product) -> Result<()> {
        let meta = format!("{}-{}", self.tree.name.to_lowercase(), self.number);
        let instance = |number: u32| format!("{meta}-{number}");
        product.begin(0, &instance(1), &meta, false).await?;
        copy(self.source, &product.folder(0, &instance(1)))?;
        sync(self.work)?;
        let took = product.end(0, &instance(1)).await?;
        self.note("first backup", OURS, took);
        if !self.tree.is_memory_only {
            let took = product.begin(0, &instance(2), &meta, true).await?;
            self.note("restart on the same node", OURS, took);
            let took = product.end(0, &instance(2)).await?;
            self.note("backup, nothing changed", OURS, took);
            product.begin(0, &instance(3), &meta, true).await?;
            Change::of(self.tree).make(&product.folder(0, &instance(3)))?;
            sync(self.work)?;
            let took = product.end(0, &instance(3)).await?;
            self.note("backup, changed", OURS, took);
        }
        let took = product.begin(1, &instance(4), &meta, true).await?;
        self.note("restore", OURS, took);
        product.abort(1, &instance(4)).await?;
        product.forget(&meta).await
    }

    /// The same with a peer.
    fn peer(&mut self, peer: &Peer) -> Result<()> {
        if self.tree.is_memory_only && peer.name != FLOOR {
            return Ok(());
        }
        let folder = |name: &str| self.work.join("peer").join(name);
        let (tree, repository, out) = (folder("tree"), folder("repository"), folder("out"));
        for one in [&tree, &repository, &out] {
            fs::create_dir_all(one)?;
        }
        copy(self.source, &tree)?;
        let places = peers::Places { tree: &tree, repository: &repository, out: &out, home: &folder("home") };
        peer.prepare(&places)?;
        sync(self.work)?;
        let took = peer.backup(&places)?;
        self.note("first backup", peer.name, took);
        if !self.tree.is_memory_only {
            let took = peer.backup(&places)?;
            self.note("backup, nothing changed", peer.name, took);
            Change::of(self.tree).make(&tree)?;
            sync(self.work)?;
            let took = peer.backup(&places)?;
            self.note("backup, changed", peer.name, took);
        }
        let took = peer.restore(&places)?;
        self.note("restore", peer.name, took);
        let all: PathBuf = self.work.join("peer");
        fs::remove_dir_all(&all).with_context(|| format!("cannot remove {}", all.display()))
    }

    fn note(&mut self, what: &str, side: &str, took: Took) {
        let name = self.tree.name;
        let of = |side: &str| format!("{name}, {what}: {side}");
        eprintln!("{}: {:.2} s, {:.0} MiB", of(side), took.seconds, took.memory.mebibytes);
        let scenario = "content";
        self.record.note(scenario, &of(side), "s", took.seconds);
        self.record.floor(scenario, &of(side), &of(FLOOR));
        self.record.note(scenario, &format!("memory of {}", of(side)), "MiB", took.memory.mebibytes);
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let from = from.join(".");
    peers::sh("cp -a --sparse=auto \"$0\" \"$1\"", &[&from, to], &[]).map(drop)
}

/// Writes what is dirty to the disk, so that no step pays for the one before.
fn sync(folder: &Path) -> Result<()> {
    peers::sh("sync -f \"$0\"", &[folder], &[]).map(drop)
}
