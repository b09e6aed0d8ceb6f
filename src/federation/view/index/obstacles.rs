//! Why the leader cannot write what it decided about a workspace: the resource cannot say it, so it is shown beside it.
//!
//! It changes what is shown under a version, as the reachability of the cluster does.

use std::sync::Arc;

use super::state::{Index, Inner, Key, Session};
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::workspace::View;

impl Index {
    /// Takes why a workspace cannot be written, in a sentence, or that it can be again.
    pub fn obstacle(&self, session: &Session, namespace: &Namespace, id: &WorkspaceId, why: Option<&str>) {
        self.change(|inner| {
            if !inner.is_current(session) {
                return;
            }
            let key = (id.clone(), session.cluster().clone(), namespace.clone());
            let before = match why {
                Some(why) => inner.obstacles.insert(key.clone(), why.into()),
                None => inner.obstacles.remove(&key),
            };
            if before.as_deref() != why {
                self.announce(inner, &key);
            }
        });
    }
}

impl Inner {
    pub(super) fn obstacle(&self, cluster: &ClusterName, view: &View) -> Option<Arc<str>> {
        if self.obstacles.is_empty() {
            return None;
        }
        let key: Key = (view.id.clone(), cluster.clone(), view.namespace.clone());
        self.obstacles.get(&key).cloned()
    }
}
