//! Restores a member cluster from backups of its etcd, repeatedly, with live workspaces. Checks that each restore is
//! detected, that workspaces which it brings back are not touched until an admin decides, and that every acknowledged
//! start is accounted for. A separate mode, because the guarantees of the chaos run do not hold across a restore: what
//! was written after the backup is gone.

mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use domain::workspace::Phase;
use futures::future::try_join_all;
use k8s::resources::Workspace;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use parking_lot::Mutex;
use proto::wsman::StopWorkspaceRequest;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::audit;
use super::clients::{Connection, request};
use super::history::Recorded;
use super::observer::added;
use super::run::keep_logs;
use super::stage::{Stage, now};
use crate::harness::node_agent::Pace;
use crate::harness::spaceport::PREFIX;
use crate::harness::{Cluster, NodeAgent, Versions, Writers, until};
use plan::Plan;

/// Timeout of one restore with all checks, on a busy machine.
const ONE: Duration = Duration::from_mins(5);
/// Timeout of one step.
const SOON: Duration = Duration::from_mins(1);
/// Timeout of one call.
const CALL: Duration = Duration::from_secs(5);
/// Delay between two starts during a restore.
const AGAIN: Duration = Duration::from_millis(400);

/// Results of the checks.
#[derive(Debug, Default)]
pub struct Summary {
    /// Time from a restore to its detection, by kind and whether managers ran meanwhile.
    detected: BTreeMap<(Versions, bool), Vec<Duration>>,
    starts: usize,
    gone: usize,
    came_back: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((versions, away), times) in &self.detected {
            let most = times.iter().max().copied().unwrap_or_default();
            let managers = if *away { "away" } else { "live" };
            write!(
                f,
                "{} restores with versions that {versions:?}, managers {managers}: each detected once, the last {:.1} s after \
                 the restore; ",
                times.len(),
                most.as_secs_f64()
            )?;
        }
        write!(
            f,
            "{} acknowledged starts accounted for, {} of them gone with a restore; {} restored workspaces were not touched",
            self.starts, self.gone, self.came_back
        )
    }
}

/// Restores a stage's first cluster `count` times in each of the two ways.
pub async fn run(stage: Stage, seed: u64, count: u32) -> Result<Summary> {
    let cluster = stage.clusters.first().cloned().context("no cluster")?;
    let agent = NodeAgent::start(&cluster.client(), Pace::default());
    let mut ground = Ground { stage: Arc::new(stage), cluster, agent: Some(agent), restored: 0 };
    let mut summary = Summary::default();
    for plan in Plan::all(seed, count) {
        let n = ground.restored;
        let one = timeout(ONE, Box::pin(ground.one(&plan, &mut summary))).await;
        let one = one.unwrap_or_else(|_| bail!("it takes longer than {ONE:?}"));
        if let Err(error) = one {
            let logs = keep_logs(&ground.stage, &format!("restores-{seed}"))?;
            let (what, logs) = (format!("restore {n}: {plan:?}"), logs.display());
            return Err(error.context(format!(
                "{what}; repeat it: make chaos SEED={seed} RESTORES={count}; the logs of the managers are in {logs}"
            )));
        }
    }
    Ok(summary)
}

/// An acknowledged start.
#[derive(Clone, Debug)]
struct Acknowledged {
    id: String,
    sent: u64,
}

struct Ground {
    stage: Arc<Stage>,
    cluster: Arc<Cluster>,
    agent: Option<NodeAgent>,
    restored: u32,
}

impl Ground {
    async fn one(&mut self, plan: &Plan, summary: &mut Summary) -> Result<()> {
        let n = self.restored;
        let ids = |kind: &str, count: u64| (0..count).map(|i| format!("{kind}-{n}-{i}")).collect::<Vec<_>>();
        let (stays, ends, late) = (ids("stays", plan.stays), ids("ends", plan.ends), ids("late", plan.late));
        let mut all = self.start_all(stays.iter().chain(&ends)).await?;
        let backup = self.cluster.dir().join(format!("backup-{n}.db"));
        self.cluster.back_up(&backup).await?;
        let canary = self.canary().await?;
        for id in &ends {
            self.stop(id).await?;
        }
        self.gone(&ends).await?;
        all.extend(self.start_all(late.iter()).await?);
        // What was written after a backup makes a restore detectable; the canary at the latest.
        until(SOON, "the canary to be renewed after the backup", async || {
            ensure!(self.canary().await? > canary, "it is unchanged");
            Ok(())
        })
        .await?;

        let mut log = self.log_end()?;
        let (live, ended) = Box::pin(self.restore(plan, &backup)).await?;
        let restored = Instant::now();
        all.extend(live);
        self.restored += 1;
        self.detected().await?;
        let detected = restored.elapsed();
        self.stage.whole().await?;
        summary.gone += self.accounted_for(&all, &ends, ended).await?;
        self.left_alone(&ends, &mut log)?;
        self.back_at_work().await?;
        self.clear(&ends).await?;
        println!("chaos: restore {n} ({plan:?}): detected {:.1} s after it", detected.as_secs_f64());
        summary.detected.entry((plan.versions, plan.away)).or_default().push(detected);
        summary.starts += all.len();
        summary.came_back += ends.len();
        Ok(())
    }

    /// Restores the backup; returns what was acknowledged meanwhile, and when the apiserver had ended.
    async fn restore(&mut self, plan: &Plan, backup: &std::path::Path) -> Result<(Vec<Acknowledged>, u64)> {
        let stage = Arc::clone(&self.stage);
        let replicas = stage.replicas();
        if plan.away {
            let ending = replicas.iter().map(|replica| replica.process.stop(SOON));
            try_join_all(ending).await?;
        }
        drop(self.agent.take());
        let writers = plan.writers.then(|| Writers::begin(&self.cluster));
        let acknowledged = Mutex::new(Vec::new());
        let restoring = async {
            let ended = self.cluster.restore(backup, plan.versions).await?;
            anyhow::Ok(u64::try_from(ended.as_millisecond())?)
        };
        let ended = if plan.away {
            restoring.await?
        } else {
            tokio::select! {
                ended = restoring => ended?,
                never = self.keep_starting(&acknowledged) => match never {},
            }
        };
        self.agent = Some(NodeAgent::start(&self.cluster.client(), Pace::default()));
        if plan.away {
            try_join_all((0..replicas.len()).map(|place| stage.restart(place))).await?;
        }
        drop(writers);
        Ok((acknowledged.into_inner(), ended))
    }

    /// Starts workspaces until dropped.
    async fn keep_starting(&self, acknowledged: &Mutex<Vec<Acknowledged>>) -> std::convert::Infallible {
        let n = self.restored;
        for i in 0u64.. {
            let (id, sent) = (format!("live-{n}-{i}"), now());
            if self.start(&id).await.is_ok() {
                acknowledged.lock().push(Acknowledged { id, sent });
            }
            sleep(AGAIN).await;
        }
        std::future::pending().await
    }

    /// Calls the replicas in turn until one responds within the timeout of a call.
    async fn call<T>(&self, call: impl AsyncFn(Connection) -> Result<T, Status>) -> Result<T> {
        let mut last = None;
        for replica in self.stage.replicas() {
            let calling = async {
                let connection = self.stage.installation.workspaces(&replica).await?;
                call(connection).await.map_err(anyhow::Error::from)
            };
            match timeout(CALL, calling).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        Err(last.context("no answer in time")?)
    }

    async fn start(&self, id: &str) -> Result<()> {
        let request = request(id, &format!("meta-{id}"), Vec::new());
        let start = async |mut client: Connection| client.start_workspace(request.clone()).await;
        self.call(start).await.map(drop)
    }

    async fn start_all(&self, ids: impl Iterator<Item = &String>) -> Result<Vec<Acknowledged>> {
        let mut all = Vec::new();
        for id in ids {
            let sent = now();
            until(SOON, "a start to be acknowledged", async || self.start(id).await).await?;
            all.push(Acknowledged { id: id.clone(), sent });
        }
        until(SOON, "workspaces to run", async || {
            let there = self.there().await?;
            for one in &all {
                let workspace = there.get(&one.id).with_context(|| format!("{} is not there", one.id))?;
                ensure!(is_running(workspace), "{} is {:?}", one.id, workspace.status);
            }
            Ok(())
        })
        .await?;
        Ok(all)
    }

    async fn stop(&self, id: &str) -> Result<()> {
        let request = StopWorkspaceRequest { id: id.to_owned(), policy: 0 };
        let stop = async |mut client: Connection| client.stop_workspace(request.clone()).await;
        until(SOON, "a stop to be acknowledged", async || self.call(stop).await.map(drop)).await
    }

    /// Waits until workspaces have ended, in cluster and record.
    async fn gone(&self, ids: &[String]) -> Result<()> {
        until(SOON, "workspaces to be gone", async || {
            let (there, records) = (self.there().await?, self.records(ids.iter().cloned()).await?);
            for id in ids {
                ensure!(!there.contains_key(id), "{id} is there");
                let record = records.get(id);
                ensure!(record.is_none_or(|state| *state == Recorded::Ended), "{id} is {record:?}");
            }
            Ok(())
        })
        .await
    }

    async fn there(&self) -> Result<BTreeMap<String, Workspace>> {
        let workspaces = Api::<Workspace>::namespaced(self.cluster.client(), &self.stage.namespace);
        let listed = timeout(CALL, workspaces.list(&ListParams::default())).await.context("no answer")??;
        let named = |workspace: Workspace| Some((workspace.metadata.name.clone()?, workspace));
        Ok(listed.items.into_iter().filter_map(named).collect())
    }

    async fn records(&self, ids: impl Iterator<Item = String>) -> Result<BTreeMap<String, Recorded>> {
        let records = self.stage.records(ids.collect()).await?;
        Ok(records.into_iter().map(|record| (record.id, record.state)).collect())
    }

    /// Resource version of the canary.
    async fn canary(&self) -> Result<u64> {
        let leases = Api::<Lease>::namespaced(self.cluster.client(), &self.stage.namespace);
        let lease = timeout(CALL, leases.get("spaceport-canary")).await.context("no answer")??;
        Ok(lease.metadata.resource_version.context("no version")?.parse()?)
    }

    /// Waits until the restore is visible to admins and counted, exactly once.
    async fn detected(&self) -> Result<()> {
        let (name, restored) = (self.cluster.name(), self.restored);
        until(SOON, "the restore to be detected", async || {
            let key = format!("{PREFIX}clusters/{name}/status");
            let found = self.stage.etcd.connect().await?.get(key, None).await?;
            let noted = found.kvs().first().context("nothing is noted")?;
            let noted: Value = serde_json::from_slice(noted.value())?;
            let count = &noted["status"]["rewinds"]["count"];
            ensure!(*count == restored, "{count} restores are noted, and there were {restored}");
            let shown = self.stage.cli(&["cluster", "show", name, "-o", "json"]).await?;
            ensure!(shown.code == 0, "{}", shown.stderr);
            let shown: Value = serde_json::from_str(&shown.stdout)?;
            let conditions = shown["status"]["conditions"].as_array().context("no conditions")?;
            let reported = |one: &Value| one["type"] == "HistoryIntact" && one["reason"] == "Restored";
            ensure!(conditions.iter().any(reported), "{conditions:?}");
            Ok(())
        })
        .await
    }

    /// Each acknowledged start runs; or has ended and is recorded so, if it was sent before the apiserver ended; or had
    /// ended, and was restored. Returns how many have ended.
    async fn accounted_for(&self, all: &[Acknowledged], ends: &[String], ended: u64) -> Result<usize> {
        let mut gone = 0;
        until(SOON, "every acknowledged start to be accounted for", async || {
            gone = 0;
            let there = self.there().await?;
            let records = self.records(all.iter().map(|one| one.id.clone())).await?;
            for Acknowledged { id, sent } in all {
                let (found, record) = (there.get(id), records.get(id).copied());
                let has_ended = record == Some(Recorded::Ended);
                let good = match found {
                    Some(_) if ends.contains(id) => has_ended,
                    Some(workspace) => is_running(workspace) && record.is_some() && !has_ended,
                    None => has_ended && *sent < ended && !ends.contains(id) && !id.starts_with("stays"),
                };
                gone += usize::from(found.is_none());
                let phase = found.and_then(|one| one.status.as_ref()).map(|status| status.phase);
                let before = i128::from(ended) - i128::from(*sent);
                ensure!(
                    good,
                    "{id}, asked for {before} ms before the restore: {phase:?} there, recorded as {record:?}"
                );
            }
            Ok(())
        })
        .await?;
        Ok(gone)
    }

    /// No write of a manager since the restore names a restored workspace or its pod.
    fn left_alone(&self, ends: &[String], log: &mut u64) -> Result<()> {
        let lines = added(&self.cluster, log)?;
        let events = audit::events(&lines, &[&self.stage.namespace, &self.stage.secrets])?;
        let ours = events.iter().filter(|event| event.epoch.is_some() && event.accepted && !event.dry_run);
        let ours = ours.filter(|event| ends.iter().any(|id| event.name.contains(id.as_str())));
        // Writes before the restore are the stops themselves.
        let touched: Vec<String> =
            ours.map(|event| format!("{} {}/{}", event.verb, event.resource, event.name)).collect();
        ensure!(touched.is_empty(), "restored workspaces were written to: {touched:?}");
        Ok(())
    }

    /// Waits until a new workspace runs there.
    async fn back_at_work(&self) -> Result<()> {
        self.start_all(std::iter::once(&format!("again-{}", self.restored))).await.map(drop)
    }

    /// The admin discards what was restored; the rest is stopped.
    async fn clear(&self, ends: &[String]) -> Result<()> {
        let mut args = vec!["cluster", "discard", self.cluster.name(), "--force"];
        args.extend(ends.iter().map(String::as_str));
        until(SOON, "restored workspaces to be discarded", async || {
            let there = self.there().await?;
            if ends.iter().any(|id| there.contains_key(id)) {
                let done = self.stage.cli(&args).await?;
                bail!("{}{}", done.stdout, done.stderr);
            }
            Ok(())
        })
        .await?;
        let others: Vec<String> = self.there().await?.into_keys().collect();
        for id in &others {
            self.stop(id).await?;
        }
        self.gone(&others).await
    }

    fn log_end(&self) -> Result<u64> {
        let mut at = 0;
        added(&self.cluster, &mut at)?;
        Ok(at)
    }
}

fn is_running(workspace: &Workspace) -> bool {
    let is_deleted = workspace.metadata.deletion_timestamp.is_some();
    !is_deleted && workspace.status.as_ref().is_some_and(|status| status.phase == Phase::Running)
}
