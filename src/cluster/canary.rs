//! The canary of a cluster: a Lease that the leader renews, and that every replica watches. One round proves that writes
//! are taken and that watches show them, and says how long that takes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Version of the last renewal of ours.
    written: AtomicU64,
    rewound: AtomicBool,
}

impl Canary {
    /// One that is not renewed yet, in a namespace.
    pub fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            shown: watch::Sender::new(0),
            renewals: Mutex::default(),
            written: AtomicU64::new(0),
            rewound: AtomicBool::new(false),
        }
    }

    /// Where the Lease is.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Takes what a watch showed. Versions may fall with a cluster that was restored.
    pub(super) fn show(&self, version: u64) {
        self.shown.send_replace(version);
    }

    /// Renews it once, and waits until the watch shows that; answers how long to wait for the next time.
    pub async fn renew(&self, writer: &Writer, epoch: &Epoch, period: Duration) -> Duration {
        let sent = Instant::now();
        let outcome = match writer.renew_canary(epoch, period, Timestamp::now()).await {
            Ok(version) => {
                // Each write of a cluster has a higher version than all before.
                if version < self.written.swap(version, Ordering::Relaxed) {
                    self.rewound.store(true, Ordering::Relaxed);
                }
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

    /// Whether the last renewals show that the cluster was set back; told once.
    pub fn take_rewound(&self) -> bool {
        self.rewound.swap(false, Ordering::Relaxed)
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
