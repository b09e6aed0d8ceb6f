//! Moves a record to the name that its cluster has now.
//!
//! This is one transaction in etcd: at no time has a workspace two records, or none. The resource is not
//! written, and repeats of its start get the same answer as before.

use std::sync::Arc;

use crate::fleet::Connected;
use crate::locks::{Locks, PATIENCE, RegistryLock};
use crate::workspaces::diff::Comparison;
use crate::workspaces::records::Records;
use crate::workspaces::settle::queue::Queue;
use crate::{Error, Result};
use domain::adoption::{From, way};
use domain::diff::{Row, Standing, compare};
use domain::names::WorkspaceId;
use domain::record::{PlacementRecord, RecordState};
use k8s::convert;
use store::Term;

/// Moves records to the name that their cluster has now.
pub(crate) struct Relocation {
    records: Arc<Records>,
    comparison: Arc<Comparison>,
    locks: Arc<Locks>,
    registry: Arc<RegistryLock>,
    queue: Queue,
}

impl Relocation {
    pub(crate) fn new(
        records: Arc<Records>,
        comparison: Arc<Comparison>,
        locks: Arc<Locks>,
        registry: Arc<RegistryLock>,
        queue: Queue,
    ) -> Arc<Self> {
        Arc::new(Self { records, comparison, locks, registry, queue })
    }

    /// Moves a record that names the cluster by a former name; done already where it names the present one.
    pub(super) async fn relocate(&self, term: &Term, connected: &Connected, row: &Row) -> Result<()> {
        let id: WorkspaceId = row.workspace.parse().map_err(|_| Error::Invalid {
            field: "workspaces".into(),
            rule: format!("{} is no workspace id", row.workspace),
        })?;
        let refused = |reason: &str| Error::Precondition { id: id.clone(), reason: reason.to_owned() };
        let _turn = self.locks.lock(&id, PATIENCE).await?;
        connected.place(&row.namespace)?;
        let item = self.records.read(&id).await?.ok_or_else(|| refused("has no record any more"))?;
        let (record, version) = (item.value, item.version);
        self.records.show(record.clone(), version);
        let cluster = connected.member.name();
        if record.cluster == *cluster && record.namespace == row.namespace {
            return Ok(());
        }
        let formerly = self.comparison.formerly(connected).await?;
        let from = record.cluster.clone();
        let reader = connected.member.idle_writer(&row.namespace);
        let there = reader.get_workspace(id.as_str()).await?;
        let found = there.and_then(|workspace| convert::found(&workspace, self.comparison.installation()));
        let is_there = found.is_some();
        let rows = compare(cluster, &formerly, std::slice::from_ref(&record), found.into_iter().collect());
        let Some(Row { standing: Standing::Left(_), .. }) = rows.first() else {
            let why = rows.first().and_then(|row| way(row, &From::default()).err());
            return Err(refused(&why.unwrap_or_else(|| "has no record any more".to_owned())));
        };
        let state = if is_there { RecordState::Confirmed } else { record.state };
        let moved = PlacementRecord { cluster: cluster.clone(), state, ..record };
        let registry = self.registry.read(PATIENCE).await?;
        self.records.relocate(term, moved, version, &from).await?;
        drop(registry);
        self.queue.push(&id);
        Ok(())
    }
}
