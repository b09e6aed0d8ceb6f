//! Whether a name is free for a cluster. After a cluster was deregistered with force, workspaces stay
//! recorded under its name; another cluster of that name would seem to have lost them all.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::clusters::verify::{Unheard, VERIFY_WITHIN};
use crate::locks::turn;
use crate::view::index::Index;
use crate::{Error, Result};
use domain::cluster::ClusterSpec;
use domain::names::Namespace;
use domain::record::PlacementRecord;
use k8s::convert;
use member::client::{Credentials, Limits, connect};
use onboarding::recognise::has_workspace;
use store::Store;

/// Names of clusters, and the workspaces recorded under them.
pub(crate) struct Names {
    index: Arc<Index>,
    store: Store,
}

impl Names {
    pub(crate) fn new(index: Arc<Index>, store: Store) -> Arc<Self> {
        Arc::new(Self { index, store })
    }

    /// Refuses a name under which workspaces are recorded, unless the cluster is the one that was taken out. Where its uid was
    /// not noted then, or may not be read now, one of these workspaces must be there.
    pub(super) async fn check_free(&self, spec: &ClusterSpec, uid: &str, kubeconfig: &str) -> Result<()> {
        let records = self.index.records_of(&spec.name).into_iter();
        let records: Vec<PlacementRecord> = records.filter(PlacementRecord::is_live).collect();
        if records.is_empty() {
            return Ok(());
        }
        let departure = self.store.former_clusters().await?.remove(&spec.name);
        let was = departure.map(|departure| departure.cluster_uid).unwrap_or_default();
        let known = !was.is_empty() && !uid.is_empty();
        let same = if known { was == uid } else { self.holds_one_of(spec, kubeconfig, &records).await? };
        if same {
            return Ok(());
        }
        let mut workspaces: Vec<_> = records.into_iter().map(|record| record.workspace).collect();
        workspaces.sort();
        Err(Error::NameInUse { cluster: spec.name.clone(), known, workspaces })
    }

    /// Whether the apiserver has a resource of a start that is recorded under the cluster's name.
    async fn holds_one_of(
        &self,
        spec: &ClusterSpec,
        kubeconfig: &str,
        records: &[PlacementRecord],
    ) -> Result<bool> {
        let credentials = Credentials::parse(&spec.name, kubeconfig)?;
        let identity = member::reader(spec);
        let client = connect(&spec.name, &credentials, &Limits::default(), identity, Arc::new(Unheard))?;
        let namespaces: Vec<Namespace> = spec.namespaces.iter().map(|one| one.namespace.clone()).collect();
        let by_id: HashMap<&str, &PlacementRecord> =
            records.iter().map(|record| (record.workspace.as_str(), record)).collect();
        let is_one = |namespace: &Namespace, meta: &ObjectMeta| {
            let record = meta.name.as_deref().and_then(|name| by_id.get(name));
            record.is_some_and(|record| {
                record.namespace == *namespace
                    && record.takes(convert::digest(meta), convert::generation(meta))
            })
        };
        let looking = has_workspace(&spec.name, &client, &namespaces, is_one);
        Ok(turn("looking for workspaces there", VERIFY_WITHIN, looking).await??)
    }
}
