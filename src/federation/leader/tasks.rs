//! Leader tasks; writes are enabled once the replica has caught up.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cluster_events::ClusterEvents;
use super::progress::WatchProgress;
use super::reencryption::Reencryption;
use super::sweeps::Sweeps;
use crate::clusters::addresses::Addresses;
use crate::clusters::drain::runner::DrainRunner;
use crate::clusters::observed::Observations;
use crate::clusters::restore_detection::RestoreDetection;
use crate::fleet::Fleet;
use crate::leadership::{Lead, Leadership};
use crate::workspaces::decisions::Decisions;
use crate::workspaces::orphan_secrets::OrphanSecrets;
use crate::workspaces::settle::Settling;
use domain::signing::SigningKeys;
use store::{self, Sealer, Store, Term};

/// What only the leader does. Each task ends with the term.
pub(crate) struct Tasks {
    pub(crate) settling: Arc<Settling>,
    pub(crate) sweeps: Arc<Sweeps>,
    pub(crate) orphan_secrets: Arc<OrphanSecrets>,
    pub(crate) drains: Arc<DrainRunner>,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) reencryption: Arc<Reencryption>,
    pub(crate) restores: Arc<RestoreDetection>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) events: Arc<ClusterEvents>,
    pub(crate) observations: Arc<Observations>,
}

impl Tasks {
    async fn run(&self, term: &Term) {
        tokio::join!(
            self.settling.run(term),
            self.sweeps.run(term),
            self.orphan_secrets.sweep(term),
            self.drains.run(term),
            self.decisions.write(term),
            self.reencryption.run(term),
            self.restores.run(term),
            self.addresses.run(term),
            self.events.run(term),
            self.observations.note_observed(term),
            term.ended()
        );
    }
}

/// Leads while this replica is elected.
pub struct Leader {
    leadership: Arc<Leadership>,
    fleet: Arc<Fleet>,
    store: Store,
    sealer: Arc<Sealer>,
    keyed: Arc<ArcSwap<SigningKeys>>,
    progress: Arc<WatchProgress>,
    tasks: Tasks,
}

impl Leader {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        fleet: Arc<Fleet>,
        store: Store,
        sealer: Arc<Sealer>,
        keyed: Arc<ArcSwap<SigningKeys>>,
        progress: Arc<WatchProgress>,
        tasks: Tasks,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, fleet, store, sealer, keyed, progress, tasks })
    }

    /// Follows the election until `shutdown`; then the term may be given up.
    pub async fn lead_when_elected(
        self: Arc<Self>,
        mut leadership: watch::Receiver<store::Leadership>,
        shutdown: CancellationToken,
    ) {
        loop {
            let current = leadership.borrow_and_update().clone();
            match current {
                store::Leadership::Leading { term } => {
                    tokio::select! {
                        () = self.serve(&term) => {}
                        () = shutdown.cancelled() => self.tasks.observations.last_notes(&term).await,
                    }
                    self.step_down();
                }
                store::Leadership::Standby { leader } => {
                    let lead = leader.map_or(Lead::Nobody, |leader| {
                        self.leadership.note_epoch(leader.epoch);
                        Lead::Other { replica: leader.replica, address: leader.address }
                    });
                    self.leadership.set_lead(lead);
                }
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn serve(&self, term: &Term) {
        tokio::select! {
            caught_up = self.progress.caught_up(term) => if !caught_up { return },
            () = term.ended() => return,
        }
        tokio::select! {
            () = self.learn_installation() => {}
            () = term.ended() => return,
        }
        self.leadership.note_epoch(term.epoch());
        for connected in self.fleet.connected() {
            connected.member.capacity().release_all();
            connected.member.caches().for_each(|cache| cache.forget_deletions());
        }
        tracing::info!(epoch = term.epoch(), replica = self.leadership.replica().name, "leading");
        self.leadership.begin(term);
        Box::pin(self.tasks.run(term)).await;
    }

    /// Its incarnation and its secrets. Only a leader changes them, so what is read after the election stays true for the term.
    async fn learn_installation(&self) {
        loop {
            match self.store.installation(&self.sealer).await {
                Ok(installation) => {
                    self.leadership.set_incarnation(installation.incarnation);
                    self.keyed.store(Arc::new(installation.keyed()));
                    return;
                }
                Err(error) => tracing::warn!(%error, "cannot read the installation, trying again"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn step_down(&self) {
        tracing::info!(replica = self.leadership.replica().name, "no longer leading");
        self.leadership.end();
    }
}
