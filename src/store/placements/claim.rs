//! Claims a new placement, if its workspace id, its meta id, the hosts of its URLs and its folders on nodes are free.
//!
//! A live workspace whose URL is that of a port of another meta id has an entry `hosts/<that meta id>/<its own>`, written in the
//! transaction of its record. Such an entry is checked before it counts: a manager of an earlier release may have ended the
//! workspace without removing it.

use std::collections::BTreeMap;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, TxnOp};

use super::Claim;
use crate::guard::{Verdict, delete_if, is_absent, is_at};
use crate::term::Term;
use crate::value::{decode, decode_name, encode};
use crate::{Error, Result, Store};
use domain::names::{MetaId, WorkspaceId};
use domain::record::PlacementRecord;

/// Attempts of a claim while ended records of neighbours or outdated host entries block it.
const TRIES: usize = 5;
/// Host entries that one attempt checks.
const NOTES: i64 = 20;

/// Further comparisons of a claim.
struct Beside {
    /// Workspaces whose folders have the same name as one of this workspace's, and the version of their ended records.
    neighbours: BTreeMap<WorkspaceId, Option<i64>>,
}

/// Result of an attempt.
enum Tried {
    Over(Claim),
    /// Keys other than the workspace's own block it: current neighbours, then holders of meta ids.
    Beside(Vec<Option<KeyValue>>),
}

impl Store {
    /// Records a new placement in a registered cluster ([`Error::ClusterNotFound`] otherwise), if its workspace id and meta id are
    /// free, and no live workspace has one of its hosts or folders.
    pub async fn claim(&self, term: &Term, record: &PlacementRecord) -> Result<Claim> {
        let key = self.keys().placement(&record.workspace);
        self.claim_when(term, record, is_absent(&key), |found| found.is_none()).await
    }

    /// As [`Store::claim`], but replaces an ended record of the same workspace id at `version`.
    pub async fn claim_over(&self, term: &Term, record: &PlacementRecord, version: i64) -> Result<Claim> {
        let key = self.keys().placement(&record.workspace);
        let same = |found: Option<&KeyValue>| found.is_some_and(|found| found.mod_revision() == version);
        self.claim_when(term, record, is_at(&key, version), same).await
    }

    async fn claim_when(
        &self,
        term: &Term,
        record: &PlacementRecord,
        condition: Compare,
        holds: impl Fn(Option<&KeyValue>) -> bool,
    ) -> Result<Claim> {
        let id = &record.workspace;
        let neighbours = [id.daemon(), id.daemon_of()].into_iter().flatten().map(|id| (id, None)).collect();
        let mut beside = Beside { neighbours };
        for _ in 0..TRIES {
            let found = match self.try_claim(term, record, condition.clone(), &holds, &beside).await? {
                Tried::Over(claim) => return Ok(claim),
                Tried::Beside(found) => found,
            };
            if let Some(taken) = beside.taken(self, found)? {
                return Ok(taken);
            }
            if let Some(workspace) = self.holder_of_host(term, &record.meta).await? {
                return Ok(Claim::HostTaken { workspace });
            }
        }
        let key = self.keys().placement(id);
        Err(Error::Conflict { doing: format!("place workspace {id}"), key })
    }

    async fn try_claim(
        &self,
        term: &Term,
        record: &PlacementRecord,
        condition: Compare,
        holds: &impl Fn(Option<&KeyValue>) -> bool,
        beside: &Beside,
    ) -> Result<Tried> {
        let (keys, doing) = (self.keys(), format!("place workspace {}", record.workspace));
        let (key, meta_key) = (keys.placement(&record.workspace), keys.meta(&record.meta));
        let cluster_key = keys.cluster_spec(&record.cluster);
        let no_port_of_it =
            Compare::create_revision(keys.hosts(&record.meta), CompareOp::Equal, 0).with_prefix();
        let mut when =
            vec![condition, is_absent(&meta_key), self.is_registered(&record.cluster), no_port_of_it];
        let mut ops = vec![
            TxnOp::put(key.as_str(), encode(&key, record)?, None),
            TxnOp::put(meta_key.as_str(), record.workspace.as_str(), None),
        ];
        let mut look_at = vec![key.clone(), meta_key.clone(), cluster_key];
        for (neighbour, version) in &beside.neighbours {
            let key = keys.placement(neighbour);
            when.push(version.map_or_else(|| is_absent(&key), |version| is_at(&key, version)));
            look_at.push(key);
        }
        for owner in record.port_of() {
            let owner_key = keys.meta(owner);
            when.push(is_absent(&owner_key));
            look_at.push(owner_key);
            ops.push(TxnOp::put(keys.host(owner, &record.meta), record.workspace.as_str(), None));
        }
        let look_at: Vec<&str> = look_at.iter().map(String::as_str).collect();
        let mut found = match self.guarded_txn(term, &doing, when, ops, &look_at).await? {
            Verdict::Applied(version) => return Ok(Tried::Over(Claim::Claimed { version })),
            Verdict::Differs(found) => found.into_iter(),
        };
        let mut next = || found.next().flatten();
        let (existing, holder, cluster) = (next(), next(), next());
        match (existing, holder) {
            (existing, Some(holder)) if holds(existing.as_ref()) => {
                let workspace = decode_name(&meta_key, holder.value())?;
                Ok(Tried::Over(Claim::MetaTaken { workspace }))
            }
            (existing, None) if holds(existing.as_ref()) && cluster.is_none() => {
                Err(Error::ClusterNotFound { cluster: record.cluster.clone() })
            }
            (existing, None) if holds(existing.as_ref()) => Ok(Tried::Beside(found.collect())),
            (Some(existing), _) => {
                let record = Box::new(decode(&key, existing.value())?);
                Ok(Tried::Over(Claim::IdTaken(record, existing.mod_revision())))
            }
            (None, _) => Err(Error::Conflict { doing, key }),
        }
    }

    /// The live workspace whose URL is that of a port of `owner`. Entries of ended workspaces are removed.
    async fn holder_of_host(&self, term: &Term, owner: &MetaId) -> Result<Option<WorkspaceId>> {
        let (hosts, doing) =
            (self.keys().hosts(owner), format!("read who has the host of a port of {owner}"));
        let notes =
            self.get(&doing, hosts.clone(), GetOptions::new().with_prefix().with_limit(NOTES)).await?;
        for note in notes.kvs() {
            let key = String::from_utf8_lossy(note.key()).into_owned();
            let workspace: WorkspaceId = decode_name(&key, note.value())?;
            let record = self.placement(&workspace).await?.map(|item| item.value);
            let meta = key.strip_prefix(&hosts).unwrap_or_default();
            if record.is_some_and(|record| record.is_live() && record.meta.as_str() == meta) {
                return Ok(Some(workspace));
            }
            let remove = vec![delete_if(&key, workspace.as_str())];
            let unchanged = vec![is_at(&key, note.mod_revision())];
            match self.guarded_change(term, &doing, &key, unchanged, remove).await {
                Ok(_) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Beside {
    /// What blocks the claim, by the keys that were read. Ended neighbours are noted, so that the next attempt compares with them.
    fn taken(&mut self, store: &Store, found: Vec<Option<KeyValue>>) -> Result<Option<Claim>> {
        let mut found = found.into_iter();
        for (neighbour, version) in &mut self.neighbours {
            let item = found.next().flatten();
            *version = item.as_ref().map(KeyValue::mod_revision);
            let Some(item) = item else { continue };
            let record: PlacementRecord = decode(&store.keys().placement(neighbour), item.value())?;
            if record.is_live() {
                return Ok(Some(Claim::FolderTaken { workspace: neighbour.clone() }));
            }
        }
        match found.flatten().next() {
            Some(holder) => {
                let key = String::from_utf8_lossy(holder.key()).into_owned();
                Ok(Some(Claim::HostTaken { workspace: decode_name(&key, holder.value())? }))
            }
            None => Ok(None),
        }
    }
}
