//! Sessions with clusters: a report counts only over the connection that is in use.
//!
//! *Flow.* The fleet opens a session with each connection, and every report about the cluster names it. A
//! new session replaces the one before, whose late reports are ignored. What the old session reported is
//! kept until the new one has listed the namespace: a workspace that the list does not contain has ended
//! meanwhile, and subscribers get its end. A cluster without a session is unreachable; its workspaces stay
//! as they were last seen.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::state::{ClusterFacts, Current, Index, Inner, Key, Resource, Session};
use domain::names::{ClusterName, Namespace, WorkspaceId};

impl Index {
    /// Opens the session of a connection that serves these namespaces. What is known of other namespaces of the cluster
    /// is forgotten; no end is announced for it: it may run on.
    pub fn connect(&self, cluster: &ClusterName, namespaces: BTreeSet<Namespace>) -> Session {
        self.change(|inner| {
            inner.last_session += 1;
            let number = inner.last_session;
            for key in inner.keys_of(cluster, |namespace, _| !namespaces.contains(namespace)) {
                inner.forget(&key);
            }
            // The controllers that reported them are gone with their connection.
            inner.obstacles.retain(|(_, at, _), _| at != cluster);
            inner.sessions.insert(cluster.clone(), Current { number, unlisted: namespaces });
            Session { cluster: cluster.clone(), number }
        })
    }

    /// Takes that a registered cluster has no connection any more: it is unreachable. `last_answer`: when it last answered,
    /// where that is known better than before.
    pub fn disconnected(&self, cluster: &ClusterName, last_answer: Option<Timestamp>) {
        self.know(cluster, |inner| {
            inner.sessions.remove(cluster);
            let facts = inner.clusters.get(cluster)?.clone();
            let last_answer = last_answer.or(facts.last_answer);
            Some(ClusterFacts { reachable: false, last_answer, ..facts })
        });
    }

    /// Takes that everything of a namespace was listed over a session: what an earlier session reported and this one did
    /// not has ended. From then on the namespace's states are those of after the cluster's last restore.
    pub fn listed(&self, session: &Session, namespace: &Namespace) {
        self.change(|inner| {
            let Some(current) = inner.current(session) else { return };
            if current.unlisted.remove(namespace) {
                let is_gone =
                    |at: &Namespace, last: &Resource| at == namespace && last.session != session.number;
                for key in inner.keys_of(&session.cluster, is_gone) {
                    self.end_unseen(inner, &key);
                }
            }
            if !inner.rewound.contains(&session.cluster) {
                self.restamp(inner, &session.cluster, namespace);
            }
        });
    }

    /// Takes that a resource is there and cannot be read: what was last read of it holds.
    pub fn unreadable(&self, session: &Session, namespace: &Namespace, id: &WorkspaceId) {
        self.change(|inner| {
            let key = (id.clone(), session.cluster.clone(), namespace.clone());
            if inner.is_current(session)
                && let Some(resource) = inner.resources.get_mut(&key)
            {
                resource.session = session.number;
            }
        });
    }

    /// Announces the end of a workspace that nobody here saw end, in the words of its record where it has any.
    pub(super) fn end_unseen(&self, inner: &mut Inner, key: &Key) {
        let ending = inner.records.get(&key.0).and_then(|(record, _)| record.ending.as_ref());
        let message = ending.map(|ending| ending.message.clone()).filter(|message| !message.is_empty());
        let message = message.unwrap_or_else(|| {
            format!("It ended while this manager had no connection to cluster {}.", key.1)
        });
        self.end(inner, key, message);
    }
}

#[cfg(test)]
impl Index {
    pub(crate) fn session_of(&self, cluster: &ClusterName) -> Option<Session> {
        let number = self.inner.read().sessions.get(cluster)?.number;
        Some(Session { cluster: cluster.clone(), number })
    }
}

impl Inner {
    fn current(&mut self, session: &Session) -> Option<&mut Current> {
        self.sessions.get_mut(&session.cluster).filter(|current| current.number == session.number)
    }

    /// Whether a session is in use.
    pub(super) fn is_current(&self, session: &Session) -> bool {
        self.sessions.get(&session.cluster).is_some_and(|current| current.number == session.number)
    }

    /// Resources of a cluster, by their namespace and what is known of them.
    pub(super) fn keys_of(
        &self,
        cluster: &ClusterName,
        is_wanted: impl Fn(&Namespace, &Resource) -> bool,
    ) -> Vec<Key> {
        let here = self.resources.iter().filter(|((_, at, _), _)| at == cluster);
        let wanted = here.filter(|((_, _, namespace), resource)| is_wanted(namespace, resource));
        wanted.map(|(key, _)| key.clone()).collect()
    }

    /// Removes a resource without a word: it may run on.
    pub(super) fn forget(&mut self, key: &Key) {
        self.take_resource(key);
        self.obstacles.remove(key);
        self.parked.remove(key);
        self.note_stray(key);
    }
}
