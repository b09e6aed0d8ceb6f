//! Deregistering a member cluster.

use std::sync::Arc;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::locks::{PATIENCE, RegistryLock};
use crate::view::index::Index;
use crate::{Error, Result};
use domain::names::ClusterName;
use store::{Store, Term};

/// Takes member clusters out.
pub struct Deregistration {
    leadership: Arc<Leadership>,
    store: Store,
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    registry: Arc<RegistryLock>,
}

impl Deregistration {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        store: Store,
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        registry: Arc<RegistryLock>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, store, fleet, index, registry })
    }

    /// Takes a cluster out. Without `force` only where no live workspace is placed there.
    pub async fn deregister(&self, name: &ClusterName, force: bool) -> Result<()> {
        let term = self.leadership.term()?;
        let _alone = self.registry.write(PATIENCE).await?;
        let version = self.fleet.version(name).ok_or_else(|| Error::NoCluster(name.clone()))?;
        let mut workspaces = self.index.placed_on(name);
        if !workspaces.is_empty() && !force {
            workspaces.sort();
            return Err(Error::NotEmpty { cluster: name.clone(), workspaces });
        }
        if workspaces.is_empty() {
            self.store.delete_cluster(&term, name, version).await?;
        } else {
            self.store.leave_cluster(&term, name, version, Timestamp::now()).await?;
        }
        self.fleet.remove(name, version);
        tracing::info!(cluster = %name, left = workspaces.len(), force, "deregistered");
        Ok(())
    }

    /// Forgets which clusters names stood for that no live record has any more.
    pub(crate) async fn sweep_departures(&self, term: &Term) -> Result<()> {
        for name in self.store.former_clusters().await?.into_keys() {
            let _alone = self.registry.write(PATIENCE).await?;
            if self.index.count_on(&name) == 0 && self.fleet.version(&name).is_none() {
                self.store.remove_former_cluster(term, &name).await?;
            }
        }
        Ok(())
    }
}
