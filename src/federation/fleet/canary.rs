//! Renews the canary of a member while it may be written to.

use crate::domain::canary::Standing;
use crate::federation::index::Found;

use super::Connected;
use super::gate::Opened;

impl Connected {
    /// Renews the canary until the member is let go.
    pub(super) async fn keep_canary(&self) {
        tokio::select! {
            () = self.renew_while_open() => {}
            () = self.compare() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Tells, on every replica, whenever the canary shows that the cluster was set back. Never ends.
    async fn compare(&self) {
        let canary = self.member.canary();
        canary.compared().await;
        self.changes.send_replace(());
        loop {
            canary.rewound().await;
            self.watcher.set_back(Found::Written);
            canary.told();
            self.changes.send_replace(());
        }
    }

    async fn renew_while_open(&self) {
        let mut gate = self.gate.subscribe();
        loop {
            let Some(opened) =
                gate.wait_for(|state| state.opened().is_some()).await.ok().and_then(|state| state.opened())
            else {
                return;
            };
            let closed = tokio::select! {
                () = self.renew(&opened) => false,
                closed = gate.wait_for(|state| !state.is_open_at(&opened.epoch)) => closed.is_err(),
            };
            self.member.canary().rest();
            self.changes.send_replace(());
            if closed {
                return;
            }
        }
    }

    /// Never ends; the writer asks the term before each write.
    async fn renew(&self, Opened { epoch, pass, .. }: &Opened) {
        let (canary, period) = (self.member.canary(), self.member.canary_period());
        let writer = self.member.writer(canary.namespace(), pass);
        loop {
            let before = canary.standing();
            let pause = canary.renew(&writer, epoch, period).await;
            let now = canary.standing();
            if std::mem::discriminant(&before) != std::mem::discriminant(&now) {
                match &now {
                    Standing::Unknown | Standing::Well(_) => tracing::info!(canary = ?now, "canary"),
                    _ => tracing::warn!(canary = ?now, "canary"),
                }
                self.changes.send_replace(());
            }
            tokio::time::sleep(pause).await;
        }
    }
}
