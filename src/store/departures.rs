//! Clusters that were taken out while workspaces were placed there: which cluster each name stood for, and what was observed
//! of it. So it is known again, whatever name it is registered under next.

use std::collections::BTreeMap;

use etcd_client::TxnOp;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Error, Result, Store,
    clusters::StoredRegistration,
    follow::list_all,
    guard::{is_absent, is_at},
    term::Term,
    value::{decode, encode},
};
use domain::names::ClusterName;
use domain::record::PlacementRecord;

/// A cluster that is not registered under a name any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Departure {
    /// Uid of the cluster's namespace `kube-system`; empty where it was not known.
    pub cluster_uid: String,
    /// When it was taken out.
    pub at: Timestamp,
    /// What was last observed of it; null where nothing was.
    #[serde(default)]
    pub status: Value,
}

impl Store {
    /// All departures, by the name that the cluster had.
    pub async fn departures(&self) -> Result<BTreeMap<ClusterName, Departure>> {
        let (entries, _, _) = list_all(self, &self.keys().departures()).await?;
        let read = |entry: super::follow::Entry| {
            let key = format!("departed/{}", entry.key);
            let malformed = |error| Error::Malformed { key: key.clone(), reason: format!("{error}") };
            let name: ClusterName = entry.key.parse().map_err(malformed)?;
            Ok((name, decode(&key, &entry.value)?))
        };
        entries.into_iter().map(read).collect()
    }

    /// Removes a departure whose name stands for nothing any more.
    pub async fn forget_departure(&self, term: &Term, name: &ClusterName) -> Result<()> {
        let (spec, key) = (self.keys().cluster_spec(name), self.keys().departure(name));
        let doing = format!("forget that cluster {name} was taken out");
        let remove = TxnOp::delete(key.as_str(), None);
        self.guarded_change(term, &doing, &key, vec![is_absent(&spec)], vec![remove]).await?;
        Ok(())
    }

    /// Moves a record at `version` from the name `from`, which must not be registered, to the registered cluster that it
    /// names now. Its ids stay its own. Answers the new version.
    pub async fn relocate(
        &self,
        term: &Term,
        record: &PlacementRecord,
        version: i64,
        from: &ClusterName,
    ) -> Result<i64> {
        let doing =
            format!("move the record of workspace {} to cluster {}", record.workspace, record.cluster);
        let key = self.keys().placement(&record.workspace);
        let gone = is_absent(&self.keys().cluster_spec(from));
        let when = vec![is_at(&key, version), self.is_registered(&record.cluster), gone];
        let put = TxnOp::put(key.as_str(), encode(&key, record)?, None);
        self.guarded_change(term, &doing, &key, when, vec![put]).await
    }

    /// Notes which cluster a registration stood for.
    pub(super) async fn departing(
        &self,
        name: &ClusterName,
        stored: &StoredRegistration,
        at: Timestamp,
    ) -> Result<TxnOp> {
        let status = self.status(name).await?.map(|(status, _)| status).unwrap_or_default();
        let departure = Departure { cluster_uid: stored.cluster_uid.clone(), at, status };
        let key = self.keys().departure(name);
        Ok(TxnOp::put(key.as_str(), encode(&key, &departure)?, None))
    }

    /// What was observed of a cluster when it was last taken out, under whatever name.
    pub(super) async fn observed_before(&self, cluster_uid: &str) -> Result<Option<Value>> {
        if cluster_uid.is_empty() {
            return Ok(None);
        }
        let departures = self.departures().await?.into_values();
        let last = departures.filter(|one| one.cluster_uid == cluster_uid).max_by_key(|one| one.at);
        Ok(last.map(|one| one.status).filter(|status| !status.is_null()))
    }
}
