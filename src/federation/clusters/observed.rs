//! What the leader notes of clusters in etcd, beside their registrations: for those who lead after it, and for replicas that
//! do not lead.
//!
//! *Flow.* Each replica follows the notes. The leader writes a cluster's note when what it says of it changes, no more than
//! once in some seconds, and else once in six renewals of the canary (a minute, as a rule), and when it ends in order.
//! *Caveat.* The canary's version of a killed leader is so much behind: a cluster that is restored from a backup which is
//! younger than the last note, while no manager runs, is not found set back.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;

use crate::clusters::registry::told_by_the_leader;
use crate::fleet::Connected;
use crate::locks::{PATIENCE, turn};
use crate::periodic::rounds;
use crate::{Error, Federation, Result};
use domain::names::ClusterName;
use domain::observed::{Noted, Observed};
use store::{self, ClusterEntry, Term};

/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(200);
/// Before another try.
const RETRY: SignedDuration = SignedDuration::from_secs(2);
/// For the last notes of a leader that ends: another one waits for it.
const LAST_WITHIN: Duration = Duration::from_millis(500);
/// The longest sleep: the wall clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);
/// Renewals of the canary from one note to the next.
const RENEWALS: u32 = 6;

/// The notes as this replica knows them.
#[derive(Debug, Default)]
pub struct Known(RwLock<Notes>);

#[derive(Debug, Default)]
struct Notes {
    of_clusters: BTreeMap<ClusterName, (Observed, i64)>,
    /// Everything up to this etcd revision was reported by the mirror.
    mirrored: i64,
}

impl Known {
    /// What was noted of a cluster.
    pub fn get(&self, cluster: &ClusterName) -> Option<Observed> {
        self.0.read().of_clusters.get(cluster).map(|(observed, _)| observed.clone())
    }

    /// Takes a note as the mirror reports it; what was noted before, where it is news.
    fn take(&self, cluster: &ClusterName, observed: Observed, version: i64) -> Option<Observed> {
        let mut notes = self.0.write();
        notes.mirrored = notes.mirrored.max(version);
        notes.take(cluster, observed, version)
    }

    /// As [`Known::take`], of one that was just written. Where the mirror is ahead, the cluster may be gone already.
    fn take_written(&self, cluster: &ClusterName, observed: Observed, version: i64) -> Option<Observed> {
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

impl Notes {
    fn take(&mut self, cluster: &ClusterName, observed: Observed, version: i64) -> Option<Observed> {
        let entry = self.of_clusters.entry(cluster.clone()).or_default();
        if entry.1 >= version {
            return None;
        }
        Some(std::mem::replace(entry, (observed, version)).0)
    }
}

/// How often a cluster is noted where nothing changes.
pub(crate) fn period(connected: &Connected) -> SignedDuration {
    SignedDuration::try_from(connected.member.canary_period() * RENEWALS).unwrap_or(SignedDuration::MAX)
}

impl Federation {
    /// Takes what was noted of a cluster.
    pub(crate) fn observed(&self, entry: &ClusterEntry, version: i64) {
        let ClusterEntry::Status { cluster, status } = entry else { return };
        match serde_json::from_value::<Observed>(status.clone()) {
            Ok(observed) => {
                let before = self.known.take(cluster, observed.clone(), version);
                self.show_observed(cluster, before, &observed);
            }
            Err(error) => tracing::error!(%cluster, %error, "what was noted of the cluster cannot be read"),
        }
    }

    /// `before`: absent where it is no news.
    fn show_observed(&self, cluster: &ClusterName, before: Option<Observed>, observed: &Observed) {
        let Some(before) = before else { return };
        if let Some(rewinds) = observed.rewinds {
            self.take_rewinds(cluster, rewinds);
        }
        if before.conditions != observed.conditions {
            self.fleet.stir();
        }
    }

    /// Changes the note of a registered cluster, by compare-and-swap.
    pub(crate) async fn note(
        &self,
        term: &Term,
        cluster: &ClusterName,
        change: impl FnOnce(Observed) -> Observed,
    ) -> Result<()> {
        let _alone = turn("waiting for another note of a cluster", PATIENCE, self.noting.lock()).await?;
        let found = self.store.status(cluster).await?;
        let version = found.as_ref().map(|(_, version)| *version);
        let before = match found {
            None => Observed::default(),
            // Not written over: how often it was set back must not be lost.
            Some((status, _)) => serde_json::from_value::<Observed>(status).map_err(|error| {
                let key = format!("clusters/{cluster}/status");
                store::Error::Malformed { key, reason: error.to_string() }
            })?,
        };
        let after = change(before.clone());
        if after == before {
            return Ok(());
        }
        let version = self.store.put_status(term, cluster, &serde_json::json!(after), version).await?;
        let before = self.known.take_written(cluster, after.clone(), version);
        self.show_observed(cluster, before, &after);
        Ok(())
    }

    /// Notes what this replica sees as the leader, until the term ends.
    pub(crate) async fn note_observed(&self, term: &Term) {
        let round = || async {
            let mut wake = Timestamp::MAX;
            for connected in self.fleet.connected() {
                wake = wake.min(self.note_one(term, &connected).await);
            }
            let pause = Duration::try_from(wake.duration_since(Timestamp::now())).unwrap_or_default();
            Some(pause.min(LOOK))
        };
        rounds(term, self.fleet.changes(), GATHER, round).await;
    }

    /// Notes the canaries' versions as a leader that ends in order knows them, so that the next one misses nothing.
    pub(crate) async fn last_notes(&self, term: &Term) {
        let noting = async {
            for connected in self.fleet.connected() {
                let written = connected.member.canary().written();
                let change = |before: Observed| Observed { canary: before.canary.max(written), ..before };
                if let Err(error) = self.note(term, connected.member.name(), change).await {
                    tracing::warn!(cluster = %connected.member.name(), %error, "cannot note the canary's version");
                }
            }
        };
        if tokio::time::timeout(LAST_WITHIN, noting).await.is_err() {
            tracing::warn!("not all clusters' last notes were written");
        }
    }

    /// Notes what is due of a cluster; when to look again.
    async fn note_one(&self, term: &Term, connected: &Connected) -> Timestamp {
        let (cluster, now, period) = (connected.member.name(), Timestamp::now(), period(connected));
        let known = self.known.get(cluster).unwrap_or_default();
        let conditions = told_by_the_leader(connected, now).iter().map(Noted::of).collect();
        let seen = Observed { canary: connected.member.canary().written(), conditions, ..known.clone() };
        let later = |after: SignedDuration| now.saturating_add(after).unwrap_or(Timestamp::MAX);
        // Another leader's clock may have been ahead.
        let due = known.due(&seen, period).min(later(period));
        if due > now {
            return due;
        }
        let change = |before: Observed| Observed {
            // Found set back meanwhile, versions count from another one on.
            canary: if before.rewinds == known.rewinds {
                before.canary.max(seen.canary)
            } else {
                before.canary
            },
            conditions: seen.conditions,
            at: Some(now),
            rewinds: before.rewinds,
        };
        match self.note(term, cluster, change).await {
            // One that is not found goes.
            Ok(()) | Err(Error::Store(store::Error::ClusterNotFound { .. })) => later(period),
            Err(error) => {
                tracing::warn!(%cluster, %error, "cannot note how the cluster is");
                later(RETRY)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_of_a_cluster_does_not_come_back_by_a_late_answer() {
        let (known, eu) = (Known::default(), "eu-1".parse::<ClusterName>().unwrap());
        let noted = |canary| Observed { canary: Some(canary), ..Observed::default() };
        assert!(known.take_written(&eu, noted(1), 5).is_some());
        assert!(known.take(&eu, noted(1), 5).is_none(), "it is known");
        known.forget(8, |name| *name == eu);
        assert!(known.take_written(&eu, noted(2), 7).is_none());
        assert_eq!(known.get(&eu), None, "another cluster of the name would be compared with it");
        assert!(known.take_written(&eu, noted(3), 9).is_some());
    }
}
