//! Writes that etcd applies only for the current leader.

use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, KeyValue, Txn, TxnOp, TxnOpResponse};

use super::{Error, Result, Store, term::Term};

/// Result of a guarded transaction while the term is valid.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Applied at this revision, which is the version of every key that was put.
    Applied(i64),
    /// A comparison failed; the current values of the keys to read.
    Differs(Vec<Option<KeyValue>>),
}

impl Store {
    /// Applies `ops` if the term and all comparisons hold; otherwise reads `look_at` in the same transaction.
    pub(super) async fn guarded_txn(
        &self,
        term: &Term,
        doing: &str,
        compares: Vec<Compare>,
        ops: Vec<TxnOp>,
        look_at: &[&str],
    ) -> Result<Verdict> {
        let not_leader = || Error::NotLeader { doing: doing.to_owned(), epoch: term.epoch() };
        if !term.is_valid() {
            return Err(not_leader());
        }
        let mut when = vec![Compare::create_revision(term.key(), CompareOp::Equal, term.epoch())];
        when.extend(compares);
        let mut otherwise = vec![TxnOp::get(term.key(), Some(GetOptions::new().with_keys_only()))];
        otherwise.extend(look_at.iter().map(|key| TxnOp::get(*key, None)));
        let answer = self.txn(doing, Txn::new().when(when).and_then(ops).or_else(otherwise)).await?;
        if answer.succeeded() {
            return Ok(Verdict::Applied(answer.header().map_or(0, etcd_client::ResponseHeader::revision)));
        }
        let mut found = answer.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(get) => first(&get),
            _ => None,
        });
        match found.next().flatten() {
            Some(leader) if leader.create_revision() == term.epoch() => Ok(Verdict::Differs(found.collect())),
            _ => {
                // etcd decides, whatever the clock of this replica says.
                term.end();
                Err(not_leader())
            }
        }
    }

    /// A guarded transaction that fails with [`Error::Conflict`] on `key` if a comparison fails. Returns the revision.
    pub(super) async fn guarded_change(
        &self,
        term: &Term,
        doing: &str,
        key: &str,
        compares: Vec<Compare>,
        ops: Vec<TxnOp>,
    ) -> Result<i64> {
        match self.guarded_txn(term, doing, compares, ops, &[]).await? {
            Verdict::Applied(revision) => Ok(revision),
            Verdict::Differs(_) => Err(Error::Conflict { doing: doing.to_owned(), key: key.to_owned() }),
        }
    }
}

pub(super) fn first(answer: &GetResponse) -> Option<KeyValue> {
    answer.kvs().first().cloned()
}

/// Comparison that the key does not exist.
pub(super) fn is_absent(key: &str) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

/// Comparison that the key exists.
pub(super) fn is_present(key: &str) -> Compare {
    Compare::create_revision(key, CompareOp::Greater, 0)
}

/// Comparison that the key was last changed at `version`. Versions are from 1, so an absent key never matches.
pub(super) fn is_at(key: &str, version: i64) -> Compare {
    Compare::mod_revision(key, CompareOp::Equal, version.max(1))
}

/// Deletes `key` if its value is `value`, independent of the rest of the transaction.
pub(super) fn delete_if(key: &str, value: &str) -> TxnOp {
    let same = Compare::value(key, CompareOp::Equal, value);
    TxnOp::txn(Txn::new().when([same]).and_then([TxnOp::delete(key, None)]))
}
