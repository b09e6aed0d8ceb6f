//! Kills everything that has to do with content while users start, change, save and stop workspaces on two real nodes.
//!
//! [`user`]s know each file of their workspace at each stop; the [`ledger`] judges what they find at the next start. A [`nemesis`]
//! for each node, and one for the store, kill at [`moments`]: at each state of the agent's files, at each request to the store,
//! and any time. Afterwards everything is mended: the last stop of each workspace comes back on the other cluster, every
//! snapshot that was given out can be started from, and [`leftovers`] finds nothing in the bucket or on the nodes that nobody
//! needs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use futures::future::try_join_all;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::assets::target_dir;
use crate::harness::until;
use ground::{Ground, SOON};
use leftovers::{Objects, age, nothing, on_disk, open_uploads};
use nemesis::{Nemesis, Tally};
use user::{Counts, User};

pub mod ground;
mod ledger;
mod leftovers;
mod moments;
mod nemesis;
mod script;
mod user;

/// Workspaces at a time.
const USERS: usize = 6;
/// Upper bound of the time for each kill, and for everything around them.
const FOR_EACH: Duration = Duration::from_secs(4);
const AROUND: Duration = Duration::from_mins(5);

/// What a run did.
pub struct Summary {
    tally: Arc<Tally>,
    counts: Arc<Counts>,
    objects: usize,
    lost_answers: usize,
    took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |of: &std::sync::atomic::AtomicUsize| of.load(Ordering::Relaxed);
        writeln!(
            f,
            "{} kills in {:.0} s while {USERS} workspaces stopped {} times ({} without a change), {} snapshots were taken, {} \
             workspaces were started from them, and {} starts failed and were repeated: every file was there at each start; \
             {} objects are accounted for; {} uploads without a part are left to the lifecycle rule of the bucket",
            self.tally.kills(),
            self.took.as_secs_f64(),
            count(&self.counts.stops),
            count(&self.counts.unchanged),
            count(&self.counts.snapshots),
            count(&self.counts.copies),
            count(&self.counts.failed_starts),
            self.objects,
            self.lost_answers,
        )?;
        write!(f, "{}", self.tally)
    }
}

/// Kills `kills` times, or until the time for that is over. Fails at the first guarantee that does not hold.
pub async fn run(seed: u64, kills: u64) -> Result<Summary> {
    let ground = Arc::new(Ground::boot().await?);
    let traces = ground.sites.iter().map(|site| Ok(site.cluster.real_node()?.traces()));
    let traces = traces.collect::<Result<Vec<_>>>()?;
    let outcome = Box::pin(everything(&ground, seed, kills)).await;
    let summary = match outcome {
        Ok(summary) => summary,
        Err(error) => {
            let logs = ground.keep_logs(&target_dir()?.join("chaos").join(format!("content-{seed}")))?;
            return Err(error.context(format!(
                "repeat it: make chaos CONTENT=1 SEED={seed} KILLS={kills}; the logs are in {}",
                logs.display()
            )));
        }
    };
    drop(ground);
    for traces in traces {
        traces.gone().await?;
    }
    Ok(summary)
}

async fn everything(ground: &Arc<Ground>, seed: u64, kills: u64) -> Result<Summary> {
    let (began, tally, counts) = (Instant::now(), Arc::new(Tally::of(kills)), Arc::new(Counts::default()));
    let mut users = Vec::new();
    for number in 0..USERS {
        users.push(User::new(&format!("user-{number}"), seed, ground, &counts).await?);
    }
    let end = CancellationToken::new();
    let limit = AROUND + FOR_EACH.saturating_mul(u32::try_from(kills).unwrap_or(u32::MAX));
    let living = try_join_all(users.iter_mut().map(|user| user.run(&end)));
    let killing = async {
        let _ends = end.clone().drop_guard();
        let mut sites: Vec<_> = (0..ground.sites.len())
            .map(|at| Nemesis::new(&format!("nemesis-{at}"), seed, ground, &tally))
            .collect();
        let mut of_store = Nemesis::new("nemesis-store", seed, ground, &tally);
        let haunts = sites.iter_mut().enumerate().map(|(at, nemesis)| nemesis.haunt(at, &end));
        let both = async { futures::try_join!(try_join_all(haunts), of_store.haunt_store(&end)) };
        futures::try_join!(async { both.await.map(drop) }, progress(&tally, &end, limit)).map(drop)
    };
    futures::try_join!(async { living.await.map(drop) }, killing)?;
    ensure!(tally.is_full(), "only {} kills in {limit:?}", tally.kills());
    eprintln!("chaos: no faults from now on; everything must come back");
    timeout(AROUND, try_join_all(users.iter_mut().map(User::prove)))
        .await
        .map_err(|_| anyhow!("the last starts take longer than {AROUND:?}"))??;
    let (objects, lost_answers) = in_the_bucket(ground)?;
    for site in &ground.sites {
        nothing_is_left(ground, site)
            .await
            .with_context(|| format!("on the node of {}", site.cluster.name()))?;
        initialised_once(&std::fs::read_to_string(site.agent.log())?)?;
    }
    Ok(Summary { tally, counts, objects, lost_answers, took: began.elapsed() })
}

/// Says now and then how far it is. Ends with the last kill, or with the time for all of them.
async fn progress(tally: &Tally, end: &CancellationToken, limit: Duration) -> Result<()> {
    let (began, mut said) = (Instant::now(), 0);
    while !tally.is_full() && began.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if tally.kills() >= said + 25 {
            said = tally.kills();
            eprintln!("chaos: {said} kills in {:.0} s", began.elapsed().as_secs_f64());
        }
    }
    end.cancel();
    Ok(())
}

/// Returns the number of objects, and of uploads without parts.
fn in_the_bucket(ground: &Ground) -> Result<(usize, usize)> {
    let bucket = leftovers::bucket(&ground.server);
    let objects = Objects::read(&bucket)?;
    nothing("in the bucket", &objects.unaccounted(ground.ledger.lock().snapshots()))?;
    // An agent that was killed before it had the id of an upload knows nothing of it.
    let (with_parts, without): (Vec<_>, Vec<_>) =
        open_uploads(&bucket).into_iter().partition(|(_, has_parts)| *has_parts);
    let with_parts: Vec<_> = with_parts.into_iter().map(|(upload, _)| upload).collect();
    nothing("uploads that nobody ends", &with_parts)?;
    Ok((objects.0.len(), without.len()))
}

/// Housekeeping leaves nothing, once what is there is old enough.
async fn nothing_is_left(ground: &Ground, site: &ground::Site) -> Result<()> {
    let (root, aborted) = (site.agent.path("")?, ground.aborted.lock().clone());
    for folder in ["", ".spaceport/state", ".spaceport/state/snapshots"] {
        age(&root.join(folder))?;
    }
    until(SOON, "housekeeping", async || nothing("left", &on_disk(&root, &aborted))).await
}

/// A log of an agent that was killed again and again says of no instance twice that it was initialised.
fn initialised_once(log: &str) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    let done = log
        .lines()
        .filter(|line| line.contains("an operation is done") && line.contains("kind=\"initialize\""));
    for line in done {
        let instance = line.split_whitespace().find(|field| field.starts_with("instance="));
        let instance = instance.context("a line of the log without an instance")?;
        ensure!(seen.insert(instance), "{instance} was initialised twice");
    }
    ensure!(!seen.is_empty(), "no line of the agent's log says that an initialisation is done");
    Ok(())
}
