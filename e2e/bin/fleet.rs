//! Boots Spaceport's etcd and a number of real Kubernetes control planes with simulated nodes, and keeps them up.
//!
//! `target/fleet/fleet.json` says how to reach them. Only one fleet can be up: its process holds a lock on
//! `target/fleet/lock`, which the system releases even after a crash.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Parser};
use e2e::harness::{Fleet, FleetOptions, Interrupt, NodeSize};
use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(100);
const DOWN: Duration = Duration::from_mins(1);

/// Real Kubernetes control planes on this machine.
#[derive(Debug, Parser)]
enum Verb {
    /// Boot a fleet and keep it until Ctrl-C.
    Up(Up),
    /// End the fleet that is up.
    Down,
    /// Print how to reach the fleet that is up.
    Show,
    /// Build the programs that a fleet and the tests need, and nothing more.
    Assets,
}

#[derive(Debug, Args)]
struct Up {
    /// Number of clusters.
    #[arg(long, default_value_t = 3)]
    clusters: usize,
    /// Number of simulated nodes in each cluster.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Return once it is up, and keep it running in the background (log: target/fleet/fleet.log).
    #[arg(long)]
    detach: bool,
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Up(up) if up.detach => detach(&up),
        Verb::Up(up) => run(&up),
        Verb::Down => down(),
        Verb::Show => show(),
        Verb::Assets => e2e::harness::Assets::ensure().and_then(|assets| assets.helm()).map(drop),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(up: &Up) -> Result<()> {
    let dir = fleet_dir()?;
    let mut lock = lock_file(&dir)?;
    if !take(&lock)? {
        bail!("{}", already_up(&dir));
    }
    let _ = fs::remove_file(dir.join("fleet.json"));
    lock.set_len(0)?;
    write!(lock, "{}", std::process::id())?;
    let runtime = tokio::runtime::Runtime::new().context("no async runtime")?;
    let outcome = runtime.block_on(keep_up(up, &dir));
    let _ = fs::remove_file(dir.join("fleet.json"));
    // A build in progress ends with this process.
    runtime.shutdown_background();
    outcome
}

async fn keep_up(up: &Up, dir: &Path) -> Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let options = FleetOptions::of(up.clusters).with_nodes(up.nodes, &NodeSize::default());
    let fleet = tokio::select! {
        fleet = Fleet::boot(options) => fleet?,
        () = interrupt.comes() => return Ok(()),
    };
    let text = serde_json::to_string_pretty(&fleet.describe())?;
    let (file, draft) = (dir.join("fleet.json"), dir.join("fleet.json.new"));
    fs::write(&draft, &text).and_then(|()| fs::rename(&draft, &file)).context("cannot write fleet.json")?;
    println!("{text}");
    eprintln!("the fleet is up; Ctrl-C ends it");
    interrupt.comes().await;
    eprintln!("ending the fleet");
    drop(fleet);
    Ok(())
}

/// Runs `up` in the background, copies its log to standard error, and returns once it is up.
fn detach(up: &Up) -> Result<()> {
    let dir = fleet_dir()?;
    if is_up(&dir)? {
        bail!("{}", already_up(&dir));
    }
    let _ = fs::remove_file(dir.join("fleet.json"));
    let log = File::create(dir.join("fleet.log")).context("cannot create fleet.log")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["up", "--clusters", &up.clusters.to_string(), "--nodes", &up.nodes.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("cannot start the fleet in the background")?;
    let mut log = File::open(dir.join("fleet.log")).context("cannot read fleet.log")?;
    let up = await_up(&mut child, &dir, &mut log);
    copy_log(&mut log);
    up?;
    show()
}

fn await_up(child: &mut Child, dir: &Path, log: &mut File) -> Result<()> {
    while !dir.join("fleet.json").exists() {
        if let Some(status) = child.try_wait()? {
            copy_log(log);
            bail!("it did not come up ({status}); its log is {}", dir.join("fleet.log").display());
        }
        copy_log(log);
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn copy_log(log: &mut File) {
    // Only for people to read.
    let _ = std::io::copy(log, &mut std::io::stderr());
}

fn down() -> Result<()> {
    let dir = fleet_dir()?;
    if !is_up(&dir)? {
        println!("no fleet is up");
        return Ok(());
    }
    let pid = owner(&dir)?;
    let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().context("cannot run kill")?;
    if !sent.success() {
        bail!("cannot end process {pid}");
    }
    let until = Instant::now() + DOWN;
    while is_up(&dir)? {
        if Instant::now() > until {
            bail!("process {pid} still runs after {DOWN:?}; its log is {}", dir.join("fleet.log").display());
        }
        std::thread::sleep(POLL);
    }
    println!("the fleet is down");
    Ok(())
}

fn show() -> Result<()> {
    let dir = fleet_dir()?;
    if !is_up(&dir)? {
        bail!("no fleet is up");
    }
    let text = fs::read_to_string(dir.join("fleet.json")).context("the fleet is not up yet")?;
    println!("{text}");
    Ok(())
}

fn already_up(dir: &Path) -> String {
    let pid = owner(dir).map_or_else(|_| "another process".to_owned(), |pid| format!("process {pid}"));
    format!("a fleet is already up ({pid}, see {}); `fleet down` ends it", dir.join("fleet.json").display())
}

fn fleet_dir() -> Result<PathBuf> {
    let dir = e2e::harness::assets::target_dir()?.join("fleet");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

fn lock_file(dir: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).read(true).write(true).truncate(false);
    options.open(dir.join("lock")).context("cannot open the fleet's lock file")
}

fn take(lock: &File) -> Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(anyhow!(error).context("cannot lock")),
    }
}

fn is_up(dir: &Path) -> Result<bool> {
    Ok(!take(&lock_file(dir)?)?)
}

/// Process id of the lock holder.
fn owner(dir: &Path) -> Result<u32> {
    let mut text = String::new();
    let mut lock = lock_file(dir)?;
    lock.seek(SeekFrom::Start(0))?;
    lock.read_to_string(&mut text)?;
    text.trim().parse().context("the fleet's lock names no process")
}
