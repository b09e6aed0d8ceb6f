//! Sealing anew with the key that seals now, so that an old key can leave the configuration.

use etcd_client::{GetOptions, TxnOp};

use super::{
    Result, Store, clusters,
    clusters::{ClusterEntry, StoredRegistration},
    follow::{Entry, list_all},
    guard::{first, is_at},
    installation,
    mirror::Mirrored,
    seal::Sealer,
    term::Term,
    value::{decode, encode},
};

const DOING: &str = "seal anew";

impl Store {
    /// Seals anew what another key than the first sealed: kubeconfigs and the installation's secret. Answers the keys of etcd
    /// that were changed; one that cannot be opened, or that somebody changes meanwhile, is an error beside the others.
    pub async fn seal_anew(&self, term: &Term, sealer: &Sealer) -> Result<Vec<Result<String>>> {
        let mut done = Vec::new();
        done.extend(self.seal_installation_anew(term, sealer).await.transpose());
        let (entries, _, _) = list_all(self, &self.keys().clusters()).await?;
        for entry in entries {
            // One that cannot be read is told of by whoever needs it.
            let Ok(ClusterEntry::Spec(stored)) = ClusterEntry::decode(&entry.key, &entry.value) else {
                continue;
            };
            if stored.kubeconfig.as_ref().is_some_and(|sealed| !sealer.is_current(sealed)) {
                done.push(self.seal_cluster_anew(term, sealer, &entry, *stored).await);
            }
        }
        Ok(done)
    }

    async fn seal_cluster_anew(
        &self,
        term: &Term,
        sealer: &Sealer,
        entry: &Entry,
        stored: StoredRegistration,
    ) -> Result<String> {
        let (name, version) = (stored.spec.name.clone(), entry.version);
        let key = self.keys().cluster_spec(&name);
        let plain = stored.open(sealer, version)?.kubeconfig;
        let kubeconfig = clusters::seal_some(sealer, &key, &name, plain.as_ref())?;
        let value = encode(&key, &StoredRegistration { kubeconfig, ..stored })?;
        self.replace_at(term, key, version, value).await
    }

    async fn seal_installation_anew(&self, term: &Term, sealer: &Sealer) -> Result<Option<String>> {
        let key = self.keys().installation();
        let Some(found) = first(&self.get(DOING, key.clone(), GetOptions::new()).await?) else {
            return Ok(None);
        };
        let stored: installation::Value = decode(&key, found.value())?;
        let Some(value) = stored.sealed_anew(&key, sealer)? else { return Ok(None) };
        let value = encode(&key, &value)?;
        self.replace_at(term, key, found.mod_revision(), value).await.map(Some)
    }

    async fn replace_at(&self, term: &Term, key: String, version: i64, value: Vec<u8>) -> Result<String> {
        let put = TxnOp::put(key.as_str(), value, None);
        self.guarded_change(term, DOING, &key, vec![is_at(&key, version)], vec![put]).await?;
        Ok(key)
    }
}
