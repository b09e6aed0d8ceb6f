//! Placement: `place(request, candidates) -> Decision`. It filters clusters, each rejection with a reason, and ranks the rest by
//! score.
//!
//! It is pure and deterministic: equal requests and candidates give equal decisions.

mod candidate;
pub mod capacity;
pub mod explain;
mod filter;
mod request;
mod score;
mod simulate;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use super::names::ClusterName;

pub use candidate::{AvailableByKind, Candidate, CandidateNamespace, Offer, Target};
pub use filter::Rejection;
pub use request::PlacementRequest;
pub use score::Score;
pub use simulate::{Forecast, MOST_STARTS, Outcome, simulate};

/// Attempts within the deadline of a start, each at another cluster.
const TRIES: u32 = 3;
/// Shortest deadline of an attempt.
const LEAST_TRY: Duration = Duration::from_secs(1);

/// Deadline of one attempt to create a Workspace, where `deadline` is that of the whole start; in whole milliseconds.
pub fn one_try(deadline: Duration) -> Duration {
    let millis = u64::try_from((deadline / TRIES).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis).max(LEAST_TRY)
}

/// A verdict for every candidate, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Clusters that fit, best first.
    pub ranked: Vec<(Arc<Target>, Score)>,
    /// Rejected clusters with the reason, by name.
    pub rejected: Vec<(ClusterName, Rejection)>,
}

/// Filters and ranks the candidates.
pub fn place<C: Borrow<Candidate>>(request: &PlacementRequest, candidates: &[C]) -> Decision {
    let mut decision = Decision { ranked: Vec::with_capacity(candidates.len()), rejected: Vec::new() };
    for candidate in candidates {
        let candidate = candidate.borrow();
        match filter::admit(request, candidate) {
            Ok(offer) => {
                let score = Score::of(request, candidate, offer);
                decision.ranked.push((Arc::clone(&offer.target), score));
            }
            Err(rejection) => decision.rejected.push((candidate.name.clone(), rejection)),
        }
    }
    // The name last, so that two clusters are never equal.
    decision.ranked.sort_unstable_by(|(target, a), (other, b)| {
        a.cmp(b).then_with(|| target.cluster.cmp(&other.cluster))
    });
    decision.rejected.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    decision
}
