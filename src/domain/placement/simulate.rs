//! Simulates the placement of many starts, by the same rules, over the current state of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::capacity::Available;
use super::{Candidate, PlacementRequest, Rejection, place};
use crate::names::{ClassId, ClusterName};
use crate::workspace::Kind;

/// Upper bound of the starts of a forecast.
pub const MOST_STARTS: u32 = 10_000;

/// Result for a number of equal starts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    /// Result of each cluster.
    pub clusters: BTreeMap<ClusterName, Outcome>,
    /// Number of starts that every cluster rejects.
    pub left_over: u32,
}

/// Result of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Number of starts placed there.
    pub placed: u32,
    /// The first start that it rejects (from 1), and why.
    pub refuses_from: Option<(u32, Rejection)>,
    /// Why it comes after all clusters for which this is `None`.
    pub last_choice: Option<String>,
}

/// Places `count` starts one after the other. Each reduces the available capacity of every namespace of its cluster, because
/// namespaces share nodes: the forecast for clusters with several namespaces is an underestimate.
pub fn simulate(request: &PlacementRequest, candidates: &[Arc<Candidate>], count: u32) -> Forecast {
    let mut fleet: Vec<Candidate> = candidates.iter().map(|candidate| Candidate::clone(candidate)).collect();
    let mut forecast = Forecast::default();
    for candidate in &fleet {
        forecast.clusters.insert(candidate.name.clone(), Outcome::default());
    }
    for nth in 1..=count {
        let request = PlacementRequest { seed: format!("{}{nth}", request.seed), ..request.clone() };
        let decision = place(&request, &fleet);
        for (cluster, rejection) in decision.rejected {
            let outcome = forecast.clusters.entry(cluster).or_default();
            outcome.refuses_from.get_or_insert((nth, rejection));
        }
        for (target, _) in decision.ranked.iter().filter(|(_, score)| score.last_choice > 0) {
            let outcome = forecast.clusters.entry(target.cluster.clone()).or_default();
            let candidate = fleet.iter().find(|candidate| candidate.name == target.cluster);
            let why = candidate.and_then(|candidate| candidate.last_choice(&target.namespace));
            outcome.last_choice = outcome.last_choice.take().or_else(|| why.map(str::to_owned));
        }
        let Some((target, _)) = decision.ranked.first() else {
            forecast.left_over = count - nth + 1;
            return forecast;
        };
        forecast.clusters.entry(target.cluster.clone()).or_default().placed += 1;
        if let Some(taken) = fleet.iter_mut().find(|candidate| candidate.name == target.cluster) {
            taken.take(request.kind, &target.class);
        }
    }
    forecast
}

impl Candidate {
    /// Counts one more workspace. It reduces the available capacity of every namespace, because namespaces share nodes.
    pub fn take(&mut self, kind: Kind, class: &ClassId) {
        self.placed += 1;
        for namespace in &mut self.namespaces {
            if let Some(offer) = namespace.offers.get_mut(class)
                && let Available::Counted { left, .. } = offer.rooms.of_mut(kind)
            {
                *left = left.saturating_sub(1);
            }
        }
    }
}
