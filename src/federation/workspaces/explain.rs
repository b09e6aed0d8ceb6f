//! Explains why a workspace was placed where it is, and forecasts placements.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::workspaces::decisions::Decisions;
use crate::{Error, Result};
use domain::names::{ClusterName, WorkspaceId};
use domain::placement::explain::Explanation;
use domain::placement::{Candidate, Forecast, PlacementRequest, simulate};
use store::Store;

/// Explains placements that were decided, and forecasts others.
pub struct Explanations {
    leadership: Arc<Leadership>,
    store: Store,
    decisions: Arc<Decisions>,
    fleet: Arc<Fleet>,
}

impl Explanations {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        store: Store,
        decisions: Arc<Decisions>,
        fleet: Arc<Fleet>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, store, decisions, fleet })
    }

    /// Why a workspace is where it is, or why it is nowhere.
    pub async fn explain(&self, id: &WorkspaceId) -> Result<Arc<Explanation>> {
        if self.leadership.term().is_ok()
            && let Some(known) = self.decisions.get(id)
        {
            return Ok(known);
        }
        let kept = self.store.decision(id).await?;
        kept.map(Arc::new).ok_or_else(|| Error::NoDecision(id.clone()))
    }

    /// What would become of so many starts now, without some clusters and with other weights.
    pub fn forecast(
        &self,
        request: &PlacementRequest,
        count: u32,
        without: &[ClusterName],
        weights: &BTreeMap<ClusterName, u32>,
    ) -> Result<Forecast> {
        let mut candidates = self.fleet.candidates();
        let known = |name: &ClusterName| candidates.iter().any(|candidate| candidate.name == *name);
        if let Some(unknown) = without.iter().chain(weights.keys()).find(|name| !known(name)) {
            return Err(Error::NoCluster(unknown.clone()));
        }
        candidates.retain(|candidate| !without.contains(&candidate.name));
        for candidate in &mut candidates {
            if let Some(weight) = weights.get(&candidate.name) {
                *candidate = Arc::new(Candidate { weight: *weight, ..Candidate::clone(candidate) });
            }
        }
        Ok(simulate(request, &candidates, count))
    }
}
