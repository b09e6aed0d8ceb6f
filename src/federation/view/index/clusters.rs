//! Facts about clusters.

use super::state::{ClusterFacts, Index, Inner, Session};
use domain::names::ClusterName;

impl Index {
    /// Takes what is known of a cluster. Its workspaces are announced again where it became reachable or was lost.
    pub fn cluster(&self, session: &Session, facts: ClusterFacts) {
        self.know(session.cluster(), |inner| inner.is_current(session).then_some(facts));
    }

    pub(super) fn know(&self, name: &ClusterName, facts: impl FnOnce(&mut Inner) -> Option<ClusterFacts>) {
        let is_news = self.change(|inner| {
            let Some(facts) = facts(inner) else { return false };
            let (reachable, region) = (facts.reachable, facts.region.clone());
            let before = inner.clusters.insert(name.clone(), facts);
            before.is_some_and(|before| before.reachable != reachable || before.region != region)
        });
        if is_news {
            self.announce_all(name);
        }
    }

    /// Forgets a cluster and its resources; its records stay. No end is announced: the workspaces may run on.
    pub fn cluster_gone(&self, name: &ClusterName) {
        self.change(|inner| {
            inner.sessions.remove(name);
            inner.clusters.remove(name);
            inner.strays.remove(name);
            inner.resources.retain(|(_, cluster, _), _| cluster != name);
            inner.obstacles.retain(|(_, cluster, _), _| cluster != name);
            inner.by_sequence.retain(|_, (_, cluster, _)| cluster != name);
            inner.forget_rewinds(name);
        });
    }
}
