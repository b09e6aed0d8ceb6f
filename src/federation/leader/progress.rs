//! How far this replica has followed etcd.

use std::sync::Arc;

use tokio::sync::watch;

use crate::clusters::drain::known::KnownDrains;
use store::{Progress, Term};

/// How far the watches of etcd are.
pub struct WatchProgress {
    placements: watch::Sender<Option<Progress>>,
    registrations: watch::Sender<Option<Progress>>,
    drains: Arc<KnownDrains>,
}

impl WatchProgress {
    /// Nothing is followed yet.
    pub(crate) fn new(drains: Arc<KnownDrains>) -> Arc<Self> {
        Arc::new(Self { placements: watch::channel(None).0, registrations: watch::channel(None).0, drains })
    }

    /// Takes how far placement records are followed.
    pub(super) fn follow_placements(&self, progress: Progress) {
        self.placements.send_replace(Some(progress));
    }

    /// Takes how far registrations are followed.
    pub(super) fn follow_registrations(&self, progress: Progress) {
        self.registrations.send_replace(Some(progress));
    }

    /// Waits until every placement record was listed once.
    pub async fn placements_known(&self) {
        let mut placements = self.placements.subscribe();
        let progress = placements.wait_for(Option::is_some).await.map(|progress| progress.clone());
        if let Ok(Some(mut progress)) = progress {
            progress.caught_up(1).await;
        }
    }

    /// Waits until everything that was written before a term is known here; whether it is.
    pub(super) async fn caught_up(&self, term: &Term) -> bool {
        let placements = caught_up(self.placements.subscribe(), term);
        let drains = caught_up(self.drains.progress.subscribe(), term);
        // What was cordoned stays so, whoever leads.
        let registrations = caught_up(self.registrations.subscribe(), term);
        let (placements, drains, registrations) = tokio::join!(placements, drains, registrations);
        placements && drains && registrations
    }
}

/// Waits until a watch has reported everything up to the term's beginning.
async fn caught_up(mut watch: watch::Receiver<Option<Progress>>, term: &Term) -> bool {
    let progress = watch.wait_for(Option::is_some).await.map(|progress| progress.clone());
    let Ok(Some(mut progress)) = progress else { return false };
    progress.caught_up(term.revision()).await
}
