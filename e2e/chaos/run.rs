//! One run: build a stage, run clients, an admin, subscribers and a nemesis; then wait for quiet, and check.

use std::collections::BTreeSet;
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

use super::admin::{Acts, Admin};
use super::checker::{Violation, check};
use super::clients::{Calls, Client};
use super::history::{Act, Asked, Call, History, Outcome, Resource};
use super::nemesis::{Done, KINDS, Nemesis};
use super::observer::Observer;
use super::stage::Stage;
use super::subscribers::{Receipts, follow};
use crate::harness::assets::target_dir;

/// Concurrent clients.
const CLIENTS: usize = 6;
/// The run is quiet after this long without a change.
const QUIET: Duration = Duration::from_secs(2);
/// How long everything in progress may take to finish.
const SETTLED: Duration = Duration::from_mins(1);

/// Figures of a run.
#[derive(Debug)]
pub struct Summary {
    seed: u64,
    starts: usize,
    repeats: usize,
    stops: usize,
    marks: usize,
    cordons: usize,
    drains: usize,
    drained: usize,
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
            "seed {}: acknowledged {} starts, {} repeated ones, {} stops, {} marks of activity, {} cordons and {} drains, \
             {} calls refused or without an answer; {} workspaces ({} stopped by drains), {} updates to subscribers \
             ({} resumptions), {} epochs; faults: {}; violations: none",
            self.seed,
            self.starts,
            self.repeats,
            self.stops,
            self.marks,
            self.cordons,
            self.drains,
            self.refused,
            self.workspaces,
            self.drained,
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
    let outcome = Box::pin(recorded(&stage, seed, time)).await;
    outcome.with_context(|| format!("chaos with seed {seed}; repeat it: make chaos SEED={seed}"))
}

/// Everything that records.
struct Notes {
    stage: Arc<Stage>,
    calls: Calls,
    acts: Acts,
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
            acts: Acts::default(),
            received,
            observer: Observer::new(stage),
            _subscribers: subscribers,
        }
    }

    async fn history(&self) -> Result<History> {
        self.observer.read().await?;
        let (calls, resources) = (self.calls.lock().clone(), self.observer.resources());
        let ids = calls.iter().map(|call| call.id.clone());
        let ids = ids.chain(resources.iter().map(|life| life.id.clone())).collect();
        let records = self.stage.records(ids).await?;
        let received = self.received.lock().clone();
        let (subscribers, ended) = (received.streams, received.ended);
        let (admin, writes) = (self.acts.lock().clone(), self.observer.writes());
        Ok(History { calls, admin, resources, subscribers, ended, records, writes })
    }

    /// Waits until everything in progress has finished: nothing changes any more, and all subscribers have the last
    /// state.
    async fn settled(&self) -> Result<()> {
        let give_up = Instant::now() + SETTLED;
        while Instant::now() < give_up {
            let history = self.history().await?;
            if self.observer.quiet_for() >= QUIET && check(&history).is_empty() {
                return Ok(());
            }
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }
}

async fn recorded(stage: &Arc<Stage>, seed: u64, time: Duration) -> Result<Summary> {
    let notes = Notes::begin(stage, seed);
    let happened = Box::pin(happen(&notes, seed, time)).await;
    if happened.is_ok() {
        notes.settled().await?;
    }
    let history = notes.history().await?;
    let judged = happened.and_then(|faults| {
        let summary = summary(seed, &history, faults, notes.received.lock().resumed);
        judge(&check(&history), &summary)?;
        Ok(summary)
    });
    match judged {
        Ok(summary) => Ok(summary),
        Err(error) => Err(error.context(keep(stage, seed, &history)?)),
    }
}

/// Clients and the admin call while the nemesis injects faults; then everything is healed, and acknowledged starts are
/// repeated.
async fn happen(notes: &Notes, seed: u64, time: Duration) -> Result<Done> {
    let stage = &notes.stage;
    let client = |n| Client::new(&format!("c{n}"), seed, stage, &notes.calls);
    let mut clients: Vec<Client> = (0..CLIENTS).map(client).collect();
    let mut admin = Admin::new(seed, stage, &notes.acts);
    let mut nemesis = Nemesis::new(stage, seed);
    // Clients continue until the admin is done: a drain needs a workspace to stop.
    let (disturbed, end) = (CancellationToken::new(), CancellationToken::new());
    let disturbing = async {
        let done = nemesis.disturb(time).await;
        disturbed.cancel();
        done
    };
    let acting = async {
        let (faults, acted) = tokio::join!(disturbing, admin.run(&disturbed));
        end.cancel();
        acted.and(faults)
    };
    let calling = join_all(clients.iter_mut().map(|client| client.run(&end)));
    let faults = tokio::join!(acting, calling).0?;
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
    let acts = |act| history.admin.iter().filter(|call| call.act == act && call.acknowledged).count();
    // A client may ask for the stop later, too.
    let by_drain = |life: &Resource| {
        let mut of_it = history.calls.iter().filter(|call| call.id == life.id);
        life.stop_asked.is_some_and(|seen| of_it.all(|call| call.asked != Asked::Stop || seen < call.sent))
    };
    let writes = history.writes.values().flatten().filter(|write| write.accepted && !write.probe);
    let epochs: BTreeSet<(u64, u64)> = writes.map(|write| write.epoch).collect();
    Summary {
        seed,
        starts: ids.len(),
        repeats: started.len() - ids.len(),
        stops: count(|outcome| *outcome == Outcome::Stopped),
        marks: count(|outcome| *outcome == Outcome::Marked),
        cordons: acts(Act::Cordon),
        drains: acts(Act::Drain),
        drained: history.resources.iter().filter(|life| by_drain(life)).count(),
        refused: count(|outcome| matches!(outcome, Outcome::Failed(_))),
        workspaces: history.resources.len(),
        updates: history.subscribers.values().map(Vec::len).sum(),
        resumed,
        epochs: epochs.len(),
        faults,
    }
}

/// Fails if a guarantee was violated, or if too little happened to prove anything.
fn judge(violations: &[Violation], summary: &Summary) -> Result<()> {
    let reported: Vec<String> = violations.iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} violations:\n{}\n{summary:?}", reported.len(), reported.join("\n"));
    ensure!(summary.epochs >= 2, "it proves nothing: there was one leader only: {summary:?}");
    for kind in KINDS {
        ensure!(summary.faults.contains_key(&kind), "it proves nothing: no {kind}: {summary:?}");
    }
    let used = summary.starts >= 10 && summary.repeats >= 10 && summary.stops >= 5 && summary.marks >= 5;
    let closed = summary.cordons >= 1 && summary.drains >= 1 && summary.drained >= 1;
    let enough = used && closed && summary.resumed >= 1;
    ensure!(enough, "it proves nothing: too little happened: {summary:?}");
    Ok(())
}

/// Keeps history and manager logs of a failed run; returns a sentence with their path.
fn keep(stage: &Stage, seed: u64, history: &History) -> Result<String> {
    let folder = keep_logs(stage, &format!("seed-{seed}"))?;
    fs::write(folder.join("history.json"), serde_json::to_string(history)?)?;
    Ok(format!("the history and the logs of the managers are in {}", folder.display()))
}

/// Copies the logs of the managers into a folder that stays.
pub fn keep_logs(stage: &Stage, name: &str) -> Result<PathBuf> {
    let folder = target_dir()?.join("chaos").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for entry in fs::read_dir(stage.installation.dir())?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(folder)
}
