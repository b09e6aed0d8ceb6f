//! Drains of clusters: at most one for each registered cluster, changed only by compare-and-swap.

use etcd_client::TxnOp;

use super::{
    Error, Result, Store,
    guard::{Verdict, is_absent, is_at},
    mirrored::Mirrored,
    term::Term,
    value::{decode, encode},
};
use domain::drain::Drain;

impl Store {
    /// Stores a drain of a registered cluster: the first one, or in place of the one at `version`. Returns the new version.
    pub async fn put_drain(&self, term: &Term, drain: &Drain, version: Option<i64>) -> Result<i64> {
        let doing = format!("record the drain of cluster {}", drain.cluster);
        let key = self.keys().drain(&drain.cluster);
        let unchanged = version.map_or_else(|| is_absent(&key), |version| is_at(&key, version));
        let when = vec![unchanged, self.is_registered(&drain.cluster)];
        let put = TxnOp::put(key.as_str(), encode(&key, drain)?, None);
        let spec = self.keys().cluster_spec(&drain.cluster);
        match self.guarded_txn(term, &doing, when, vec![put], &[&spec]).await? {
            Verdict::Applied(version) => Ok(version),
            Verdict::Differs(found) if found.iter().all(Option::is_none) => {
                Err(Error::ClusterNotFound { cluster: drain.cluster.clone() })
            }
            Verdict::Differs(_) => Err(Error::Conflict { doing, key }),
        }
    }
}

impl Mirrored for Drain {
    fn decode(key: &str, value: &[u8]) -> Result<Self> {
        let name = format!("drains/{key}");
        let drain: Self = decode(&name, value)?;
        if drain.cluster.as_str() != key {
            let reason = format!("it is the drain of cluster {}", drain.cluster);
            return Err(Error::Malformed { key: name, reason });
        }
        Ok(drain)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use domain::drain::Options;

    #[test]
    fn a_drain_reads_back_under_the_key_of_its_cluster_only() {
        let drain = Drain::begin("eu-1".parse().unwrap(), Options::default(), 3, Timestamp::UNIX_EPOCH);
        let bytes = encode("k", &drain).unwrap();
        assert_eq!(Drain::decode("eu-1", &bytes).unwrap(), drain);
        assert!(matches!(Drain::decode("us-1", &bytes), Err(Error::Malformed { .. })));
    }
}
