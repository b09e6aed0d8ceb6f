//! Readiness of the process: named gates that their owners release, and notes about degraded parts.
//!
//! A gate that is dropped without release stays closed: a watch that never started must not look ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

/// Shared state of readiness. Without any gate it is not ready on purpose, see [`Readiness::report`].
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

/// The state that `/readyz` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the process accepts requests.
    pub ready: bool,
    /// Whether the process is shutting down, which makes it unready.
    pub closing: bool,
    /// Gates by name, and whether they are released.
    pub gates: BTreeMap<String, bool>,
    /// Degraded parts by name, with the reason; they do not make the process unready.
    pub degraded: BTreeMap<String, String>,
}

impl Readiness {
    /// A new gate, closed. A second gate of the same name closes the first again.
    pub fn gate(&self, name: impl Into<String>) -> Gate {
        let name = name.into();
        self.0.lock().gates.insert(name.clone(), false);
        Gate { name, readiness: self.clone() }
    }

    /// Marks a part as degraded. The reason is public, so it must not contain secrets.
    pub fn degrade(&self, what: impl Into<String>, reason: impl Into<String>) {
        self.0.lock().degraded.insert(what.into(), reason.into());
    }

    /// Marks a part as no longer degraded.
    pub fn recover(&self, what: &str) {
        self.0.lock().degraded.remove(what);
    }

    /// Makes the process unready for good, so that load balancers stop sending requests during the shutdown.
    pub fn close(&self) {
        self.0.lock().closing = true;
    }

    /// Current state. Without any gate it is not ready, because nothing has been set up yet.
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
    /// Releases the gate for good.
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
