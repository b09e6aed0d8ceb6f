//! What follows from leading: the term is given out only when everything that earlier leaders recorded is known.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Federation, Lead};
use store::{Leadership, Progress, Term};

/// Between sweeps of expired records.
const SWEEP_PERIOD: Duration = Duration::from_mins(5);

impl Federation {
    /// Follows the election until `shutdown`; then the term may be given up.
    pub async fn lead_when_elected(
        self: Arc<Self>,
        mut leadership: watch::Receiver<Leadership>,
        shutdown: CancellationToken,
    ) {
        loop {
            let current = leadership.borrow_and_update().clone();
            match current {
                Leadership::Leading { term } => {
                    tokio::select! {
                        () = self.serve(&term) => {}
                        () = shutdown.cancelled() => self.last_notes(&term).await,
                    }
                    self.step_down();
                }
                Leadership::Standby { leader } => {
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
        let caught_up = async {
            let placements = caught_up(self.placements.subscribe(), term);
            let drains = caught_up(self.drains.progress.subscribe(), term);
            // What was cordoned stays so, whoever leads.
            let registrations = caught_up(self.registrations.subscribe(), term);
            let (placements, drains, registrations) = tokio::join!(placements, drains, registrations);
            placements && drains && registrations
        };
        tokio::select! {
            caught_up = caught_up => if !caught_up { return },
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
        tokio::join!(
            self.settling.run(term),
            self.sweep(term),
            self.orphan_secrets.sweep(term),
            self.carry_out_drains(term),
            self.decisions.write(term),
            self.seal_anew(term),
            self.record_rewinds(term),
            self.record_addresses(term),
            self.tell_host(term),
            self.note_observed(term),
            term.ended()
        );
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

    async fn sweep(&self, term: &Term) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_PERIOD) => {}
                () = term.ended() => return,
            }
            if let Err(error) = self.sweep_departures(term).await {
                tracing::warn!(%error, "cannot sweep what is known of clusters that were taken out");
            }
            match self.store.sweep_expired(term, Timestamp::now()).await {
                Ok(removed) => tracing::debug!(removed, "swept expired records"),
                Err(error) => tracing::warn!(%error, "cannot sweep expired records now"),
            }
            self.sweep_secrets(term).await;
        }
    }
}

/// Waits until a mirror has taken everything up to the term's beginning.
async fn caught_up(mut mirror: watch::Receiver<Option<Progress>>, term: &Term) -> bool {
    let progress = mirror.wait_for(Option::is_some).await.map(|progress| progress.clone());
    let Ok(Some(mut progress)) = progress else { return false };
    progress.caught_up(term.revision()).await
}
