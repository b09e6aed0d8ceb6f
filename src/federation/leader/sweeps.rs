//! Sweeping what etcd holds longer than it is needed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clusters::deregister::Deregistration;
use crate::clusters::installation_secret::InstallationSecret;
use store::{Store, Term};

/// Between sweeps of expired records.
const SWEEP_PERIOD: Duration = Duration::from_mins(5);

/// Sweeps expired records, former clusters and former secrets.
pub(crate) struct Sweeps {
    store: Store,
    deregistration: Arc<Deregistration>,
    secret: Arc<InstallationSecret>,
}

impl Sweeps {
    pub(crate) fn new(
        store: Store,
        deregistration: Arc<Deregistration>,
        secret: Arc<InstallationSecret>,
    ) -> Arc<Self> {
        Arc::new(Self { store, deregistration, secret })
    }

    /// Sweeps until the term ends.
    pub(super) async fn run(&self, term: &Term) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_PERIOD) => {}
                () = term.ended() => return,
            }
            if let Err(error) = self.deregistration.sweep_departures(term).await {
                tracing::warn!(%error, "cannot sweep what is known of clusters that were taken out");
            }
            match self.store.sweep_expired(term, Timestamp::now()).await {
                Ok(removed) => tracing::debug!(removed, "swept expired records"),
                Err(error) => tracing::warn!(%error, "cannot sweep expired records now"),
            }
            self.secret.sweep(term).await;
        }
    }
}
