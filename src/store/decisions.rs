//! Placement decisions with their explanations, separate from the records, for a bounded time and number.

use std::mem::take;
use std::time::Duration;

use etcd_client::{GetOptions, PutOptions, SortOrder, SortTarget, TxnOp};

use super::client::Kind;
use super::guard::first;
use super::keys::range_end;
use super::value::{decode, encode};
use super::{Result, Store, term::Term};
use domain::names::WorkspaceId;
use domain::placement::explain::Explanation;

/// Bytes of values in one transaction; etcd accepts 1.5 MiB by default.
const TRANSACTION: usize = 512 * 1024;

impl Store {
    /// A lease for decisions that are kept for `life`.
    pub async fn decision_lease(&self, life: Duration) -> Result<i64> {
        let ttl = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        // A second lease from a repeated call has no keys and expires.
        let grant = |client: etcd_client::Client| async move {
            client.lease_client().grant(ttl, None).await.map(|granted| granted.id())
        };
        self.call(Kind::Repeatable, "ask for a lease of decisions", grant).await
    }

    /// Stores decisions under a lease and removes others; at most 100 in total.
    pub async fn keep_decisions(
        &self,
        term: &Term,
        lease: i64,
        decisions: &[Explanation],
        forget: &[WorkspaceId],
    ) -> Result<()> {
        let (mut ops, mut size) = (Vec::with_capacity(decisions.len() + forget.len()), 0);
        for decision in decisions {
            let key = self.keys().decision(&decision.workspace);
            let value = encode(&key, decision)?;
            if size + value.len() > TRANSACTION && !ops.is_empty() {
                self.put_decisions(term, take(&mut ops)).await?;
                size = 0;
            }
            size += value.len();
            ops.push(TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease))));
        }
        ops.extend(forget.iter().map(|id| TxnOp::delete(self.keys().decision(id), None)));
        self.put_decisions(term, ops).await
    }

    async fn put_decisions(&self, term: &Term, ops: Vec<TxnOp>) -> Result<()> {
        let key = self.keys().decisions();
        self.guarded_change(term, "keep decisions", &key, Vec::new(), ops).await.map(drop)
    }

    /// The decision about a workspace, if it has not expired.
    pub async fn decision(&self, workspace: &WorkspaceId) -> Result<Option<Explanation>> {
        let key = self.keys().decision(workspace);
        let doing = format!("read the decision about {workspace}");
        let found = first(&self.get(&doing, key.clone(), GetOptions::new()).await?);
        found.map(|found| decode(&key, found.value())).transpose()
    }

    /// Workspaces with stored decisions, the oldest first.
    pub async fn decided(&self) -> Result<Vec<WorkspaceId>> {
        let prefix = self.keys().decisions();
        let options = GetOptions::new()
            .with_range(range_end(&prefix))
            .with_keys_only()
            .with_sort(SortTarget::Mod, SortOrder::Ascend);
        let found = self.get("list decisions", prefix.clone(), options).await?;
        let id = |key: &str| key.strip_prefix(&prefix)?.parse().ok();
        Ok(found.kvs().iter().filter_map(|kv| kv.key_str().ok().and_then(id)).collect())
    }
}
