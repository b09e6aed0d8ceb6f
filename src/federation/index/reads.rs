//! What clients ask for: workspaces where their records say that they are.

use super::{Index, Seen, key_of};
use crate::domain::names::{ClusterName, WorkspaceId};
use crate::domain::workspace::View;
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

    /// Looks at every workspace that is where its record says.
    pub fn for_each(&self, mut look: impl FnMut(&ClusterName, &View)) {
        let inner = self.inner.read();
        for (key, resource) in &inner.resources {
            if inner.generation_at(key, resource).is_some() {
                look(&key.1, &resource.view);
            }
        }
    }
}
