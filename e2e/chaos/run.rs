//! One run: a stage, clients, subscribers and a nemesis; then quiet, and the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::{join_all, try_join_all};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::checker::{Violation, check};
use super::clients::{Calls, Client};
use super::history::{Call, History, Outcome};
use super::nemesis::{Done, KINDS, disturb};
use super::observer::Observer;
use super::stage::Stage;
use super::subscribers::{Receipts, follow};
use crate::harness::assets::target_dir;

/// Clients that call at once.
const CLIENTS: usize = 6;
/// By how many milliseconds observations of two clusters may be out of order.
const SLACK: u64 = 3_000;
/// Nothing has changed for so long: it is quiet.
const QUIET: Duration = Duration::from_secs(2);
/// For everything that was begun to come to its end.
const SETTLED: Duration = Duration::from_mins(1);

/// What a run was, in figures.
#[derive(Debug)]
pub struct Summary {
    seed: u64,
    starts: usize,
    repeats: usize,
    stops: usize,
    refused: usize,
    workspaces: usize,
    updates: usize,
    resumed: usize,
    epochs: usize,
    faults: Done,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
        write!(
            f,
            "seed {}: acknowledged {} starts, {} repeated ones and {} stops, {} calls refused or without an answer; \
             {} workspaces, {} updates to subscribers ({} resumptions), {} epochs; faults: {}; violations: none",
            self.seed,
            self.starts,
            self.repeats,
            self.stops,
            self.refused,
            self.workspaces,
            self.updates,
            self.resumed,
            self.epochs,
            faults.join(", "),
        )
    }
}

/// Runs with faults for a time; an error says what was violated, and where the history is.
pub async fn run(stage: Stage, seed: u64, time: Duration) -> Result<Summary> {
    let stage = Arc::new(stage);
    let outcome = recorded(&stage, seed, time).await;
    outcome.with_context(|| format!("chaos with seed {seed}; repeat it: make chaos SEED={seed}"))
}

/// What notes what happens.
struct Notes {
    stage: Arc<Stage>,
    calls: Calls,
    received: Receipts,
    observer: Observer,
    _subscribers: JoinSet<()>,
}

impl Notes {
    fn begin(stage: &Arc<Stage>, seed: u64) -> Self {
        let (received, mut subscribers) = (Receipts::default(), JoinSet::new());
        for place in 0..stage.replicas().len() {
            subscribers.spawn(follow(Arc::clone(stage), place, seed, Arc::clone(&received)));
        }
        Self {
            stage: Arc::clone(stage),
            calls: Calls::default(),
            received,
            observer: Observer::begin(stage),
            _subscribers: subscribers,
        }
    }

    /// All but the audit logs, which are long.
    async fn so_far(&self) -> Result<History> {
        let (calls, resources) = (self.calls.lock().clone(), self.observer.resources());
        let ids = calls.iter().map(|call| call.id.clone());
        let ids = ids.chain(resources.iter().map(|life| life.id.clone())).collect();
        let records = self.stage.records(ids).await?;
        let received = self.received.lock().clone();
        let (subscribers, ended) = (received.streams, received.ended);
        Ok(History { calls, resources, subscribers, ended, records, writes: BTreeMap::new() })
    }

    async fn all(&self) -> Result<History> {
        Ok(History { writes: self.stage.writes()?, ..self.so_far().await? })
    }

    /// Waits until what was begun has come to its end: nothing changes any more, and everybody knows how it is.
    async fn settled(&self) -> Result<()> {
        let give_up = Instant::now() + SETTLED;
        while Instant::now() < give_up {
            if self.observer.quiet_for() >= QUIET && check(&self.so_far().await?, SLACK).is_empty() {
                return Ok(());
            }
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }
}

async fn recorded(stage: &Arc<Stage>, seed: u64, time: Duration) -> Result<Summary> {
    let notes = Notes::begin(stage, seed);
    let happened = happen(stage, &notes.calls, seed, time).await;
    if happened.is_ok() {
        notes.settled().await?;
    }
    let history = notes.all().await?;
    let judged = happened.and_then(|faults| {
        let summary = summary(seed, &history, faults, notes.received.lock().resumed);
        judge(&check(&history, SLACK), &summary)?;
        Ok(summary)
    });
    match judged {
        Ok(summary) => Ok(summary),
        Err(error) => Err(error.context(keep(stage, seed, &history)?)),
    }
}

/// Clients call while the nemesis disturbs; then all is made well, and what was acknowledged is asked for again.
async fn happen(stage: &Arc<Stage>, calls: &Calls, seed: u64, time: Duration) -> Result<Done> {
    let client = |n| Client::new(&format!("c{n}"), seed, stage, calls);
    let mut clients: Vec<Client> = (0..CLIENTS).map(client).collect();
    let end = CancellationToken::new();
    let disturbing = async {
        let done = disturb(stage, seed, time).await;
        end.cancel();
        done
    };
    let calling = join_all(clients.iter_mut().map(|client| client.run(&end)));
    let faults = tokio::join!(disturbing, calling).0?;
    stage.whole().await?;
    try_join_all(clients.iter_mut().map(Client::confirm)).await?;
    Ok(faults)
}

fn summary(seed: u64, history: &History, faults: Done, resumed: usize) -> Summary {
    let acknowledged = |call: &&Call| matches!(call.outcome, Outcome::Started(_));
    let started: Vec<&str> = history.calls.iter().filter(acknowledged).map(|call| call.id.as_str()).collect();
    let ids: BTreeSet<&str> = started.iter().copied().collect();
    let count =
        |wanted: fn(&Outcome) -> bool| history.calls.iter().filter(|call| wanted(&call.outcome)).count();
    let writes = history.writes.values().flatten().filter(|write| write.accepted && !write.probe);
    let epochs: BTreeSet<(u64, u64)> = writes.map(|write| write.epoch).collect();
    Summary {
        seed,
        starts: ids.len(),
        repeats: started.len() - ids.len(),
        stops: count(|outcome| *outcome == Outcome::Stopped),
        refused: count(|outcome| matches!(outcome, Outcome::Failed(_))),
        workspaces: history.resources.len(),
        updates: history.subscribers.values().map(Vec::len).sum(),
        resumed,
        epochs: epochs.len(),
        faults,
    }
}

/// Nothing was violated, and enough happened to say so.
fn judge(violations: &[Violation], summary: &Summary) -> Result<()> {
    let told: Vec<String> = violations.iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} violations:\n{}\n{summary:?}", told.len(), told.join("\n"));
    ensure!(summary.epochs >= 2, "it proves nothing: there was one leader only: {summary:?}");
    for kind in KINDS {
        ensure!(summary.faults.contains_key(&kind), "it proves nothing: none was {kind}: {summary:?}");
    }
    let enough = summary.starts >= 10 && summary.repeats >= 10 && summary.stops >= 5 && summary.resumed >= 1;
    ensure!(enough, "it proves nothing: too little happened: {summary:?}");
    Ok(())
}

/// Keeps the history and the logs of the managers of a run that failed, and says where.
fn keep(stage: &Stage, seed: u64, history: &History) -> Result<String> {
    let folder: PathBuf = target_dir()?.join(format!("chaos/seed-{seed}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("history.json"), serde_json::to_string(history)?)?;
    for entry in fs::read_dir(stage.installation.dir())?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(format!("the history and the logs of the managers are in {}", folder.display()))
}
