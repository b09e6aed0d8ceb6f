//! Gives up the workspaces of a cluster that does not return.
//!
//! *Flow.* An admin names a cluster that is not registered, and a reason. Each live record that names the
//! cluster is replaced, under its lock, by an ended one with the reason: one transaction, on condition that
//! the record is unchanged and the name is not registered. Every replica sees it in its watch and notifies
//! its subscribers. *Guarantees.* Nothing is written to any cluster. The long-lived id is free at once, the
//! instance id when the ended record expires. A repeated call continues one that was cut off. Should the
//! cluster come back, its workspaces count as never recorded: none is stopped or deleted, and one that is
//! adopted is shown above all versions that were shown before. Where the cluster is registered under another name, its
//! workspaces that are there are not given up.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;

use crate::fleet::{Connected, Fleet};
use crate::leadership::Leadership;
use crate::locks::Locks;
use crate::locks::PATIENCE;
use crate::reason::stated;
use crate::view::index::Index;
use crate::workspaces::records::Records;
use crate::{Error, Result};
use domain::diff::{Row, left};
use domain::names::{ClusterName, WorkspaceId};
use domain::observed::Observed;
use domain::record::PlacementRecord;
use store::{Store, Term};

/// Worked on at once.
const AT_ONCE: usize = 16;
/// For one call: what is left then is for the next.
const WITHIN: Duration = Duration::from_secs(15);

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Forgetting {
    /// Why; shown to subscribers. May be empty where nothing is changed.
    pub reason: String,
    /// Who asks.
    pub by: String,
    /// Change nothing and answer what would be given up.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Forgotten {
    /// Workspaces that this call gave up.
    pub given_up: usize,
    /// Those that are still recorded under the name, by namespace and id.
    pub left: Vec<Row>,
}

/// Gives up workspaces with their cluster.
pub struct GivingUp {
    leadership: Arc<Leadership>,
    fleet: Arc<Fleet>,
    store: Store,
    index: Arc<Index>,
    locks: Arc<Locks>,
    records: Arc<Records>,
}

impl GivingUp {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        fleet: Arc<Fleet>,
        store: Store,
        index: Arc<Index>,
        locks: Arc<Locks>,
        records: Arc<Records>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, fleet, store, index, locks, records })
    }

    /// Gives up what is recorded under the name of a cluster that is not registered, as far as the time goes. Repeatable.
    pub async fn forget_cluster(&self, name: &ClusterName, asked: &Forgetting) -> Result<Forgotten> {
        let term = self.leadership.term()?;
        if self.fleet.version(name).is_some() {
            return Err(Error::StillRegistered(name.clone()));
        }
        let mut given_up = 0;
        if !asked.dry_run {
            let reason = stated(&asked.reason)?;
            let former = self.store.former_clusters().await?.remove(name);
            let (uid, status) = former.map(|former| (former.cluster_uid, former.status)).unwrap_or_default();
            let alive = self.alive_elsewhere(name, &uid);
            let (now, alive) = alive.map_or((None, HashSet::new()), |(now, alive)| (Some(now), alive));
            let observed = serde_json::from_value::<Observed>(status).unwrap_or_default();
            let rewinds = observed.rewinds.map_or(0, |rewinds| rewinds.count);
            given_up = self.give_up_all(&term, name, reason, rewinds, &alive).await?;
            if let Some(now) = now.filter(|_| given_up == 0) {
                return Err(Error::RegisteredAs { cluster: name.clone(), now });
            }
            tracing::warn!(cluster = %name, given_up, by = asked.by, reason, "an admin gave workspaces up");
        }
        Ok(Forgotten { given_up, left: left(&self.index.records_of(name)) })
    }

    /// Workspaces of a former cluster that are there, where it is registered under another name: they can be adopted.
    /// `uid`: of the former cluster; empty where it is not known.
    fn alive_elsewhere(&self, name: &ClusterName, uid: &str) -> Option<(ClusterName, HashSet<WorkspaceId>)> {
        let records = self.index.records_of(name);
        let alive_in = |one: Arc<Connected>| {
            let is_there = |record: &&PlacementRecord| {
                let place = one.place(&record.namespace);
                record.is_live()
                    && place.is_ok_and(|place| place.cache.get(record.workspace.as_str()).is_some())
            };
            let alive: HashSet<_> =
                records.iter().filter(is_there).map(|record| record.workspace.clone()).collect();
            (one.member.name().clone(), alive)
        };
        let connected = self.fleet.connected().into_iter();
        let same = connected.filter(|one| !uid.is_empty() && one.in_use().cluster_uid == uid);
        same.map(alive_in).find(|(_, alive)| !alive.is_empty())
    }

    async fn give_up_all(
        &self,
        term: &Term,
        name: &ClusterName,
        reason: &str,
        rewinds: u32,
        alive: &HashSet<WorkspaceId>,
    ) -> Result<usize> {
        let told = format!("given up with cluster {name}: {reason}");
        let give_up = |id: WorkspaceId| self.give_up(term, name, id, &told, rewinds);
        let gone = self.index.placed_on(name).into_iter().filter(|id| !alive.contains(id));
        let each = futures::stream::iter(gone).map(give_up).buffer_unordered(AT_ONCE);
        let mut each = std::pin::pin!(each.take_until(tokio::time::sleep(WITHIN)));
        let mut given_up = 0;
        while let Some(done) = each.next().await {
            match done {
                Ok(done) => given_up += usize::from(done),
                // It changed, or the name is registered by now: the next call says which.
                Err(Error::Store(store::Error::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(given_up)
    }

    async fn give_up(
        &self,
        term: &Term,
        name: &ClusterName,
        id: WorkspaceId,
        told: &str,
        rewinds: u32,
    ) -> Result<bool> {
        let _turn = self.locks.lock(&id, PATIENCE).await?;
        let Some((record, version)) = self.records.get(&id) else { return Ok(false) };
        if !record.is_live() || record.cluster != *name {
            return Ok(false);
        }
        let (at, expires) = self.records.tombstone();
        let given_up = record.given_up(told.to_owned(), rewinds, at, expires);
        self.records.give_up(term, given_up, version).await?;
        Ok(true)
    }
}
