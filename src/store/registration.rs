//! A registration of a member cluster as the caller gives it, as etcd stores it, and ready for use.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Error, Result,
    mirrored::{Mirrored, sealed},
    seal::{Sealed, Sealer},
    value::decode,
};
use domain::{cluster::ClusterSpec, names::ClusterName, secret::Secret};

/// A cluster to register.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// The specification.
    pub spec: ClusterSpec,
    /// URL of the cluster's API; unique.
    pub api_server: String,
    /// Login; `None` if the specification names a Secret of the host cluster instead.
    pub kubeconfig: Option<Secret<Vec<u8>>>,
    /// Identifies the cluster independent of its address; empty if not known.
    pub cluster_uid: String,
}

/// A registered cluster, ready for use.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The specification.
    pub spec: ClusterSpec,
    /// Normalized URL of the cluster's API.
    pub api_server: String,
    /// Login; `None` if it is in a Secret that was not read yet.
    pub kubeconfig: Option<Secret<Vec<u8>>>,
    /// Identifies the cluster independent of its address; empty if not known.
    pub cluster_uid: String,
    /// etcd version, which a change must compare.
    pub version: i64,
}

/// A registered cluster as stored in etcd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredRegistration {
    /// The specification.
    pub spec: ClusterSpec,
    /// Normalized URL of the cluster's API.
    pub api_server: String,
    /// Login, sealed for this cluster; `None` if the specification names a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<Sealed>,
    /// Uid of the cluster's namespace `kube-system`; empty if not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_uid: String,
}

/// An entry of the mirror of clusters: a registration with key `<name>/spec`, or a status with key `<name>/status`.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterEntry {
    /// The specification.
    Spec(Box<StoredRegistration>),
    /// The last observed status.
    Status {
        /// The cluster.
        cluster: ClusterName,
        /// The value that [`Store::put_status`] was given.
        status: Value,
    },
}

/// The value of a cluster's status key.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredStatus {
    pub(super) status: Value,
}

impl NewCluster {
    pub(super) fn stored(&self, api_server: String, kubeconfig: Option<Sealed>) -> StoredRegistration {
        StoredRegistration {
            spec: self.spec.clone(),
            api_server,
            kubeconfig,
            cluster_uid: self.cluster_uid.clone(),
        }
    }
}

impl Registration {
    /// Whether it may be the same cluster as another registration of the name.
    pub fn is_of_same_cluster(&self, other: &Self) -> bool {
        let (one, other) = (&self.cluster_uid, &other.cluster_uid);
        one.is_empty() || other.is_empty() || one == other
    }
}

impl StoredRegistration {
    /// Unseals the login. `version` is that of the item.
    pub fn open(&self, sealer: &Sealer, version: i64) -> Result<Registration> {
        let name = &self.spec.name;
        let open = |sealed: &Sealed| sealer.open(&purpose(name), sealed);
        let kubeconfig = self
            .kubeconfig
            .as_ref()
            .map(open)
            .transpose()
            .map_err(|source| Error::Seal { key: format!("clusters/{name}/spec"), source })?;
        Ok(Registration {
            spec: self.spec.clone(),
            api_server: self.api_server.clone(),
            kubeconfig,
            cluster_uid: self.cluster_uid.clone(),
            version,
        })
    }
}

impl sealed::Sealed for ClusterEntry {}

impl Mirrored for ClusterEntry {
    fn decode(key: &str, value: &[u8]) -> Result<Self> {
        let malformed = |reason: String| Error::Malformed { key: format!("clusters/{key}"), reason };
        let (name, part) = key.split_once('/').ok_or_else(|| malformed("no such key is known".to_owned()))?;
        let cluster: ClusterName = name.parse().map_err(|error| malformed(format!("{error}")))?;
        match part {
            "spec" => {
                let stored: StoredRegistration = decode(&format!("clusters/{key}"), value)?;
                if stored.spec.name != cluster {
                    return Err(malformed(format!("it is the registration of cluster {}", stored.spec.name)));
                }
                if stored.kubeconfig.is_some() == stored.spec.kubeconfig_secret.is_some() {
                    return Err(malformed(
                        "it has not exactly one kubeconfig, sealed or in a Secret".to_owned(),
                    ));
                }
                Ok(Self::Spec(Box::new(stored)))
            }
            "status" => {
                let StoredStatus { status } = decode(&format!("clusters/{key}"), value)?;
                Ok(Self::Status { cluster, status })
            }
            _ => Err(malformed("no such key is known".to_owned())),
        }
    }
}

pub(super) fn seal_some(
    sealer: &Sealer,
    key: &str,
    name: &ClusterName,
    kubeconfig: Option<&Secret<Vec<u8>>>,
) -> Result<Option<Sealed>> {
    kubeconfig.map(|kubeconfig| seal(sealer, key, name, kubeconfig)).transpose()
}

fn seal(sealer: &Sealer, key: &str, name: &ClusterName, kubeconfig: &Secret<Vec<u8>>) -> Result<Sealed> {
    sealer
        .seal(&purpose(name), kubeconfig.expose())
        .map_err(|source| Error::Seal { key: key.to_owned(), source })
}

fn purpose(name: &ClusterName) -> String {
    format!("kubeconfig of cluster {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SealingKey, value::encode};

    #[test]
    fn a_registration_under_another_clusters_key_is_refused() {
        let sealer = Sealer::new(vec![SealingKey { id: "a".to_owned(), secret: vec![1; 32].into() }]);
        let spec: ClusterSpec = serde_json::from_value(serde_json::json!({
            "name": "eu", "region": "europe", "weight": 1, "maxWeight": 100,
            "namespaces": [{"namespace": "a", "secretsNamespace": "b"}],
        }))
        .unwrap();
        let kubeconfig = Some(sealer.unwrap().seal("x", b"hunter2").unwrap());
        let stored = StoredRegistration {
            spec,
            api_server: "https://eu:443".to_owned(),
            kubeconfig,
            cluster_uid: String::new(),
        };
        let bytes = encode("k", &stored).unwrap();
        assert!(matches!(ClusterEntry::decode("eu/spec", &bytes), Ok(ClusterEntry::Spec(_))));
        assert!(matches!(ClusterEntry::decode("us/spec", &bytes), Err(Error::Malformed { .. })));
        assert!(matches!(ClusterEntry::decode("eu/else", &bytes), Err(Error::Malformed { .. })));
    }
}
