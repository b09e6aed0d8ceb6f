//! Notes of the leader about clusters, in etcd beside the registrations: for the next leader, and for the
//! other replicas.
//!
//! *Flow.* Each replica follows the notes. The leader writes the note of a cluster when a condition
//! changes, at most once in some seconds; else once in six renewals of the
//! canary (a minute by default); and once more when its term ends in order. *Limits.* When a leader is
//! killed, the noted version of the canary is up to one period old. A cluster that is restored from a
//! backup younger than the last note, while no manager runs, is not detected as restored.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clusters::conditions::told_by_the_leader;
use crate::clusters::notes::{Notes, period};
use crate::fleet::Connected;
use crate::fleet::Fleet;
use crate::locks::{PATIENCE, turn};
use crate::periodic::rounds;
use crate::view::index::Index;
use crate::{Error, Result};
use domain::names::ClusterName;
use domain::observed::{Noted, Observed};
use domain::restore::Restores;
use store::{self, ClusterEntry, Store, Term};

/// Debounce: changes within this time are noted together.
const GATHER: Duration = Duration::from_millis(200);
/// Before another try.
const RETRY: SignedDuration = SignedDuration::from_secs(2);
/// For the last notes of a leader that ends: another one waits for it.
const LAST_WITHIN: Duration = Duration::from_millis(500);
/// The longest sleep: the wall clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

/// What this replica sees of clusters, noted in etcd by the leader and read by the others.
pub(crate) struct Observations {
    store: Store,
    notes: Arc<Notes>,
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    /// Held while a note is changed.
    noting: tokio::sync::Mutex<()>,
}

impl Observations {
    pub(crate) fn new(store: Store, notes: Arc<Notes>, fleet: Arc<Fleet>, index: Arc<Index>) -> Arc<Self> {
        Arc::new(Self { store, notes, fleet, index, noting: tokio::sync::Mutex::default() })
    }

    /// Takes what was noted of a cluster.
    pub(crate) fn observed(&self, entry: &ClusterEntry, version: i64) {
        let ClusterEntry::Status { cluster, status } = entry else { return };
        match serde_json::from_value::<Observed>(status.clone()) {
            Ok(observed) => {
                let before = self.notes.take(cluster, observed.clone(), version);
                self.show_observed(cluster, before, &observed);
            }
            Err(error) => tracing::error!(%cluster, %error, "what was noted of the cluster cannot be read"),
        }
    }

    /// `before`: absent where the note is not new.
    fn show_observed(&self, cluster: &ClusterName, before: Option<Observed>, observed: &Observed) {
        let Some(before) = before else { return };
        if let Some(rewinds) = observed.rewinds {
            self.take_rewinds(cluster, rewinds);
        }
        if before.conditions != observed.conditions {
            self.fleet.stir();
        }
    }

    /// Shows the cluster's states under the new number, once each namespace was listed again.
    fn take_rewinds(&self, cluster: &ClusterName, rewinds: Restores) {
        if self.index.rewinds(cluster, rewinds)
            && let Some(connected) = self.fleet.get(cluster)
        {
            connected.member.relist();
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
            // Not overwritten: how often it was restored must not be lost.
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
        let before = self.notes.take_written(cluster, after.clone(), version);
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
        let known = self.notes.get(cluster).unwrap_or_default();
        let conditions = told_by_the_leader(connected, now).iter().map(Noted::of).collect();
        let seen = Observed { canary: connected.member.canary().written(), conditions, ..known.clone() };
        let later = |after: SignedDuration| now.saturating_add(after).unwrap_or(Timestamp::MAX);
        // Another leader's clock may have been ahead.
        let due = known.due(&seen, period).min(later(period));
        if due > now {
            return due;
        }
        let change = |before: Observed| Observed {
            // A restore that was detected meanwhile: versions count from another one on.
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
