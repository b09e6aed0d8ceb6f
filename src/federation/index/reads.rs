//! What clients ask for: workspaces where their records say that they are.

use std::collections::BTreeMap;

use super::{Index, Seen, key_of};
use crate::domain::names::{ClusterName, WorkspaceId};
use crate::domain::workspace::Phase;
use crate::federation::events::Filter;

impl Index {
    /// A workspace, where its record says that it is.
    pub fn get(&self, id: &WorkspaceId) -> Option<Seen> {
        let inner = self.inner.read();
        let (record, _) = inner.records.get(id)?;
        inner.visible(&key_of(record))
    }

    /// The first `limit` workspaces asked for whose id comes after the one given, sorted by id.
    pub fn list(&self, filter: &Filter, after: &str, limit: usize) -> Vec<Seen> {
        let inner = self.inner.read();
        let rest = inner.resources.iter().skip_while(|((id, ..), _)| id.as_str() <= after);
        let asked = rest.filter(|(_, resource)| filter.matches(&resource.view));
        asked.filter_map(|(key, resource)| inner.visible_as(key, resource)).take(limit).collect()
    }

    /// How many live records name each cluster, registered or not.
    pub fn placed(&self) -> BTreeMap<ClusterName, usize> {
        let inner = self.inner.read();
        let counts = inner.live_by_cluster.iter().map(|(name, ids)| (name.clone(), ids.len()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How many workspaces of each cluster are in each phase. One that is not where its record says does not count.
    pub fn phases(&self) -> BTreeMap<ClusterName, BTreeMap<Phase, usize>> {
        let inner = self.inner.read();
        let mut phases: BTreeMap<ClusterName, BTreeMap<Phase, usize>> = BTreeMap::new();
        for (key, resource) in &inner.resources {
            if inner.generation_at(key, resource).is_none() {
                continue;
            }
            // Names are cloned once a cluster, not once a workspace.
            if !phases.contains_key(&key.1) {
                phases.insert(key.1.clone(), BTreeMap::new());
            }
            if let Some(of_cluster) = phases.get_mut(&key.1) {
                *of_cluster.entry(resource.view.phase).or_default() += 1;
            }
        }
        phases
    }
}
