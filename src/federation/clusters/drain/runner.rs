//! The leader's part in drains: decides, records the decision, then requests the stops. Each drain has a
//! loop of its own, so that a cluster that hangs delays no other drain. A loop wakes on changes, and at the
//! next moment at which the rules decide differently.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;

use crate::clusters::drain::known::KnownDrains;
use crate::clusters::drain::survey::Survey;
use crate::fleet::Fleet;
use crate::locks::{Locks, PATIENCE};
use crate::view::index::Index;
use crate::workspaces::changes::Changes;
use crate::{Error, Result};
use domain::drain::Outcome;
use domain::names::{ClusterName, WorkspaceId};
use domain::record::RecordState;
use domain::workspace::StopPolicy;
use store::{self, Store, Term};

/// Debounce: changes within this time are handled together.
const GATHER: Duration = Duration::from_millis(50);
/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// The longest sleep: the wall clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The leader's part in drains.
pub(crate) struct DrainRunner {
    store: Store,
    drains: Arc<KnownDrains>,
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    locks: Arc<Locks>,
    changes: Arc<Changes>,
}

impl DrainRunner {
    pub(crate) fn new(
        store: Store,
        drains: Arc<KnownDrains>,
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        locks: Arc<Locks>,
        changes: Arc<Changes>,
    ) -> Arc<Self> {
        Arc::new(Self { store, drains, fleet, index, locks, changes })
    }

    /// Carries out all drains until the term ends.
    pub(crate) async fn run(&self, term: &Term) {
        let mut changes = self.drains.changes();
        let (mut at_work, mut loops) = (BTreeSet::new(), FuturesUnordered::new());
        loop {
            changes.borrow_and_update();
            for cluster in self.drains.active() {
                if at_work.insert(cluster.clone()) {
                    loops.push(self.carry_out(term, cluster));
                }
            }
            tokio::select! {
                Some(done) = loops.next() => {
                    at_work.remove(&done);
                }
                changed = changes.changed() => if changed.is_err() { return },
                () = term.ended() => return,
            }
        }
    }

    /// Carries out one drain until it is not under way any more.
    async fn carry_out(&self, term: &Term, cluster: ClusterName) -> ClusterName {
        let mut ends = 0;
        let (mut stirred, mut drains, mut fleet) =
            (self.index.drain_changes(), self.drains.changes(), self.fleet.changes());
        loop {
            stirred.borrow_and_update();
            drains.borrow_and_update();
            fleet.borrow_and_update();
            let pause = match self.advance(term, &cluster, &mut ends).await {
                Ok(Next::Over) => return cluster,
                Ok(Next::At(wake)) => wake.map_or(LOOK_AGAIN, from_now),
                Err(error) => {
                    tracing::warn!(%cluster, %error, "the drain cannot continue yet");
                    RETRY
                }
            };
            tokio::select! {
                _ = stirred.changed() => {}
                _ = drains.changed() => {}
                _ = fleet.changed() => {}
                () = tokio::time::sleep(pause.min(LOOK_AGAIN)) => continue,
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn advance(&self, term: &Term, cluster: &ClusterName, ends: &mut u64) -> Result<Next> {
        let Some((drain, version)) = self.drains.get(cluster).filter(|(drain, _)| drain.is_active()) else {
            return Ok(Next::Over);
        };
        let now = Timestamp::now();
        let survey = Survey::of(&self.fleet, &self.index, cluster);
        let (ended, seen) = self.ended(&drain, *ends);
        let step = drain.step(&survey.residents(), &ended, |resident| survey.has_room(&resident.id), now);
        if step.drain != drain {
            match self.store.put_drain(term, &step.drain, Some(version)).await {
                Ok(version) => self.drains.put_written(step.drain.clone(), version),
                // Somebody else's change is on its way here, and wakes this again.
                Err(store::Error::Conflict { .. }) => return Ok(Next::At(None)),
                Err(error) => return Err(error.into()),
            }
            if step.drain.stage != drain.stage {
                tracing::info!(%cluster, stage = ?step.drain.stage, "drain");
            }
        }
        *ends = seen;
        let stops = join_all(step.stop.iter().map(|id| self.stop_for_drain(term, id))).await;
        stops.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(if step.drain.is_active() { Next::At(step.wake) } else { Next::Over })
    }

    /// The same stop that a client asks for; it proceeds under maintenance.
    async fn stop_for_drain(&self, term: &Term, id: &WorkspaceId) -> Result<()> {
        let _turn = self.locks.lock(id, PATIENCE).await?;
        let Some((record, _)) = self.index.record_of(id).filter(|(record, _)| record.is_live()) else {
            return Ok(());
        };
        match self.changes.request_stop(term, &record, StopPolicy::Normally).await {
            // Gone meanwhile; its end is on its way here.
            Err(Error::NoWorkspace(_)) => Ok(()),
            outcome => {
                tracing::info!(workspace = %id, cluster = %record.cluster, ok = outcome.is_ok(), "drain: stop");
                outcome
            }
        }
    }

    /// What became of the workspaces that ended since the number given, and of those whose stop is under way.
    fn ended(&self, drain: &domain::drain::Drain, since: u64) -> (Vec<(WorkspaceId, Outcome)>, u64) {
        let (views, seen) = self.index.ends_after(&drain.cluster, since);
        let mut ended = Vec::new();
        for view in views {
            let outcome = Outcome::of(view.kind, &view.conditions);
            if matches!(outcome, Outcome::Unsaved(_))
                && self.index.ended_since(&view.id, &drain.cluster, drain.started_at)
            {
                ended.push((view.id.clone(), outcome));
            }
        }
        let over = |id: &&WorkspaceId| {
            let record = self.index.record_of(id);
            record.is_none_or(|(record, _)| {
                matches!(record.state, RecordState::Ended { .. }) || record.cluster != drain.cluster
            })
        };
        let over: Vec<&WorkspaceId> = drain.stopping.keys().filter(over).collect();
        if !over.is_empty() {
            let (all, _) = self.index.ends_after(&drain.cluster, 0);
            for id in over {
                let last = all.iter().rev().find(|view| view.id == *id);
                let outcome = last.map(|view| Outcome::of(view.kind, &view.conditions));
                ended.push((id.clone(), outcome.unwrap_or_else(Outcome::unseen)));
            }
        }
        (ended, seen)
    }
}

enum Next {
    /// The drain is not under way any more.
    Over,
    /// To be handled again then, unless something changes before.
    At(Option<Timestamp>),
}

fn from_now(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
}
