//! Re-encrypts stored secrets with the current sealing key, so that an old key can be removed from the configuration.

use etcd_client::{GetOptions, TxnOp};

use super::{
    Result, Store,
    guard::{first, is_at},
    installation,
    list_watch::{Entry, list_all},
    mirrored::Mirrored,
    registration::{ClusterEntry, StoredRegistration, seal_some},
    seal::Sealer,
    term::Term,
    value::{decode, encode},
};

const DOING: &str = "reseal secrets";

impl Store {
    /// Reseals kubeconfigs and the installation's secret that were not sealed with the first key. Returns the changed etcd keys; one
    /// that cannot be opened, or that changes concurrently, is an error in the list.
    pub async fn reseal(&self, term: &Term, sealer: &Sealer) -> Result<Vec<Result<String>>> {
        let mut done = Vec::new();
        done.extend(self.reseal_installation(term, sealer).await.transpose());
        let (entries, _, _) = list_all(self, &self.keys().clusters()).await?;
        for entry in entries {
            // A value that cannot be read is reported where it is used.
            let Ok(ClusterEntry::Spec(stored)) = ClusterEntry::decode(&entry.key, &entry.value) else {
                continue;
            };
            if stored.kubeconfig.as_ref().is_some_and(|sealed| !sealer.is_current(sealed)) {
                done.push(self.reseal_cluster(term, sealer, &entry, *stored).await);
            }
        }
        Ok(done)
    }

    async fn reseal_cluster(
        &self,
        term: &Term,
        sealer: &Sealer,
        entry: &Entry,
        stored: StoredRegistration,
    ) -> Result<String> {
        let (name, version) = (stored.spec.name.clone(), entry.version);
        let key = self.keys().cluster_spec(&name);
        let plain = stored.open(sealer, version)?.kubeconfig;
        let kubeconfig = seal_some(sealer, &key, &name, plain.as_ref())?;
        let value = encode(&key, &StoredRegistration { kubeconfig, ..stored })?;
        self.replace_at(term, key, version, value).await
    }

    async fn reseal_installation(&self, term: &Term, sealer: &Sealer) -> Result<Option<String>> {
        let key = self.keys().installation();
        let Some(found) = first(&self.get(DOING, key.clone(), GetOptions::new()).await?) else {
            return Ok(None);
        };
        let stored: installation::Value = decode(&key, found.value())?;
        let Some(value) = stored.resealed(&key, sealer)? else { return Ok(None) };
        let value = encode(&key, &value)?;
        self.replace_at(term, key, found.mod_revision(), value).await.map(Some)
    }

    async fn replace_at(&self, term: &Term, key: String, version: i64, value: Vec<u8>) -> Result<String> {
        let put = TxnOp::put(key.as_str(), value, None);
        self.guarded_change(term, DOING, &key, vec![is_at(&key, version)], vec![put]).await?;
        Ok(key)
    }
}
