//! Writes and reads registrations of member clusters. Specification and observed status are separate keys.

use std::collections::BTreeMap;

use etcd_client::{Compare, GetOptions, KeyValue, TxnOp};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Error, Result, Store,
    guard::{Verdict, delete_if, first, is_absent, is_at, is_present},
    list_watch::list_all,
    mirrored::Mirrored,
    registration::{ClusterEntry, NewCluster, Registration, StoredRegistration, StoredStatus, seal_some},
    seal::Sealer,
    term::Term,
    value::{decode, decode_name, encode},
};
use domain::{cluster::ClusterSpec, names::ClusterName};

impl Store {
    /// All registered clusters by name. One that cannot be read or unsealed is an error in the list.
    pub async fn clusters(&self, sealer: &Sealer) -> Result<Vec<Result<Registration>>> {
        let (entries, _, _) = list_all(self, &self.keys().clusters()).await?;
        let specs = entries.into_iter().filter(|entry| entry.key.ends_with("/spec"));
        let open = |entry: super::list_watch::Entry| match ClusterEntry::decode(&entry.key, &entry.value)? {
            ClusterEntry::Spec(stored) => stored.open(sealer, entry.version),
            ClusterEntry::Status { cluster, .. } => Err(Error::ClusterNotFound { cluster }),
        };
        Ok(specs.map(open).collect())
    }

    /// Registers a cluster, with its last status if it was registered before. Returns the version. Fails with
    /// [`Error::ClusterExists`] or [`Error::AddressInUse`].
    pub async fn create_cluster(&self, term: &Term, sealer: &Sealer, new: &NewCluster) -> Result<i64> {
        let name = &new.spec.name;
        let api_server = normal_address(name, &new.api_server)?;
        let (spec_key, address_key) = (self.keys().cluster_spec(name), self.keys().address(&api_server));
        let kubeconfig = seal_some(sealer, &spec_key, name, new.kubeconfig.as_ref())?;
        let stored = new.stored(api_server.clone(), kubeconfig);
        let mut ops = Vec::new();
        // First, so that replicas get it before they connect to the cluster.
        if let Some(status) = self.observed_before(&new.cluster_uid).await? {
            let key = self.keys().cluster_status(name);
            ops.push(TxnOp::put(key.as_str(), encode(&key, &StoredStatus { status })?, None));
        }
        ops.extend([
            TxnOp::put(spec_key.as_str(), encode(&spec_key, &stored)?, None),
            TxnOp::put(address_key.as_str(), name.as_str(), None),
            TxnOp::delete(self.keys().former_cluster(name), None),
        ]);
        let when = vec![is_absent(&spec_key), is_absent(&address_key)];
        let doing = format!("register cluster {name}");
        match self.guarded_txn(term, &doing, when, ops, &[&spec_key, &address_key]).await? {
            Verdict::Applied(version) => Ok(version),
            Verdict::Differs(found) => match found.as_slice() {
                [None, Some(owner)] => Err(in_use(&address_key, api_server, owner)),
                _ => Err(Error::ClusterExists { cluster: name.clone() }),
            },
        }
    }

    /// Changes the specification of a cluster at `version`, but not its login. Returns the new version.
    pub async fn update_cluster(&self, term: &Term, version: i64, spec: &ClusterSpec) -> Result<i64> {
        let doing = format!("update cluster {}", spec.name);
        let (key, stored) = self.stored(&doing, &spec.name, version).await?;
        let changed = StoredRegistration { spec: spec.clone(), ..stored };
        let put = TxnOp::put(key.as_str(), encode(&key, &changed)?, None);
        self.guarded_change(term, &doing, &key, vec![is_at(&key, version)], vec![put]).await
    }

    /// Changes login and specification of a cluster in one transaction. Returns the new version.
    pub async fn replace_cluster(
        &self,
        term: &Term,
        sealer: &Sealer,
        version: i64,
        new: &NewCluster,
    ) -> Result<i64> {
        let name = &new.spec.name;
        let doing = format!("update cluster {name}");
        let (key, old) = self.stored(&doing, name, version).await?;
        let api_server = normal_address(name, &new.api_server)?;
        let kubeconfig = seal_some(sealer, &key, name, new.kubeconfig.as_ref())?;
        let changed = new.stored(api_server.clone(), kubeconfig);
        let mut when = vec![is_at(&key, version)];
        let mut ops = vec![TxnOp::put(key.as_str(), encode(&key, &changed)?, None)];
        let address_key = self.keys().address(&api_server);
        if api_server != old.api_server {
            when.push(is_absent(&address_key));
            ops.push(TxnOp::put(address_key.as_str(), name.as_str(), None));
            ops.push(delete_if(&self.keys().address(&old.api_server), name.as_str()));
        }
        match self.guarded_txn(term, &doing, when, ops, &[&key, &address_key]).await? {
            Verdict::Applied(version) => Ok(version),
            Verdict::Differs(found) => match found.as_slice() {
                [Some(spec), Some(owner)] if spec.mod_revision() == version => {
                    Err(in_use(&address_key, api_server, owner))
                }
                _ => Err(Error::Conflict { doing, key }),
            },
        }
    }

    /// Removes a cluster with its status, its drain and its address. The caller checks whether it may be removed.
    pub async fn delete_cluster(&self, term: &Term, name: &ClusterName, version: i64) -> Result<()> {
        self.delete_noting(term, name, version, None).await
    }

    /// Removes a cluster in which workspaces are placed: also stores it as a [`FormerCluster`](crate::FormerCluster).
    pub async fn leave_cluster(
        &self,
        term: &Term,
        name: &ClusterName,
        version: i64,
        at: Timestamp,
    ) -> Result<()> {
        self.delete_noting(term, name, version, Some(at)).await
    }

    async fn delete_noting(
        &self,
        term: &Term,
        name: &ClusterName,
        version: i64,
        left_at: Option<Timestamp>,
    ) -> Result<()> {
        let doing = format!("deregister cluster {name}");
        let (key, stored) = self.stored(&doing, name, version).await?;
        let mut ops = vec![
            TxnOp::delete(key.as_str(), None),
            TxnOp::delete(self.keys().cluster_status(name), None),
            TxnOp::delete(self.keys().drain(name), None),
            delete_if(&self.keys().address(&stored.api_server), name.as_str()),
        ];
        if let Some(at) = left_at {
            ops.push(self.departing(name, &stored, at).await?);
        }
        self.guarded_change(term, &doing, &key, vec![is_at(&key, version)], ops).await?;
        Ok(())
    }

    /// Stores the observed status of a registered cluster: the first one, or in place of the one at `version`. Returns the new
    /// version.
    pub async fn put_status(
        &self,
        term: &Term,
        name: &ClusterName,
        status: &Value,
        version: Option<i64>,
    ) -> Result<i64> {
        let (spec_key, key) = (self.keys().cluster_spec(name), self.keys().cluster_status(name));
        let value = encode(&key, &StoredStatus { status: status.clone() })?;
        let put = TxnOp::put(key.as_str(), value, None);
        let doing = format!("note the status of cluster {name}");
        let unchanged = version.map_or_else(|| is_absent(&key), |version| is_at(&key, version));
        let when = vec![is_present(&spec_key), unchanged];
        match self.guarded_txn(term, &doing, when, vec![put], &[&spec_key]).await? {
            Verdict::Applied(version) => Ok(version),
            Verdict::Differs(found) if found.iter().all(Option::is_none) => {
                Err(Error::ClusterNotFound { cluster: name.clone() })
            }
            Verdict::Differs(_) => Err(Error::Conflict { doing, key }),
        }
    }

    /// The last observed status of a cluster, and its version. A status that cannot be read is an error.
    pub async fn status(&self, name: &ClusterName) -> Result<Option<(Value, i64)>> {
        let key = self.keys().cluster_status(name);
        let found =
            first(&self.get(&format!("read the status of cluster {name}"), key, GetOptions::new()).await?);
        let read = |found: KeyValue| {
            let StoredStatus { status } = decode(&format!("clusters/{name}/status"), found.value())?;
            Ok((status, found.mod_revision()))
        };
        found.map(read).transpose()
    }

    /// The last observed status of each cluster. One that cannot be read is omitted: it is observed again soon.
    pub async fn statuses(&self) -> Result<BTreeMap<ClusterName, Value>> {
        let (entries, _, _) = list_all(self, &self.keys().clusters()).await?;
        let status = |entry: &super::list_watch::Entry| match ClusterEntry::decode(&entry.key, &entry.value) {
            Ok(ClusterEntry::Status { cluster, status }) => Some((cluster, status)),
            _ => None,
        };
        Ok(entries.iter().filter_map(status).collect())
    }

    /// A registration that must still be at `version`.
    async fn stored(
        &self,
        doing: &str,
        name: &ClusterName,
        version: i64,
    ) -> Result<(String, StoredRegistration)> {
        let key = self.keys().cluster_spec(name);
        match first(&self.get(doing, key.clone(), GetOptions::new()).await?) {
            None => Err(Error::ClusterNotFound { cluster: name.clone() }),
            Some(found) if found.mod_revision() != version => {
                Err(Error::Conflict { doing: doing.to_owned(), key })
            }
            Some(found) => {
                let stored = decode(&key, found.value())?;
                Ok((key, stored))
            }
        }
    }

    /// Comparison that the cluster is registered, for writes that refer to it.
    pub(super) fn is_registered(&self, name: &ClusterName) -> Compare {
        is_present(&self.keys().cluster_spec(name))
    }
}

fn in_use(address_key: &str, address: String, owner: &KeyValue) -> Error {
    match decode_name(address_key, owner.value()) {
        Ok(cluster) => Error::AddressInUse { address, cluster },
        Err(error) => error,
    }
}

/// Normalizes an address: lower-case host, explicit port, no trailing slash.
pub fn normal_address(cluster: &ClusterName, address: &str) -> Result<String> {
    let bad = |rule| Error::Address { cluster: cluster.clone(), rule };
    let url = url::Url::parse(address).map_err(|_| bad("must be a URL such as https://host:6443"))?;
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(bad("must name a host"));
    };
    if !matches!(url.scheme(), "https" | "http") {
        return Err(bad("must begin with https:// or http://"));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(bad("must have neither a user nor a query nor a fragment"));
    }
    let host = host.trim_end_matches('.');
    Ok(format!("{}://{host}:{port}{}", url.scheme(), url.path().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        let eu = "eu".parse().unwrap();
        for same in ["https://EU.example", "https://eu.example:443/", "https://eu.example.:443"] {
            assert_eq!(normal_address(&eu, same).unwrap(), "https://eu.example:443");
        }
        assert_eq!(
            normal_address(&eu, "https://rancher:8443/k8s/c-1/").unwrap(),
            "https://rancher:8443/k8s/c-1"
        );
        for bad in
            ["", "eu.example", "ftp://eu.example", "https://u:hunter2@eu.example", "https://eu.example?a"]
        {
            let error = normal_address(&eu, bad).unwrap_err().to_string();
            assert!(
                error.starts_with("cluster eu: API address must") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
