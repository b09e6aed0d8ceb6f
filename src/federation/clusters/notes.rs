//! What leaders noted of clusters, as this replica knows it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use parking_lot::RwLock;

use crate::fleet::Connected;
use domain::names::ClusterName;
use domain::observed::Observed;

/// Renewals of the canary from one note to the next.
const RENEWALS: u32 = 6;

/// The notes as this replica knows them.
#[derive(Debug, Default)]
pub struct Notes(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    of_clusters: BTreeMap<ClusterName, (Observed, i64)>,
    /// Everything up to this etcd revision was reported by the mirror.
    mirrored: i64,
}

impl Notes {
    /// What was noted of a cluster.
    pub fn get(&self, cluster: &ClusterName) -> Option<Observed> {
        self.0.read().of_clusters.get(cluster).map(|(observed, _)| observed.clone())
    }

    /// How often a cluster was restored, as far as is recorded.
    pub(crate) fn rewinds_of(&self, cluster: &ClusterName) -> u32 {
        self.get(cluster).and_then(|observed| observed.rewinds).map_or(0, |rewinds| rewinds.count)
    }

    /// Takes a note as the mirror reports it; what was noted before, where the note is new.
    pub(super) fn take(&self, cluster: &ClusterName, observed: Observed, version: i64) -> Option<Observed> {
        let mut notes = self.0.write();
        notes.mirrored = notes.mirrored.max(version);
        notes.take(cluster, observed, version)
    }

    /// As [`Notes::take`], of one that was just written. Where the mirror is ahead, the cluster may be gone already.
    pub(super) fn take_written(
        &self,
        cluster: &ClusterName,
        observed: Observed,
        version: i64,
    ) -> Option<Observed> {
        let mut notes = self.0.write();
        if notes.mirrored >= version { None } else { notes.take(cluster, observed, version) }
    }

    /// Forgets clusters that are not registered any more at an etcd revision.
    pub(crate) fn forget(&self, revision: i64, is_gone: impl Fn(&ClusterName) -> bool) {
        let mut notes = self.0.write();
        notes.mirrored = notes.mirrored.max(revision);
        notes.of_clusters.retain(|name, _| !is_gone(name));
    }
}

impl Inner {
    fn take(&mut self, cluster: &ClusterName, observed: Observed, version: i64) -> Option<Observed> {
        let entry = self.of_clusters.entry(cluster.clone()).or_default();
        if entry.1 >= version {
            return None;
        }
        Some(std::mem::replace(entry, (observed, version)).0)
    }
}

/// How often a cluster is noted where nothing changes.
pub(super) fn period(connected: &Connected) -> SignedDuration {
    SignedDuration::try_from(connected.member.canary_period() * RENEWALS).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_of_a_cluster_does_not_come_back_by_a_late_answer() {
        let (known, eu) = (Notes::default(), "eu-1".parse::<ClusterName>().unwrap());
        let noted = |canary| Observed { canary: Some(canary), ..Observed::default() };
        assert!(known.take_written(&eu, noted(1), 5).is_some());
        assert!(known.take(&eu, noted(1), 5).is_none(), "it is known");
        known.forget(8, |name| *name == eu);
        assert!(known.take_written(&eu, noted(2), 7).is_none());
        assert_eq!(known.get(&eu), None, "another cluster of the name would be compared with it");
        assert!(known.take_written(&eu, noted(3), 9).is_some());
    }
}
