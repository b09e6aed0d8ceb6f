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

use super::fleet::Connected;
use super::registry::told_by_the_leader;
use super::rounds::rounds;
use super::{Error, Federation, Result};
use crate::domain::names::ClusterName;
use crate::domain::observed::{Noted, Observed};
use crate::store::{self, ClusterEntry, Term};

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
pub struct Known(RwLock<BTreeMap<ClusterName, (Observed, i64)>>);

impl Known {
    /// What was noted of a cluster.
    pub fn get(&self, cluster: &ClusterName) -> Option<Observed> {
        self.0.read().get(cluster).map(|(observed, _)| observed.clone())
    }

    /// Takes a note as etcd has it; what was noted before, where it is news.
    fn take(&self, cluster: &ClusterName, observed: Observed, version: i64) -> Option<Observed> {
        let mut known = self.0.write();
        let entry = known.entry(cluster.clone()).or_default();
        if entry.1 >= version {
            return None;
        }
        Some(std::mem::replace(entry, (observed, version)).0)
    }

    /// Forgets clusters that are not registered any more.
    pub(super) fn forget(&self, is_gone: impl Fn(&ClusterName) -> bool) {
        self.0.write().retain(|name, _| !is_gone(name));
    }
}

/// How often a cluster is noted where nothing changes.
pub(super) fn period(connected: &Connected) -> SignedDuration {
    SignedDuration::try_from(connected.member.canary_period() * RENEWALS).unwrap_or(SignedDuration::MAX)
}

impl Federation {
    /// Takes what was noted of a cluster.
    pub(super) fn observed(&self, entry: &ClusterEntry, version: i64) {
        let ClusterEntry::Status { cluster, status } = entry else { return };
        match serde_json::from_value::<Observed>(status.clone()) {
            Ok(observed) => self.take_observed(cluster, observed, version),
            Err(error) => tracing::error!(%cluster, %error, "what was noted of the cluster cannot be read"),
        }
    }

    fn take_observed(&self, cluster: &ClusterName, observed: Observed, version: i64) {
        let (rewinds, conditions) = (observed.rewinds, observed.conditions.clone());
        let Some(before) = self.known.take(cluster, observed, version) else { return };
        if let Some(rewinds) = rewinds {
            self.take_rewinds(cluster, rewinds);
        }
        if before.conditions != conditions {
            self.fleet.stir();
        }
    }

    /// Changes the note of a registered cluster, by compare-and-swap.
    pub(super) async fn note(
        &self,
        term: &Term,
        cluster: &ClusterName,
        change: impl FnOnce(Observed) -> Observed,
    ) -> Result<()> {
        let _alone = self.noting.lock().await;
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
        self.take_observed(cluster, after, version);
        Ok(())
    }

    /// Notes what this replica sees as the leader, until the term ends.
    pub(super) async fn note_observed(&self, term: &Term) {
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
    pub(super) async fn last_notes(&self, term: &Term) {
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
