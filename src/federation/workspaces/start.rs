//! Starts a workspace exactly once.
//!
//! *Flow.* Placement (pure) → record in etcd → secrets and resource in the cluster → answer. *Guarantees.*
//! The record is the first write, and unique by workspace id and by meta id over all clusters. A start goes
//! on to the next cluster only after a definite refusal of its first call; where the outcome is unknown it
//! stays, and a repeated call continues there, refused or not. The same request gets the same answer while
//! the workspace lives, because token and URL are derived from it. *Limits.* A start that was cut off after
//! its record, and is not repeated, is settled by the leader ([`crate::workspaces::settle`]).

mod attempt;
pub(crate) mod create;
pub(crate) mod placing;
mod prepare;
pub(crate) mod repeat;
mod started;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use self::attempt::Attempt;
use self::create::Creation;
use self::placing::{Decided, Placing, unplaceable};
use self::repeat::{Held, Repeats};
use crate::leadership::Leadership;
use crate::locks::Locks;
use crate::workspaces::hosts::Hosts;
use crate::workspaces::records::Records;
use crate::{Error, Result};
use domain::names::{ClusterName, Region, WorkspaceId};
use domain::placement::{Rejection, Target};
use domain::record::PlacementRecord;
use domain::workspace::Start;
use k8s::convert::budget;
use store::{Claim, Term};

pub use self::started::Started;

/// Starts workspaces.
pub struct Starts {
    leadership: Arc<Leadership>,
    locks: Arc<Locks>,
    records: Arc<Records>,
    hosts: Arc<Hosts>,
    placing: Arc<Placing>,
    creation: Arc<Creation>,
    repeats: Arc<Repeats>,
}

impl Starts {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        locks: Arc<Locks>,
        records: Arc<Records>,
        hosts: Arc<Hosts>,
        placing: Arc<Placing>,
        creation: Arc<Creation>,
        repeats: Arc<Repeats>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, locks, records, hosts, placing, creation, repeats })
    }

    /// Regions that no registered cluster is in, each once.
    pub fn unknown_regions(&self, asked: &[Region]) -> BTreeSet<Region> {
        self.hosts.unknown_regions(asked)
    }

    /// Starts a workspace, or answers a repeated start as the first time.
    pub async fn start(&self, start: Start) -> Result<Started> {
        let term = self.leadership.term()?;
        let deadline = Instant::now() + self.creation.deadline;
        let _turn = self.locks.lock(&start.id, self.creation.deadline).await?;
        if let Some((record, version)) = self.records.get(&start.id) {
            return self.repeat(&term, &start, Held { record, version }, deadline).await;
        }
        budget::of_variables(&start)?;
        self.hosts.check_urls(&start)?;
        let Decided { registry, attempt, target, in_flight } =
            self.placing.decide(&term, &start, deadline).await?;
        let port_of = Some(self.hosts.port_of(&start.meta));
        let record = PlacementRecord { port_of, ..self.creation.new_record(&start, &target) };
        let checked = self
            .creation
            .check_size(&start, &record, &target)
            .and_then(|()| self.hosts.check_unnoted(&record));
        let claim = match checked {
            Ok(()) => self.records.claim(&term, &record).await,
            Err(refused) => Err(refused),
        };
        if let Ok(Claim::Claimed { version }) = &claim {
            self.records.show(record.clone(), *version);
            in_flight.recorded();
        } else {
            drop(in_flight);
        }
        drop(registry);
        match claim? {
            Claim::Claimed { version } => {
                self.place(&term, &start, Held { record, version }, target, attempt, deadline).await
            }
            Claim::IdTaken(record, version) => {
                self.records.show((*record).clone(), version);
                self.repeat(&term, &start, Held { record: *record, version }, deadline).await
            }
            Claim::MetaTaken { workspace } => Err(Error::MetaTaken { meta: start.meta, workspace }),
            Claim::HostTaken { workspace } => Err(Error::HostTaken { meta: start.meta, workspace }),
            Claim::FolderTaken { workspace } => Err(Error::FolderTaken { id: start.id, workspace }),
        }
    }

    async fn repeat(&self, term: &Term, start: &Start, held: Held, deadline: Instant) -> Result<Started> {
        let cluster = held.record.cluster.clone();
        let answer = self.repeats.repeat(term, start, held, deadline).await;
        answer.map_err(|error| after_record(error, &start.id, &cluster))
    }

    /// Tries the ranked clusters in turn, the record going before each.
    async fn place(
        &self,
        term: &Term,
        start: &Start,
        mut held: Held,
        mut target: Arc<Target>,
        mut attempt: Attempt<'_>,
        deadline: Instant,
    ) -> Result<Started> {
        let mut too_large = None;
        loop {
            match self.creation.create(term, start, &held.record, &target, deadline).await {
                Ok(started) => {
                    attempt.over(Some(&target.cluster));
                    return Ok(started);
                }
                Err(Error::Cluster(error)) if error.is_definite_refusal() => {
                    tracing::warn!(workspace = %start.id, cluster = %target.cluster, %error, "start refused");
                    // What is not deleted in time is swept later.
                    let _ = timeout_at(deadline, self.creation.take_back_secrets(term, start, &held.record))
                        .await;
                    self.records.release(&held.record);
                    if matches!(error, member::Error::TooLarge { .. }) {
                        too_large = Some(self.creation.too_large(start, &held.record, &target, &error));
                    }
                    let why = Rejection::Refused(error.to_string());
                    self.placing.meters.rejected(&target.cluster, &why);
                    attempt.refused(target.cluster.clone(), why);
                }
                Err(error) => {
                    // Not known yet, and settled there.
                    attempt.over(Some(&target.cluster));
                    return Err(after_record(error, &start.id, &target.cluster));
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            let left = deadline.duration_since(Instant::now());
            let Ok(_registry) = self.placing.registry.read(left).await else { break };
            let Some((next, in_flight)) = attempt.next() else { break };
            let record = PlacementRecord {
                cluster: next.cluster.clone(),
                namespace: next.namespace.clone(),
                ..held.record.clone()
            };
            let version = self.records.reclaim(term, &record, held.version).await?;
            in_flight.recorded();
            held = Held { record, version };
            target = next;
        }
        attempt.over(None);
        self.placing.meters.unplaced(&attempt.rejected);
        self.records.forget(term, &held.record, held.version).await?;
        Err(too_large.unwrap_or_else(|| unplaceable(start, attempt.rejected)))
    }
}

/// Once a start is recorded, the next leader may continue it: [`Error::NotLeader`] says that nothing was started.
fn after_record(error: Error, id: &WorkspaceId, cluster: &ClusterName) -> Error {
    match error {
        Error::NotLeader => {
            let reason = "this replica does not lead any more".to_owned();
            Error::Undecided { id: id.clone(), cluster: cluster.clone(), reason }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_term_after_the_record_leaves_open_what_became_of_the_start() {
        let (id, cluster) = ("ws".parse().unwrap(), "eu-1".parse().unwrap());
        assert!(matches!(after_record(Error::NotLeader, &id, &cluster), Error::Undecided { .. }));
        assert!(matches!(after_record(Error::NoWorkspace(id.clone()), &id, &cluster), Error::NoWorkspace(_)));
    }
}
