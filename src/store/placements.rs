//! Where each workspace is: recorded before any cluster is written to, and changed only by compare-and-swap.
//!
//! A record and its hold on the meta id change in one transaction, so a meta id is held exactly while one live record has
//! it. A write whose outcome is [`Error::Ambiguous`] is cleared up by [`Store::placement`] and the version found there.

use etcd_client::{Compare, GetOptions, KeyValue, Txn, TxnOp};
use jiff::Timestamp;

use super::{
    Error, Result, Store,
    follow::{Entry, list_all},
    guard::{Verdict, delete_if, first, is_absent, is_at},
    mirror::{Item, Mirrored},
    term::Term,
    value::{decode, decode_name, encode},
};
use crate::domain::{
    names::{ClusterName, WorkspaceId},
    record::{PlacementRecord, RecordState},
};

/// Records that one transaction removes; etcd takes up to 128 operations.
const SWEEP: usize = 100;

/// What became of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The placement is recorded.
    Claimed {
        /// What a change of it must show.
        version: i64,
    },
    /// The workspace id has a record, live or ended, and its version.
    IdTaken(Box<PlacementRecord>, i64),
    /// Another live workspace has the meta id.
    MetaTaken {
        /// That workspace.
        workspace: WorkspaceId,
    },
}

impl Store {
    /// Records a new placement where neither its workspace id nor its meta id is taken, in a registered cluster
    /// ([`Error::ClusterNotFound`] otherwise).
    pub async fn claim(&self, term: &Term, record: &PlacementRecord) -> Result<Claim> {
        let key = self.keys().placement(&record.workspace);
        self.claim_when(term, record, &key, is_absent(&key), |found| found.is_none()).await
    }

    /// As [`Store::claim`], in the place of an ended record of the same workspace id at `version`.
    pub async fn claim_over(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<Claim> {
        let key = self.keys().placement(&record.workspace);
        let same = |found: Option<&KeyValue>| found.is_some_and(|found| found.mod_revision() == version);
        self.claim_when(term, record, &key, is_at(&key, version), same).await
    }

    async fn claim_when(
        &self,
        term: &Term,
        record: &PlacementRecord,
        key: &str,
        condition: Compare,
        holds: impl Fn(Option<&KeyValue>) -> bool,
    ) -> Result<Claim> {
        let doing = format!("place workspace {}", record.workspace);
        let meta_key = self.keys().meta(&record.meta);
        let when = vec![condition, is_absent(&meta_key), self.is_registered(&record.cluster)];
        let ops = vec![
            TxnOp::put(key, encode(key, record)?, None),
            TxnOp::put(meta_key.as_str(), record.workspace.as_str(), None),
        ];
        let found = match self.guarded_txn(term, &doing, when, ops, &[key, &meta_key]).await? {
            Verdict::Applied(version) => return Ok(Claim::Claimed { version }),
            Verdict::Differs(found) => found,
        };
        let mut found = found.into_iter();
        let (existing, holder) = (found.next().flatten(), found.next().flatten());
        match (existing, holder) {
            (existing, Some(holder)) if holds(existing.as_ref()) => {
                Ok(Claim::MetaTaken { workspace: decode_name(&meta_key, holder.value())? })
            }
            (existing, None) if holds(existing.as_ref()) => {
                Err(Error::ClusterNotFound { cluster: record.cluster.clone() })
            }
            (Some(existing), _) => {
                let record = Box::new(decode(key, existing.value())?);
                Ok(Claim::IdTaken(record, existing.mod_revision()))
            }
            (None, _) => Err(Error::Conflict { doing, key: key.to_owned() }),
        }
    }

    /// Moves a record that is still `Placed` at `version` to another registered cluster, after the first one definitely
    /// refused. Only `record.cluster` and `record.namespace` may differ: nothing was created, so the generation stays.
    /// Answers the new version.
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

    /// Notes that the resource was seen in its cluster. Answers the new version.
    pub async fn confirm(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<i64> {
        let doing = format!("confirm workspace {}", record.workspace);
        let confirmed = PlacementRecord { state: RecordState::Confirmed, ..record.clone() };
        self.put_record(term, &doing, &confirmed, version).await
    }

    /// Puts a live record with a grown generation, or other facts that do not touch its ids. Answers the new version.
    pub async fn amend(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<i64> {
        let doing = format!("amend the record of workspace {}", record.workspace);
        self.put_record(term, &doing, record, version).await
    }

    /// Notes that the workspace is gone, and lets go of its meta id. Answers the new version.
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
        let ops = vec![TxnOp::put(key.as_str(), encode(&key, &ended)?, None), self.release(record)];
        self.guarded_change(term, &doing, &key, vec![is_at(&key, version)], ops).await
    }

    /// Puts a record that was given up ([`PlacementRecord::given_up`]) in the place of the live one at `version`, and lets go of
    /// its meta id; only while its cluster is not registered, which is a conflict otherwise. Answers the new version.
    pub async fn give_up(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<i64> {
        let doing = format!("give up workspace {}", record.workspace);
        let key = self.keys().placement(&record.workspace);
        let when = vec![is_at(&key, version), is_absent(&self.keys().cluster_spec(&record.cluster))];
        let ops = vec![TxnOp::put(key.as_str(), encode(&key, record)?, None), self.release(record)];
        self.guarded_change(term, &doing, &key, when, ops).await
    }

    /// Removes the record of a start that definitely created nothing, and lets go of its meta id.
    pub async fn forget(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<()> {
        let doing = format!("forget workspace {}", record.workspace);
        let key = self.keys().placement(&record.workspace);
        let ops = vec![TxnOp::delete(key.as_str(), None), self.release(record)];
        self.guarded_change(term, &doing, &key, vec![is_at(&key, version)], ops).await?;
        Ok(())
    }

    /// The record of one workspace, as it is now.
    pub async fn placement(&self, workspace: &WorkspaceId) -> Result<Option<Item<PlacementRecord>>> {
        let key = self.keys().placement(workspace);
        let found = first(&self.get(&format!("read workspace {workspace}"), key, GetOptions::new()).await?);
        let item = |found: KeyValue| {
            let value = PlacementRecord::decode(workspace.as_str(), found.value())?;
            Ok(Item { key: workspace.to_string(), value, version: found.mod_revision() })
        };
        found.map(item).transpose()
    }

    /// Removes up to 100 ended records that expired before `now`, and answers how many; 100 means that there may be more.
    /// It reads all records, so call it every few minutes.
    pub async fn sweep_expired(&self, term: &Term, now: Timestamp) -> Result<usize> {
        let (entries, _, _) = list_all(self, &self.keys().placements()).await?;
        let expired: Vec<_> = entries.iter().filter(|entry| is_expired(entry, now)).take(SWEEP).collect();
        if expired.is_empty() {
            return Ok(0);
        }
        let remove = |entry: &&Entry| {
            let key = format!("{}{}", self.keys().placements(), entry.key);
            let unchanged = Txn::new().when([is_at(&key, entry.version)]);
            TxnOp::txn(unchanged.and_then([TxnOp::delete(key, None)]))
        };
        let ops = expired.iter().map(remove).collect();
        let doing = "remove expired records";
        self.guarded_change(term, doing, &self.keys().placements(), Vec::new(), ops).await?;
        Ok(expired.len())
    }

    /// How many records name a cluster and are live; a cluster may only go when there are none.
    pub async fn live_placements(&self, cluster: &ClusterName) -> Result<usize> {
        let (entries, _, _) = list_all(self, &self.keys().placements()).await?;
        let mut live = 0;
        for entry in entries {
            let record = PlacementRecord::decode(&entry.key, &entry.value)?;
            live += usize::from(record.cluster == *cluster && record.is_live());
        }
        Ok(live)
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

    /// Lets go of the meta id where it is still this workspace's.
    fn release(&self, record: &PlacementRecord) -> TxnOp {
        delete_if(&self.keys().meta(&record.meta), record.workspace.as_str())
    }
}

/// A record that cannot be read is never removed.
fn is_expired(entry: &Entry, now: Timestamp) -> bool {
    match PlacementRecord::decode(&entry.key, &entry.value) {
        Ok(PlacementRecord { state: RecordState::Ended { expires, .. }, .. }) => expires <= now,
        _ => false,
    }
}
