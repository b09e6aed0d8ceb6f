//! The canary of a cluster: a Lease that the leader renews, and that every replica watches. One renewal proves that
//! writes are accepted and that watches deliver them, and measures how long that takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use domain::canary::{CanaryState, Outcome, Renewals};
use domain::epoch::Epoch;
use domain::names::Namespace;
use k8s::resources::names::CANARY;

use crate::apply::{Renewed, Writer};
use crate::error::{Error, Result, Rule};

/// Name of the Lease.
pub const NAME: &str = CANARY;
/// Tries of a renewal that others get in the way of.
const TRIES: usize = 3;
/// For a watch to show what was written.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// The canary of one cluster.
pub struct Canary {
    namespace: Namespace,
    /// Version that the watch showed last.
    shown: watch::Sender<u64>,
    renewals: Mutex<Renewals>,
    /// Version of the last known renewal, by this process or an earlier leader; 0 if none is known.
    written: AtomicU64,
    /// Version that an earlier leader noted.
    mark: Option<u64>,
    /// Whether the cluster's history was compared with the mark.
    compared: watch::Sender<bool>,
    rewound: watch::Sender<bool>,
    /// When the last renewal was sent that found the Lease at the version written before.
    proven: Mutex<Option<Instant>>,
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
            proven: Mutex::default(),
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
        let before = self.shown.send_replace(version);
        if version < before || first && self.mark.is_some_and(|mark| version < mark) {
            self.restored_at(version);
        }
        self.compared.send_if_modified(|compared| !std::mem::replace(compared, true));
    }

    /// Renews it once, and waits until the watch shows that; answers how long to wait for the next time.
    pub async fn renew(&self, writer: &Writer, epoch: &Epoch, period: Duration) -> Duration {
        let sent = Instant::now();
        let outcome = match self.write(writer, epoch, period).await {
            Ok(version) => self.await_shown(version, sent).await,
            // This says nothing about the cluster: nothing was sent.
            Err(Error::NotLeader { .. } | Error::Fenced { .. } | Error::Queued { .. }) => return period,
            // Its namespace ends, which is a condition of its own and must not close the others.
            Err(Error::Refused { rule: Rule::Terminating, .. } | Error::Refused { code: 404, .. }) => {
                self.rest();
                return period;
            }
            Err(Error::Refused { code: 403, rule, .. }) => Outcome::NotAllowed(rule.to_string()),
            Err(error) => Outcome::Failed(error.cause()),
        };
        let mut renewals = self.renewals.lock();
        renewals.take(outcome);
        renewals.pause(period)
    }

    /// Writes it if it is at the version that was written last. If it is older, the cluster was restored from a backup, whatever
    /// others wrote since; that is reported before anything is written.
    async fn write(&self, writer: &Writer, epoch: &Epoch, period: Duration) -> Result<u64> {
        for _ in 0..TRIES {
            let (expected, sent) = (self.written(), Instant::now());
            match writer.renew_canary(epoch, period, Timestamp::now(), expected).await? {
                Renewed::Written(version) => {
                    self.take(version);
                    *self.proven.lock() = Some(sent);
                    return Ok(version);
                }
                // Another leader wrote it later, or there is nothing to compare with any more.
                Renewed::Differs(found) => self.take(found),
            }
        }
        let (cluster, action) = (writer.cluster().clone(), format!("renew Lease {NAME}"));
        Err(Error::Ambiguous { cluster, action, reason: "others keep changing it".to_owned() })
    }

    /// Takes the version that it is at. Versions of one object never fall, but with a restored cluster.
    fn take(&self, version: u64) {
        if version < self.written.swap(version, Ordering::Relaxed) {
            self.restored_at(version);
        }
        self.compared.send_if_modified(|compared| !std::mem::replace(compared, true));
    }

    /// Versions count from here on, so that the write and the watch do not both report one restore.
    fn restored_at(&self, version: u64) {
        self.written.store(version, Ordering::Relaxed);
        self.shown.send_replace(version);
        *self.proven.lock() = None;
        self.rewound.send_replace(true);
    }

    async fn await_shown(&self, version: u64, sent: Instant) -> Outcome {
        let mut shown = self.shown.subscribe();
        match timeout(SHOWN_WITHIN, shown.wait_for(|shown| *shown >= version)).await {
            Ok(_) => Outcome::Shown(sent.elapsed()),
            Err(_) => Outcome::Unseen(SHOWN_WITHIN),
        }
    }

    /// Waits until the version of the Lease was compared with the mark of an earlier leader.
    pub async fn compared(&self) {
        // The sender lives as long as this.
        let _ = self.compared.subscribe().wait_for(|compared| *compared).await;
    }

    /// Whether it was compared, and a detected restore was reported.
    pub fn is_compared(&self) -> bool {
        *self.compared.borrow() && !*self.rewound.borrow()
    }

    /// Whether this process renewed it after `since` and found it as it was written before: what was seen of the cluster until
    /// then was not brought back by a restore.
    pub fn is_proven_since(&self, since: Instant) -> bool {
        self.is_compared() && self.proven.lock().is_some_and(|proven| proven >= since)
    }

    /// Waits until a restore of the cluster is detected. Returns at once until [`Canary::told`] is called.
    pub async fn rewound(&self) {
        let _ = self.rewound.subscribe().wait_for(|rewound| *rewound).await;
    }

    /// The detected restore was reported.
    pub fn told(&self) {
        self.rewound.send_replace(false);
    }

    /// The version at which it was written last, as far as that is known.
    pub fn written(&self) -> Option<u64> {
        Some(self.written.load(Ordering::Relaxed)).filter(|version| *version > 0)
    }

    /// Forgets versions: those of a restored cluster are lower.
    pub(super) fn forget_versions(&self) {
        self.written.store(0, Ordering::Relaxed);
        self.shown.send_replace(0);
    }

    /// This process does not renew it any more.
    pub fn rest(&self) {
        *self.renewals.lock() = Renewals::default();
    }

    /// How it is.
    pub fn standing(&self) -> CanaryState {
        self.renewals.lock().standing()
    }

    /// Why the cluster takes no new workspaces.
    pub fn barred(&self) -> Option<String> {
        self.renewals.lock().barred()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary() -> Canary {
        Canary::new("workspaces".parse().unwrap(), None)
    }

    #[test]
    fn only_a_renewal_that_was_sent_later_proves_what_was_seen() {
        let (canary, seen) = (canary(), Instant::now());
        assert!(!canary.is_proven_since(seen), "nothing was renewed yet");
        *canary.proven.lock() = Some(seen);
        assert!(canary.is_proven_since(seen));
        assert!(!canary.is_proven_since(seen + Duration::from_millis(1)));
    }

    #[test]
    fn a_detected_restore_takes_the_proof_back() {
        let (canary, seen) = (canary(), Instant::now());
        canary.take(7);
        *canary.proven.lock() = Some(seen);
        canary.take(5);
        assert!(!canary.is_proven_since(seen));
        canary.told();
        assert!(!canary.is_proven_since(seen), "a later renewal has to prove it again");
    }
}
