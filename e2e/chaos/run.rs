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
use super::history::{Asked, History, Outcome};
use super::nemesis::{Done, KINDS, disturb};
use super::observer::Observer;
use super::stage::Stage;
use super::subscribers::{Record, follow};
use crate::harness::assets::target_dir;

/// Clients that call at once.
const CLIENTS: usize = 4;
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
    calls: usize,
    acknowledged: usize,
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
            "seed {}: {} calls ({} acknowledged, {} refused or without an answer), {} workspaces, {} updates to subscribers \
             ({} resumptions), {} epochs; faults: {}; violations: none",
            self.seed,
            self.calls,
            self.acknowledged,
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

async fn recorded(stage: &Arc<Stage>, seed: u64, time: Duration) -> Result<Summary> {
    let (calls, record, observer) = (Calls::default(), Record::default(), Observer::begin(stage));
    let mut subscribers = JoinSet::new();
    for place in 0..stage.replicas().len() {
        subscribers.spawn(follow(Arc::clone(stage), place, seed, Arc::clone(&record)));
    }
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|n| Client::new(&format!("c{n}"), seed, stage, &calls)).collect();
    let end = CancellationToken::new();
    let disturbing = async {
        let done = disturb(stage, seed, time).await;
        end.cancel();
        done
    };
    let calling = join_all(clients.iter_mut().map(|client| client.run(&end)));
    let faults = tokio::join!(disturbing, calling).0;
    let history = || {
        let received = record.lock().clone();
        History {
            calls: calls.lock().clone(),
            resources: observer.resources(),
            subscribers: received.streams,
            ended: received.ended,
            writes: BTreeMap::new(),
        }
    };
    let confirmed = async {
        let faults = faults?;
        stage.whole().await?;
        try_join_all(clients.iter_mut().map(Client::confirm)).await?;
        anyhow::Ok(faults)
    };
    let faults = match confirmed.await {
        Ok(faults) => faults,
        Err(error) => return Err(error.context(keep(stage, seed, &history())?)),
    };
    settled(&observer, &history).await;
    let history = History { writes: stage.writes()?, ..history() };
    let violations = check(&history, SLACK);
    let summary = summary(seed, &history, faults, record.lock().resumed);
    let judged = judge(&violations, &summary);
    if judged.is_err() {
        let kept = keep(stage, seed, &history)?;
        return judged.map(|()| summary).context(kept);
    }
    Ok(summary)
}

/// Waits until what was begun has come to its end: nothing changes any more, and everybody knows how it is.
async fn settled(observer: &Observer, history: &impl Fn() -> History) {
    let give_up = Instant::now() + SETTLED;
    while Instant::now() < give_up {
        if observer.quiet_for() >= QUIET && check(&history(), SLACK).is_empty() {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn summary(seed: u64, history: &History, faults: Done, resumed: usize) -> Summary {
    let acknowledged =
        history.calls.iter().filter(|call| !matches!(call.outcome, Outcome::Failed(_))).count();
    let writes = history.writes.values().flatten().filter(|write| write.accepted && !write.probe);
    let epochs: BTreeSet<(u64, u64)> = writes.map(|write| write.epoch).collect();
    Summary {
        seed,
        calls: history.calls.len(),
        acknowledged,
        refused: history.calls.len() - acknowledged,
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
    ensure!(summary.workspaces >= 10, "it proves nothing: too few workspaces: {summary:?}");
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
    let starts = history.calls.iter().filter(|call| call.asked != Asked::Stop).count();
    Ok(format!("{starts} starts and more are in {}", folder.display()))
}
