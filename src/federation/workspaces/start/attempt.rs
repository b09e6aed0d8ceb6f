//! Tries the ranked clusters of a decision in turn. Each has its capacity reserved before anything is
//! written.

use std::sync::Arc;

use jiff::Timestamp;

use crate::fleet::{Fleet, InFlight};
use crate::view::index::Index;
use crate::workspaces::decisions::Decisions;
use domain::names::ClusterName;
use domain::placement::explain::Explanation;
use domain::placement::{Decision, Rejection, Score, Target};
use domain::workspace::Start;

/// What is left of a decision to try.
pub(super) struct Attempt<'a> {
    explanation: Option<Explanation>,
    fleet: &'a Fleet,
    index: &'a Index,
    decisions: &'a Decisions,
    start: &'a Start,
    ranked: std::vec::IntoIter<(Arc<Target>, Score)>,
    /// Clusters that do not fit, or did not take it.
    pub(super) rejected: Vec<(ClusterName, Rejection)>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        (fleet, index, decisions): (&'a Fleet, &'a Index, &'a Decisions),
        start: &'a Start,
        decision: Decision,
        epoch: i64,
    ) -> Self {
        let (request, now) = (&start.placement, Timestamp::now());
        let explanation = Some(Explanation::new(&start.id, request, &decision, epoch, now));
        Self {
            explanation,
            fleet,
            index,
            decisions,
            start,
            ranked: decision.ranked.into_iter(),
            rejected: decision.rejected,
        }
    }

    /// The next cluster with available capacity, which is reserved now: concurrent decisions saw it, too.
    pub(super) fn next(&mut self) -> Option<(Arc<Target>, InFlight)> {
        loop {
            let (target, _) = self.ranked.next()?;
            if let Some(rejection) = self.no_longer(&target) {
                self.refused(target.cluster.clone(), rejection);
                continue;
            }
            let Some(connected) = self.fleet.get(&target.cluster) else { continue };
            if let Some(in_flight) = connected.admit(&target, &self.start.id, self.start.kind) {
                return Some((target, in_flight));
            }
            self.refused(target.cluster.clone(), Rejection::Overtaken(target.class.clone()));
        }
    }

    /// What changed at a ranked target since the candidates were read.
    pub(crate) fn no_longer(&self, target: &Target) -> Option<Rejection> {
        if self.index.is_draining(&target.cluster) {
            return Some(Rejection::Draining);
        }
        let serves = self.fleet.serves(&target.cluster, &target.namespace);
        (!serves).then(|| Rejection::Namespace(target.namespace.clone()))
    }

    pub(super) fn refused(&mut self, cluster: ClusterName, why: Rejection) {
        if let Some(explanation) = &mut self.explanation {
            explanation.refused(&cluster, &why);
        }
        self.rejected.push((cluster, why));
    }

    /// Keeps how it came out.
    pub(super) fn over(&mut self, placed: Option<&ClusterName>) {
        if let Some(explanation) = self.explanation.take() {
            let placed = placed.cloned();
            self.decisions.keep(Explanation { placed, ..explanation });
        }
    }
}
