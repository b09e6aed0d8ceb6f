//! Reads of clients: workspaces where their records say that they are.
//!
//! A read of many records holds the lock for [`LOOK`] of them at a time, so that a change waits for no
//! more. The answer is consistent for each workspace, and not for all together, as the pages of a
//! Kubernetes list are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use super::state::{Index, Inner, LOOK, Versioned, key_of};
use crate::view::events::Filter;
use crate::view::seen::Seen;
use domain::names::{ClusterName, MetaId, Namespace, OwnerId, WorkspaceId};
use domain::record::PlacementRecord;
use domain::workspace::Phase;

impl Index {
    /// A workspace, where its record says that it is.
    pub fn get(&self, id: &WorkspaceId) -> Option<Seen> {
        let inner = self.inner.read();
        let (record, _) = inner.records.get(id)?;
        inner.visible(&key_of(record))
    }

    /// The first `limit` workspaces asked for whose id comes after the one given, sorted by id.
    pub fn list(&self, filter: &Filter, after: &str, limit: usize) -> Vec<Seen> {
        let mut page = Vec::new();
        self.each_record(after, |inner, (record, _)| {
            if page.len() >= limit {
                return ControlFlow::Break(());
            }
            let key = key_of(record);
            let resource = inner.resources.get(&key).filter(|resource| filter.matches(&resource.view));
            page.extend(resource.and_then(|resource| inner.visible_as(&key, resource)));
            ControlFlow::Continue(())
        });
        page
    }

    /// Reads the records whose id comes after the one given, by id, until `read` breaks off.
    pub(super) fn each_record(
        &self,
        after: &str,
        mut read: impl FnMut(&Inner, &Versioned) -> ControlFlow<()>,
    ) {
        let mut after: std::borrow::Cow<'_, str> = after.into();
        loop {
            let inner = self.inner.read();
            let rest = inner.records.range::<str, _>((Bound::Excluded(&*after), Bound::Unbounded));
            let mut last = None;
            for (number, (id, record)) in rest.take(LOOK).enumerate() {
                if read(&inner, record).is_break() {
                    return;
                }
                last = (number == LOOK - 1).then(|| id.to_string());
            }
            drop(inner);
            match last {
                Some(last) => after = last.into(),
                None => return,
            }
        }
    }

    /// Reads the live records of a cluster, by id.
    pub(super) fn each_placed<T>(
        &self,
        cluster: &ClusterName,
        read: impl Fn(&Inner, &PlacementRecord) -> Option<T>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for ids in self.placed_on(cluster).chunks(LOOK) {
            let inner = self.inner.read();
            let records = ids.iter().filter_map(|id| Some(&inner.records.get(id)?.0));
            let here = records.filter(|record| record.is_live() && record.cluster == *cluster);
            all.extend(here.filter_map(|record| read(&inner, record)));
        }
        all
    }

    /// Live records.
    pub fn live_records(&self) -> Vec<Versioned> {
        let mut live = Vec::new();
        self.each_record("", |_, versioned| {
            live.extend(Some(versioned).filter(|(record, _)| record.is_live()).cloned());
            ControlFlow::Continue(())
        });
        live
    }

    /// Whether somebody else than this owner has live records.
    pub fn has_other_owner(&self, owner: &OwnerId) -> bool {
        let mut found = false;
        self.each_record("", |_, (record, _)| {
            found = record.is_live() && record.owner != *owner;
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// Live records that do not say whose ports' URLs theirs are, with their meta ids.
    pub fn unnoted(&self) -> Vec<(WorkspaceId, MetaId)> {
        self.inner.read().unnoted.iter().map(|(id, meta)| (id.clone(), meta.clone())).collect()
    }

    /// Ids whose live record names a namespace of a cluster.
    pub fn placed_in(&self, cluster: &ClusterName, namespace: &Namespace) -> Vec<WorkspaceId> {
        self.each_placed(cluster, |_, record| {
            (record.namespace == *namespace).then(|| record.workspace.clone())
        })
    }

    /// How many live records a cluster has.
    pub fn count_on(&self, cluster: &ClusterName) -> usize {
        self.inner.read().live_by_cluster.get(cluster).map_or(0, BTreeSet::len)
    }

    /// How many live records name each cluster, registered or not.
    pub fn placed(&self) -> BTreeMap<ClusterName, usize> {
        let inner = self.inner.read();
        let counts = inner.live_by_cluster.iter().map(|(name, ids)| (name.clone(), ids.len()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How many workspaces of each cluster are in each phase. One that is not where its record says does not count.
    pub fn phases(&self) -> BTreeMap<ClusterName, BTreeMap<Phase, usize>> {
        let mut phases: BTreeMap<ClusterName, BTreeMap<Phase, usize>> = BTreeMap::new();
        self.each_record("", |inner, (record, _)| {
            let key = key_of(record);
            let here = inner.resources.get(&key).filter(|one| inner.generation_at(&key, one).is_some());
            if let Some(resource) = here {
                *phases.entry(key.1).or_default().entry(resource.view.phase).or_default() += 1;
            }
            ControlFlow::Continue(())
        });
        phases
    }
}
