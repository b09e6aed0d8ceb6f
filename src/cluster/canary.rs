//! The canary of a cluster: a Lease that the leader renews, and that every replica watches. One round proves that writes
//! are taken and that watches show them, and says how long that takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::domain::canary::{Outcome, Renewals, Standing};
use crate::domain::epoch::Epoch;
use crate::domain::names::Namespace;

use super::apply::Writer;
use super::error::Error;

/// Name of the Lease.
pub const NAME: &str = "spaceport-canary";
/// For a watch to show what was written.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// The canary of one cluster.
pub struct Canary {
    namespace: Namespace,
    /// Version that the watch showed last.
    shown: watch::Sender<u64>,
    renewals: Mutex<Renewals>,
    /// Version of the last renewal that is known, ours or an earlier leader's; 0 where none is.
    written: AtomicU64,
    /// Version that an earlier leader noted.
    mark: Option<u64>,
    /// Whether the cluster's history was compared with the mark.
    compared: watch::Sender<bool>,
    rewound: watch::Sender<bool>,
}

impl Canary {
    /// One that is not renewed yet, in a namespace. `mark`: the version at which a leader wrote it once.
    pub fn new(namespace: Namespace, mark: Option<u64>) -> Self {
        Self {
            namespace,
            shown: watch::Sender::new(0),
            renewals: Mutex::default(),
            written: AtomicU64::new(mark.unwrap_or(0)),
            mark,
            compared: watch::Sender::new(mark.is_none()),
            rewound: watch::Sender::new(false),
        }
    }

    /// Where the Lease is.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Takes what a watch showed. Versions may fall with a cluster that was restored.
    pub(super) fn show(&self, version: u64) {
        // Only leaders write it, so what is shown first is the last that was written before.
        let first = !*self.compared.borrow();
        if first && self.mark.is_some_and(|mark| version < mark) {
            self.rewound.send_replace(true);
        }
        self.compared.send_if_modified(|compared| !std::mem::replace(compared, true));
        self.shown.send_replace(version);
    }

    /// Renews it once, and waits until the watch shows that; answers how long to wait for the next time.
    pub async fn renew(&self, writer: &Writer, epoch: &Epoch, period: Duration) -> Duration {
        let sent = Instant::now();
        let outcome = match writer.renew_canary(epoch, period, Timestamp::now()).await {
            Ok(version) => {
                // Each write of a cluster has a higher version than all before.
                if version < self.written.swap(version, Ordering::Relaxed) {
                    self.rewound.send_replace(true);
                }
                self.compared.send_if_modified(|compared| !std::mem::replace(compared, true));
                self.await_shown(version, sent).await
            }
            Err(Error::Refused { code: 403, message, .. }) => Outcome::NotAllowed(message),
            // This is no news of the cluster.
            Err(Error::NotLeader { .. } | Error::Fenced { .. }) => return period,
            Err(error) => Outcome::Failed(error.cause()),
        };
        let mut renewals = self.renewals.lock();
        renewals.take(outcome);
        renewals.pause(period)
    }

    async fn await_shown(&self, version: u64, sent: Instant) -> Outcome {
        let mut shown = self.shown.subscribe();
        match timeout(SHOWN_WITHIN, shown.wait_for(|shown| *shown >= version)).await {
            Ok(_) => Outcome::Shown(sent.elapsed()),
            Err(_) => Outcome::Unseen(SHOWN_WITHIN),
        }
    }

    /// Waits until the cluster's history was compared with what an earlier leader noted.
    pub async fn compared(&self) {
        // The sender lives as long as this.
        let _ = self.compared.subscribe().wait_for(|compared| *compared).await;
    }

    /// Whether it was, and whoever waits for it was told what came of that.
    pub fn is_compared(&self) -> bool {
        *self.compared.borrow() && !*self.rewound.borrow()
    }

    /// Waits until it shows that the cluster was set back, and until [`Canary::told`] that again and again.
    pub async fn rewound(&self) {
        let _ = self.rewound.subscribe().wait_for(|rewound| *rewound).await;
    }

    /// Takes that everybody was told that the cluster was set back.
    pub fn told(&self) {
        self.rewound.send_replace(false);
    }

    /// The version at which it was written last, as far as that is known.
    pub fn written(&self) -> Option<u64> {
        Some(self.written.load(Ordering::Relaxed)).filter(|version| *version > 0)
    }

    /// Versions count anew.
    pub(super) fn begin_anew(&self) {
        self.written.store(0, Ordering::Relaxed);
    }

    /// Nobody renews it here any more.
    pub fn rest(&self) {
        *self.renewals.lock() = Renewals::default();
    }

    /// How it is.
    pub fn standing(&self) -> Standing {
        self.renewals.lock().standing()
    }

    /// Why the cluster takes no new workspaces.
    pub fn barred(&self) -> Option<String> {
        self.renewals.lock().barred()
    }
}
