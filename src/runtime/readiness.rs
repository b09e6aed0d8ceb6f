//! Whether the process can serve: named gates that their owners release, and notes on what is degraded.
//!
//! A gate that is dropped without being released stays closed: a watch that never came up must not look ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

/// Shared by everything that has a say. Not ready while it has no gate at all is deliberate: see [`Readiness::report`].
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    gates: BTreeMap<String, bool>,
    degraded: BTreeMap<String, String>,
    closing: bool,
}

/// One condition of readiness, closed until it is released.
#[derive(Debug)]
#[must_use = "a gate that nobody keeps is never released"]
pub struct Gate {
    name: String,
    readiness: Readiness,
}

/// The state as `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether requests are welcome.
    pub ready: bool,
    /// Whether the process is on its way out, which makes it unready.
    pub closing: bool,
    /// The gates by name: released or not.
    pub gates: BTreeMap<String, bool>,
    /// What does not work as it should, without making the process unready.
    pub degraded: BTreeMap<String, String>,
}

impl Readiness {
    /// A new gate, closed. A second gate of the same name closes the first again.
    pub fn gate(&self, name: impl Into<String>) -> Gate {
        let name = name.into();
        self.0.lock().gates.insert(name.clone(), false);
        Gate { name, readiness: self.clone() }
    }

    /// Notes that something is degraded. The reason is shown to whoever asks: no secrets in it.
    pub fn degrade(&self, what: impl Into<String>, reason: impl Into<String>) {
        self.0.lock().degraded.insert(what.into(), reason.into());
    }

    /// Takes a note back.
    pub fn recover(&self, what: &str) {
        self.0.lock().degraded.remove(what);
    }

    /// Unready from now on: load balancers are to look elsewhere while the process drains.
    pub fn close(&self) {
        self.0.lock().closing = true;
    }

    /// The state now. Without any gate it is not ready: nothing has been set up yet.
    pub fn report(&self) -> Report {
        let state = self.0.lock();
        Report {
            ready: !state.closing
                && !state.gates.is_empty()
                && state.gates.values().all(|released| *released),
            closing: state.closing,
            gates: state.gates.clone(),
            degraded: state.degraded.clone(),
        }
    }
}

impl Gate {
    /// Opens the gate for good.
    pub fn release(self) {
        self.readiness.0.lock().gates.insert(self.name, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_gate_is_released() {
        let readiness = Readiness::default();
        assert!(!readiness.report().ready, "nothing is set up yet");
        let (etcd, api) = (readiness.gate("etcd"), readiness.gate("api"));
        etcd.release();
        assert!(!readiness.report().ready);
        api.release();
        assert!(readiness.report().ready);
    }

    #[test]
    fn a_dropped_gate_stays_closed() {
        let readiness = Readiness::default();
        drop(readiness.gate("etcd"));
        assert!(!readiness.report().ready);
    }

    #[test]
    fn degraded_is_shown_and_changes_nothing() {
        let readiness = Readiness::default();
        readiness.gate("api").release();
        readiness.degrade("cluster eu-1", "lost for 40s");
        let report = readiness.report();
        assert!(report.ready);
        assert_eq!(report.degraded["cluster eu-1"], "lost for 40s");
        readiness.recover("cluster eu-1");
        assert!(readiness.report().degraded.is_empty());
    }

    #[test]
    fn closing_makes_unready() {
        let readiness = Readiness::default();
        readiness.gate("api").release();
        readiness.close();
        assert!(!readiness.report().ready);
    }
}
