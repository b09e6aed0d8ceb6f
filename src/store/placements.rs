//! Placement records: written before any cluster is, and changed only by compare-and-swap.
//!
//! A record and its meta id entry change in one transaction, so the entry exists exactly while a live record has the meta id.
//! After [`Error::Ambiguous`], [`Store::placement`] and its version show whether the write was applied.

mod claim;

use std::collections::BTreeSet;

use etcd_client::{GetOptions, KeyValue, Txn, TxnOp};
use jiff::Timestamp;

use super::{
    Error, Result, Store,
    guard::{Verdict, delete_if, first, is_absent, is_at},
    list_watch::{Entry, Pages, list_all},
    mirrored::{Item, Mirrored},
    term::Term,
    value::{decode_name, encode},
};
use domain::{
    names::{ClusterName, MetaId, OwnerId, WorkspaceId},
    record::{PlacementRecord, RecordState},
    signing::Keying,
};

/// Records that one transaction removes; etcd accepts up to 128 operations.
const SWEEP: usize = 100;

/// Result of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The placement is recorded.
    Claimed {
        /// etcd version, which a change must compare.
        version: i64,
    },
    /// The workspace id has a record, live or ended, and its version.
    IdTaken(Box<PlacementRecord>, i64),
    /// Another live workspace has the meta id.
    MetaTaken {
        /// That workspace.
        workspace: WorkspaceId,
    },
    /// The URL of a port of one of the two is the URL of the other, which is live.
    HostTaken {
        /// The other one.
        workspace: WorkspaceId,
    },
    /// The node agent's folder of one of the two is the content's folder of the other, which is live.
    FolderTaken {
        /// The other one.
        workspace: WorkspaceId,
    },
}

impl Store {
    /// Moves a record that is still `Placed` at `version` to another registered cluster, after a definite rejection by the first
    /// one. Only `record.cluster` and `record.namespace` may differ: nothing was created, so the generation stays. Returns the new
    /// version.
    pub async fn reclaim(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<i64> {
        let doing = format!("move workspace {} to cluster {}", record.workspace, record.cluster);
        let key = self.keys().placement(&record.workspace);
        let when = vec![is_at(&key, version), self.is_registered(&record.cluster)];
        let put = TxnOp::put(key.as_str(), encode(&key, record)?, None);
        match self.guarded_txn(term, &doing, when, vec![put], &[&key]).await? {
            Verdict::Applied(version) => Ok(version),
            Verdict::Differs(found) => match found.into_iter().next().flatten() {
                Some(now) if now.mod_revision() == version => {
                    Err(Error::ClusterNotFound { cluster: record.cluster.clone() })
                }
                _ => Err(Error::Conflict { doing, key }),
            },
        }
    }

    /// Confirms a record: its resource was seen in the cluster. Returns the new version.
    pub async fn confirm(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<i64> {
        let doing = format!("confirm workspace {}", record.workspace);
        let confirmed = PlacementRecord { state: RecordState::Confirmed, ..record.clone() };
        self.put_record(term, &doing, &confirmed, version).await
    }

    /// Updates a live record with a higher generation, or other fields that are not part of its ids. Returns the new version.
    pub async fn amend(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<i64> {
        let doing = format!("amend the record of workspace {}", record.workspace);
        self.put_record(term, &doing, record, version).await
    }

    /// Ends a record because the workspace is gone, and releases its meta id. Returns the new version.
    pub async fn end(
        &self,
        term: &Term,
        record: &PlacementRecord,
        version: i64,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<i64> {
        let doing = format!("end workspace {}", record.workspace);
        let key = self.keys().placement(&record.workspace);
        let ended = PlacementRecord { state: RecordState::Ended { at, expires }, ..record.clone() };
        let mut ops = self.release(record);
        ops.push(TxnOp::put(key.as_str(), encode(&key, &ended)?, None));
        self.guarded_change(term, &doing, &key, vec![is_at(&key, version)], ops).await
    }

    /// Replaces the live record at `version` by one that was given up ([`PlacementRecord::given_up`]), and releases its meta id.
    /// A conflict if its cluster is registered. Returns the new version.
    pub async fn give_up(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<i64> {
        let doing = format!("give up workspace {}", record.workspace);
        let key = self.keys().placement(&record.workspace);
        let when = vec![is_at(&key, version), is_absent(&self.keys().cluster_spec(&record.cluster))];
        let mut ops = self.release(record);
        ops.push(TxnOp::put(key.as_str(), encode(&key, record)?, None));
        self.guarded_change(term, &doing, &key, when, ops).await
    }

    /// Removes the record of a failed start that definitely created nothing, and releases its meta id.
    pub async fn forget(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<()> {
        let doing = format!("forget workspace {}", record.workspace);
        let key = self.keys().placement(&record.workspace);
        let mut ops = self.release(record);
        ops.push(TxnOp::delete(key.as_str(), None));
        self.guarded_change(term, &doing, &key, vec![is_at(&key, version)], ops).await?;
        Ok(())
    }

    /// The current record of one workspace.
    pub async fn placement(&self, workspace: &WorkspaceId) -> Result<Option<Item<PlacementRecord>>> {
        let key = self.keys().placement(workspace);
        let found = first(&self.get(&format!("read workspace {workspace}"), key, GetOptions::new()).await?);
        let item = |found: KeyValue| {
            let value = PlacementRecord::decode(workspace.as_str(), found.value())?;
            Ok(Item { key: workspace.to_string(), value, version: found.mod_revision() })
        };
        found.map(item).transpose()
    }

    /// The live workspace that has the long-lived id and this owner, as etcd has it now.
    pub async fn live_of_meta(&self, owner: &OwnerId, meta: &MetaId) -> Result<Option<WorkspaceId>> {
        let key = self.keys().meta(meta);
        let doing = format!("read which workspace has meta id {meta}");
        let Some(entry) = first(&self.get(&doing, key.clone(), GetOptions::new()).await?) else {
            return Ok(None);
        };
        let id: WorkspaceId = decode_name(&key, entry.value())?;
        let record = self.placement(&id).await?.map(|item| item.value);
        let is_live = record.is_some_and(|record| record.is_live() && record.owner == *owner);
        Ok(is_live.then_some(id))
    }

    /// The live workspaces of an owner, as etcd has them now. It reads all records, page by page.
    pub async fn live_of_owner(&self, owner: &OwnerId) -> Result<Vec<WorkspaceId>> {
        let prefix = self.keys().placements();
        let (mut pages, mut live) = (Pages::new(self, &prefix), Vec::new());
        while let Some(page) = pages.next().await? {
            for entry in page {
                let record = PlacementRecord::decode(&entry.key, &entry.value)?;
                if record.owner == *owner && record.is_live() {
                    live.push(record.workspace);
                }
            }
        }
        Ok(live)
    }

    /// Removes all ended records that expired before `now`; returns their number. It reads all records, page by page, so call it
    /// only every few minutes.
    pub async fn sweep_expired(&self, term: &Term, now: Timestamp) -> Result<usize> {
        let prefix = self.keys().placements();
        let (mut pages, mut removed) = (Pages::new(self, &prefix), 0);
        while let Some(page) = pages.next().await? {
            let expired: Vec<_> = page.iter().filter(|entry| is_expired(entry, now)).collect();
            for batch in expired.chunks(SWEEP) {
                self.remove_unchanged(term, &prefix, batch).await?;
                removed += batch.len();
            }
        }
        Ok(removed)
    }

    /// Removes those records that did not change since they were read.
    async fn remove_unchanged(&self, term: &Term, prefix: &str, records: &[&Entry]) -> Result<()> {
        let remove = |entry: &&Entry| {
            let key = format!("{prefix}{}", entry.key);
            let unchanged = Txn::new().when([is_at(&key, entry.version)]);
            TxnOp::txn(unchanged.and_then([TxnOp::delete(key, None)]))
        };
        let ops = records.iter().map(remove).collect();
        self.guarded_change(term, "remove expired records", prefix, Vec::new(), ops).await.map(drop)
    }

    /// Number of live records of a cluster; it may be removed only if there are none.
    pub async fn live_placements(&self, cluster: &ClusterName) -> Result<usize> {
        let (entries, _, _) = list_all(self, &self.keys().placements()).await?;
        let mut live = 0;
        for entry in entries {
            let record = PlacementRecord::decode(&entry.key, &entry.value)?;
            live += usize::from(record.cluster == *cluster && record.is_live());
        }
        Ok(live)
    }

    /// Versions of the installation's secret that records name, ended ones included.
    pub async fn secrets_in_use(&self) -> Result<BTreeSet<u32>> {
        let (entries, _, _) = list_all(self, &self.keys().placements()).await?;
        let mut used = BTreeSet::new();
        for entry in entries {
            let record = PlacementRecord::decode(&entry.key, &entry.value)?;
            used.insert(Keying::version(record.keying.as_ref()));
        }
        Ok(used)
    }

    async fn put_record(
        &self,
        term: &Term,
        doing: &str,
        record: &PlacementRecord,
        version: i64,
    ) -> Result<i64> {
        let key = self.keys().placement(&record.workspace);
        let put = TxnOp::put(key.as_str(), encode(&key, record)?, None);
        self.guarded_change(term, doing, &key, vec![is_at(&key, version)], vec![put]).await
    }

    /// Operations that release the meta id and the hosts, if they are still this workspace's.
    fn release(&self, record: &PlacementRecord) -> Vec<TxnOp> {
        let meta = self.keys().meta(&record.meta);
        let hosts = record.port_of().iter().map(|owner| self.keys().host(owner, &record.meta));
        hosts.chain([meta]).map(|key| delete_if(&key, record.workspace.as_str())).collect()
    }
}

/// A record that cannot be read is never removed.
fn is_expired(entry: &Entry, now: Timestamp) -> bool {
    match PlacementRecord::decode(&entry.key, &entry.value) {
        Ok(PlacementRecord { state: RecordState::Ended { expires, .. }, .. }) => expires <= now,
        _ => false,
    }
}
