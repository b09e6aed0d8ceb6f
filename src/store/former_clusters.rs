//! Former clusters: clusters that were deregistered while workspaces were placed there, with their uid and last status, so that
//! they are recognized when they are registered again under any name.

use std::collections::BTreeMap;

use etcd_client::TxnOp;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Error, Result, Store,
    guard::{is_absent, is_at},
    list_watch::list_all,
    registration::StoredRegistration,
    term::Term,
    value::{decode, encode},
};
use domain::names::ClusterName;
use domain::record::PlacementRecord;

/// A cluster that was deregistered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FormerCluster {
    /// Uid of the cluster's namespace `kube-system`; empty if not known.
    pub cluster_uid: String,
    /// When it was deregistered.
    pub at: Timestamp,
    /// Its last observed status; null if there is none.
    #[serde(default)]
    pub status: Value,
}

impl Store {
    /// All former clusters by name.
    pub async fn former_clusters(&self) -> Result<BTreeMap<ClusterName, FormerCluster>> {
        let (entries, _, _) = list_all(self, &self.keys().former_clusters()).await?;
        let read = |entry: super::list_watch::Entry| {
            let key = format!("departed/{}", entry.key);
            let malformed = |error| Error::Malformed { key: key.clone(), reason: format!("{error}") };
            let name: ClusterName = entry.key.parse().map_err(malformed)?;
            Ok((name, decode(&key, &entry.value)?))
        };
        entries.into_iter().map(read).collect()
    }

    /// Removes a former cluster that no record names any more.
    pub async fn remove_former_cluster(&self, term: &Term, name: &ClusterName) -> Result<()> {
        let (spec, key) = (self.keys().cluster_spec(name), self.keys().former_cluster(name));
        let doing = format!("remove the former cluster {name}");
        let remove = TxnOp::delete(key.as_str(), None);
        self.guarded_change(term, &doing, &key, vec![is_absent(&spec)], vec![remove]).await?;
        Ok(())
    }

    /// Moves a record at `version` from the name `from`, which must not be registered, to the registered cluster that `record`
    /// names. Its ids do not change. Returns the new version.
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

    /// The write that stores a registered cluster as a former one.
    pub(super) async fn departing(
        &self,
        name: &ClusterName,
        stored: &StoredRegistration,
        at: Timestamp,
    ) -> Result<TxnOp> {
        let status = self.status(name).await?.map(|(status, _)| status).unwrap_or_default();
        let former_cluster = FormerCluster { cluster_uid: stored.cluster_uid.clone(), at, status };
        let key = self.keys().former_cluster(name);
        Ok(TxnOp::put(key.as_str(), encode(&key, &former_cluster)?, None))
    }

    /// The status of a cluster when it was last deregistered, under any name.
    pub(super) async fn observed_before(&self, cluster_uid: &str) -> Result<Option<Value>> {
        if cluster_uid.is_empty() {
            return Ok(None);
        }
        let former_clusters = self.former_clusters().await?.into_values();
        let last = former_clusters.filter(|one| one.cluster_uid == cluster_uid).max_by_key(|one| one.at);
        Ok(last.map(|one| one.status).filter(|status| !status.is_null()))
    }
}
