//! Placement records: written to etcd by the leader, and shown in this replica's index at once.
//!
//! Every write is on condition of the version that was read, so that a concurrent change of the same record
//! is never lost: such a write fails with a conflict.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::fleet::Fleet;
use crate::view::index::{Index, Versioned};
use crate::{Error, Result};
use domain::names::{ClusterName, WorkspaceId};
use domain::record::{PlacementRecord, RecordState};
use store::{Claim, Item, Store, Term};

/// Placement records, for whoever holds the lock of their workspace.
pub struct Records {
    store: Store,
    index: Arc<Index>,
    fleet: Arc<Fleet>,
    /// How long an ended workspace's id stays taken.
    tombstone_life: Duration,
}

impl Records {
    /// Records of `store`.
    pub(crate) fn new(
        store: Store,
        index: Arc<Index>,
        fleet: Arc<Fleet>,
        tombstone_life: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { store, index, fleet, tombstone_life })
    }

    /// The record of a workspace, as this replica knows it.
    pub(crate) fn get(&self, id: &WorkspaceId) -> Option<Versioned> {
        self.index.record_of(id)
    }

    /// The record of a workspace that has not ended, as this replica knows it.
    pub(crate) fn live(&self, id: &WorkspaceId) -> Result<PlacementRecord> {
        let record = self.index.record_of(id).map(|(record, _)| record).filter(PlacementRecord::is_live);
        record.ok_or_else(|| Error::NoWorkspace(id.clone()))
    }

    /// The record of a workspace, as etcd has it.
    pub(crate) async fn read(&self, id: &WorkspaceId) -> Result<Option<Item<PlacementRecord>>> {
        Ok(self.store.placement(id).await?)
    }

    /// Shows a record that was read or written.
    pub(crate) fn show(&self, record: PlacementRecord, version: i64) {
        self.index.record(record, version);
    }

    /// Records a workspace unless one of its ids is taken. Whoever claims shows the record.
    pub(crate) async fn claim(&self, term: &Term, record: &PlacementRecord) -> Result<Claim> {
        Ok(self.store.claim(term, record).await?)
    }

    /// As [`Records::claim`], in place of the record of a workspace that was given up.
    pub(crate) async fn claim_over(
        &self,
        term: &Term,
        record: &PlacementRecord,
        version: i64,
    ) -> Result<Claim> {
        Ok(self.store.claim_over(term, record, version).await?)
    }

    /// Records that a start goes on at another cluster; the record's version.
    pub(crate) async fn reclaim(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<i64> {
        let version = self.store.reclaim(term, record, version).await?;
        self.index.record(record.clone(), version);
        Ok(version)
    }

    /// Records that the resource was seen.
    pub(crate) async fn confirm(&self, term: &Term, record: PlacementRecord, version: i64) -> Result<()> {
        let version = self.store.confirm(term, &record, version).await?;
        self.index.record(PlacementRecord { state: RecordState::Confirmed, ..record }, version);
        Ok(())
    }

    /// Records that a workspace names its cluster by another name now.
    pub(crate) async fn relocate(
        &self,
        term: &Term,
        moved: PlacementRecord,
        version: i64,
        from: &ClusterName,
    ) -> Result<()> {
        let version = self.store.relocate(term, &moved, version, from).await?;
        self.index.record(moved, version);
        Ok(())
    }

    /// Records that a workspace is over.
    pub(crate) async fn end(&self, term: &Term, record: PlacementRecord, version: i64) -> Result<()> {
        // Its watch may never have shown it.
        self.release(&record);
        let (at, expires) = self.tombstone();
        let record = PlacementRecord { ending: self.index.ending_of(&record.workspace), ..record };
        let version = self.store.end(term, &record, version, at, expires).await?;
        self.index.record(PlacementRecord { state: RecordState::Ended { at, expires }, ..record }, version);
        Ok(())
    }

    /// Records that a workspace was given up with its cluster.
    pub(crate) async fn give_up(&self, term: &Term, given_up: PlacementRecord, version: i64) -> Result<()> {
        let version = self.store.give_up(term, &given_up, version).await?;
        self.index.record(given_up, version);
        Ok(())
    }

    /// Removes the record of a start that created nothing.
    pub(crate) async fn forget(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<()> {
        self.store.forget(term, record, version).await?;
        self.index.record_gone(&record.workspace, version);
        self.release(record);
        Ok(())
    }

    /// Releases the capacity reserved by a failed start.
    pub(crate) fn release(&self, record: &PlacementRecord) {
        if let Some(connected) = self.fleet.get(&record.cluster) {
            connected.member.capacity().release(&record.namespace, record.workspace.as_str());
        }
    }

    /// Now, and until when what ends now is remembered.
    pub(crate) fn tombstone(&self) -> (Timestamp, Timestamp) {
        let at = Timestamp::now();
        let life = SignedDuration::try_from(self.tombstone_life).unwrap_or(SignedDuration::MAX);
        (at, at.saturating_add(life).unwrap_or(Timestamp::MAX))
    }
}
