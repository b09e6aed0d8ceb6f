//! Compares a cluster with the placement records, by the apiserver's own lists. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;

use crate::fleet::{Connected, Fleet};
use crate::locks::turn;
use crate::view::index::Index;
use crate::{Error, Result};
use domain::diff::{Found, LeftPod, Row, Standing, compare, left};
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::pod::PodFacts;
use domain::record::PlacementRecord;
use k8s::convert;
use k8s::resources::Workspace;
use store::Store;

/// For a cluster to name all that it holds.
const WITHIN: Duration = Duration::from_secs(25);
/// Workspaces asked for at once.
const AT_ONCE: usize = 8;

/// A comparison.
#[derive(Debug, Clone)]
pub struct Diff {
    /// Whether the cluster is registered; where it is not, the rows are only what was left there.
    pub registered: bool,
    /// By namespace and id.
    pub rows: Vec<Row>,
}

/// Compares clusters with the placement records.
pub struct Comparison {
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    store: Store,
    /// This installation's id.
    installation: Arc<str>,
}

impl Comparison {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        store: Store,
        installation: Arc<str>,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, index, store, installation })
    }

    /// Compares a cluster with the records; for one that is not registered, returns what was left there.
    pub async fn diff(&self, name: &ClusterName) -> Result<Diff> {
        if let Some(connected) = self.fleet.get(name) {
            let mut rows = self.compared(&connected).await?;
            rows.extend(self.pods_left(&connected, &rows));
            return Ok(Diff { registered: true, rows });
        }
        let rows = left(&self.index.records_of(name));
        if self.fleet.version(name).is_some() || rows.is_empty() {
            return Err(self
                .fleet
                .usable(name)
                .err()
                .unwrap_or_else(|| Error::Contended { what: format!("cluster {name}") }));
        }
        Ok(Diff { registered: false, rows })
    }

    /// The records are read after the list: a resource without one never had one, since the record comes first.
    pub(crate) async fn compared(&self, connected: &Connected) -> Result<Vec<Row>> {
        let listing = self.found_in(connected);
        let mut found = turn("listing the cluster's workspaces", WITHIN, listing).await??;
        let cluster = connected.member.name();
        // Where etcd does not answer, its former names are left out, and their workspaces count as recorded elsewhere.
        let formerly = self.formerly(connected).await.unwrap_or_else(|error| {
            tracing::warn!(%cluster, %error, "cannot read under which names the cluster was registered");
            BTreeSet::new()
        });
        let mut records: BTreeMap<WorkspaceId, PlacementRecord> = BTreeMap::new();
        for name in formerly.iter().chain([cluster]) {
            let of_name = self.index.records_of(name).into_iter();
            records.extend(of_name.map(|record| (record.workspace.clone(), record)));
        }
        for one in &found {
            let other = one.name.parse().ok().and_then(|id| self.index.record_of(&id));
            records.extend(other.map(|(record, _)| (record.workspace.clone(), record)));
        }
        found.extend(self.made_since(connected, &records, &found));
        let records: Vec<PlacementRecord> = records.into_values().collect();
        Ok(compare(cluster, &formerly, &records, found))
    }

    async fn found_in(&self, connected: &Connected) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        let installation = &*self.installation;
        for namespace in connected.places().keys() {
            let reader = connected.member.idle_writer(namespace);
            let show = |workspace| all.extend(convert::found(&workspace, installation));
            reader.each_workspace(show).await?;
        }
        Ok(all)
    }

    /// Pods that finalizers of others hold though their workspaces are gone, as they are watched. They hold nothing else:
    /// no meta id, and no capacity that the scheduler counts.
    fn pods_left(&self, connected: &Connected, rows: &[Row]) -> Vec<Row> {
        let is_there = |namespace: &Namespace, workspace: &str| {
            let here = |row: &&Row| row.found.is_some() && row.namespace == *namespace;
            rows.iter().filter(here).any(|row| row.workspace == workspace)
        };
        let places = connected.places();
        let left = places.iter().flat_map(|(namespace, place)| {
            place.cache.pods_left().into_iter().map(move |pod| (namespace, pod))
        });
        let left = left.filter(|(namespace, pod)| !is_there(namespace, &pod.workspace));
        left.map(|(namespace, pod)| self.left_pod(namespace, &pod)).collect()
    }

    fn left_pod(&self, namespace: &Namespace, pod: &PodFacts) -> Row {
        let record = pod.workspace.parse().ok().and_then(|id| self.index.record_of(&id));
        let (meta, owner) =
            record.map(|(record, _)| (record.meta.to_string(), record.owner.to_string())).unwrap_or_default();
        Row {
            workspace: pod.workspace.clone(),
            namespace: namespace.clone(),
            standing: Standing::PodLeft(LeftPod { pod: pod.name.clone(), held_by: pod.held_by.clone() }),
            meta,
            owner,
            found: None,
            at: pod.deleting_since,
        }
    }

    /// Recorded workspaces that came after the list.
    fn made_since(
        &self,
        connected: &Connected,
        records: &BTreeMap<WorkspaceId, PlacementRecord>,
        found: &[Found],
    ) -> Vec<Found> {
        let installation = &*self.installation;
        let listed: std::collections::HashSet<(&str, &str)> =
            found.iter().map(|one| (one.namespace.as_str(), one.name.as_str())).collect();
        let here = records.values().filter(|record| record.cluster == *connected.member.name());
        let unlisted =
            here.filter(|record| !listed.contains(&(record.namespace.as_str(), record.workspace.as_str())));
        let cached = |record: &PlacementRecord| {
            let place = connected.places().get(&record.namespace)?;
            convert::found(&*place.cache.get(record.workspace.as_str())?, installation)
        };
        unlisted.filter_map(cached).collect()
    }

    /// Named workspaces, each as it stands in each namespace where it is; one that is nowhere has a row of its own.
    pub(crate) async fn compared_of(&self, connected: &Connected, ids: &[WorkspaceId]) -> Result<Vec<Row>> {
        let ids: BTreeSet<&WorkspaceId> = ids.iter().collect();
        let formerly = self.formerly(connected).await?;
        let look = async |id: &WorkspaceId| {
            let mut rows = Vec::new();
            for namespace in connected.places().keys() {
                let reader = connected.member.idle_writer(namespace);
                if let Some(workspace) = reader.get_workspace(id.as_str()).await? {
                    rows.extend(self.row_of(connected, &formerly, id, &workspace));
                }
            }
            if rows.is_empty() {
                let records: Vec<PlacementRecord> =
                    self.index.record_of(id).map(|(record, _)| record).into_iter().collect();
                rows = compare(connected.member.name(), &formerly, &records, Vec::new());
            }
            if rows.is_empty() {
                rows.extend(connected.places().keys().next().map(|namespace| nowhere(id, namespace)));
            }
            Ok::<Vec<Row>, Error>(rows)
        };
        let looks = futures::stream::iter(ids).map(look).buffered(AT_ONCE);
        let all: Vec<Result<Vec<Row>>> = looks.collect().await;
        Ok(all.into_iter().collect::<Result<Vec<Vec<Row>>>>()?.into_iter().flatten().collect())
    }

    /// How a resource stands now.
    pub(crate) fn row_of(
        &self,
        connected: &Connected,
        formerly: &BTreeSet<ClusterName>,
        id: &WorkspaceId,
        workspace: &Workspace,
    ) -> Option<Row> {
        let found = convert::found(workspace, &self.installation)?;
        let record: Vec<PlacementRecord> =
            self.index.record_of(id).map(|(record, _)| record).into_iter().collect();
        let mut rows = compare(connected.member.name(), formerly, &record, vec![found]);
        rows.retain(|row| row.found.is_some());
        rows.pop()
    }

    /// Names that the cluster had before and that are not registered now: workspaces were placed there when it was taken
    /// out under them. Empty where it is not known which cluster it is.
    pub(crate) async fn formerly(&self, connected: &Connected) -> Result<BTreeSet<ClusterName>> {
        let in_use = connected.in_use();
        let uid = &in_use.cluster_uid;
        if uid.is_empty() {
            return Ok(BTreeSet::new());
        }
        let departures = self.store.former_clusters().await?.into_iter();
        let same =
            departures.filter(|(name, one)| one.cluster_uid == *uid && self.fleet.version(name).is_none());
        Ok(same.map(|(name, _)| name).collect())
    }

    /// This installation's id.
    pub(crate) fn installation(&self) -> &str {
        &self.installation
    }
}

fn nowhere(id: &WorkspaceId, namespace: &Namespace) -> Row {
    Row {
        workspace: id.to_string(),
        namespace: namespace.clone(),
        standing: Standing::Finished,
        meta: String::new(),
        owner: String::new(),
        found: None,
        at: None,
    }
}
