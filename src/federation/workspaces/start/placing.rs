//! Decides where a start goes.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::attempt::Attempt;
use crate::fleet::{Fleet, InFlight};
use crate::locks::RegistryLock;
use crate::metrics::metering::Meters;
use crate::view::index::Index;
use crate::workspaces::decisions::Decisions;
use crate::{Error, Result};
use domain::names::ClusterName;
use domain::placement::{self, Rejection, Target};
use domain::workspace::Start;
use store::Term;

/// Where a start goes first.
pub(super) struct Decided<'a> {
    /// Held from the decision to its record, so that no cluster is drained or taken out in between.
    pub(super) registry: tokio::sync::RwLockReadGuard<'a, ()>,
    pub(super) attempt: Attempt<'a>,
    pub(super) target: Arc<Target>,
    pub(super) in_flight: InFlight,
}

/// Decides where starts go, by a snapshot of the fleet.
pub(crate) struct Placing {
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    pub(super) registry: Arc<RegistryLock>,
    decisions: Arc<Decisions>,
    pub(super) meters: Meters,
}

impl Placing {
    /// Among the clusters of `fleet`.
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        registry: Arc<RegistryLock>,
        decisions: Arc<Decisions>,
        meters: Meters,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, index, registry, decisions, meters })
    }

    /// Decides, and reserves capacity at the best cluster. Where none fits yet, and one may once more is known of it, that
    /// is waited for.
    pub(super) async fn decide<'a>(
        &'a self,
        term: &Term,
        start: &'a Start,
        deadline: Instant,
    ) -> Result<Decided<'a>> {
        let mut changes = self.fleet.changes();
        loop {
            changes.borrow_and_update();
            let registry = self.registry.read(deadline.duration_since(Instant::now())).await?;
            let decision = placement::place(&start.placement, &self.fleet.candidates());
            let mut attempt =
                Attempt::new((&self.fleet, &self.index, &self.decisions), start, decision, term.epoch());
            if let Some((target, in_flight)) = attempt.next() {
                return Ok(Decided { registry, attempt, target, in_flight });
            }
            drop(registry);
            if attempt.rejected.iter().any(|(_, why)| why.is_passing()) {
                tokio::select! {
                    changed = changes.changed() => if changed.is_ok() { continue },
                    () = term.ended() => return Err(Error::NotLeader),
                    () = sleep_until(deadline) => {}
                }
            }
            attempt.over(None);
            self.meters.unplaced(&attempt.rejected);
            return Err(unplaceable(start, attempt.rejected));
        }
    }
}

/// Where only maintenance keeps clusters from accepting it, existing clients expect exactly that error.
pub(super) fn unplaceable(start: &Start, verdicts: Vec<(ClusterName, Rejection)>) -> Error {
    let maintained: Vec<&str> = verdicts
        .iter()
        .filter(|(_, rejection)| *rejection == Rejection::Maintenance)
        .map(|(cluster, _)| cluster.as_str())
        .collect();
    if maintained.is_empty() {
        return Error::Unplaceable { id: start.id.clone(), verdicts };
    }
    Error::Maintenance { place: maintained.join(", "), verdicts }
}
