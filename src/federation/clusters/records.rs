//! Registrations in etcd. Kubeconfigs that are stored there are sealed.

use std::sync::Arc;

use crate::Result;
use domain::cluster::ClusterSpec;
use store::{self, NewCluster, Sealer, Store, Term};

/// Registrations of clusters, changed on condition of their version.
pub(crate) struct ClusterRecords {
    store: Store,
    sealer: Arc<Sealer>,
}

impl ClusterRecords {
    /// Registrations in `store`.
    pub(crate) fn new(store: Store, sealer: Arc<Sealer>) -> Arc<Self> {
        Arc::new(Self { store, sealer })
    }

    /// Registers a cluster; the registration's version.
    pub(super) async fn create(&self, term: &Term, new: &NewCluster) -> Result<i64> {
        Ok(self.store.create_cluster(term, &self.sealer, new).await?)
    }

    /// Changes a registration with its login.
    pub(super) async fn replace(&self, term: &Term, version: i64, new: &NewCluster) -> Result<i64> {
        Ok(self.store.replace_cluster(term, &self.sealer, version, new).await?)
    }

    /// Changes what is wanted of a cluster.
    pub(super) async fn update(&self, term: &Term, version: i64, spec: &ClusterSpec) -> store::Result<i64> {
        self.store.update_cluster(term, version, spec).await
    }
}
