//! What a drain means to each workspace, and how long it takes.

use std::borrow::Borrow;

use jiff::{SignedDuration, Timestamp};

use super::{Drain, Options, Resident, Stage, add};
use crate::names::ClusterName;
use crate::placement::{Candidate, PlacementRequest, Rejection, place};
use crate::workspace::Phase;

/// What a drain does about a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A headless one: it runs to its end.
    Finishes,
    /// Left alone until then, or for good.
    LeftAlone(Option<Timestamp>),
    /// Due, and waits for its turn.
    Due,
    /// Due, and no other cluster could take it.
    NoRoom,
    /// It stops already.
    Stopping,
}

/// A workspace of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The workspace.
    pub resident: Resident,
    /// What the drain does about it.
    pub fate: Fate,
    /// Where it could go; where nowhere, why.
    pub room: Result<ClusterName, Vec<(ClusterName, Rejection)>>,
}

impl Drain {
    /// What the drain does about a workspace.
    pub fn fate(&self, resident: &Resident, room: bool, now: Timestamp) -> Fate {
        if self.stopping.contains_key(&resident.id)
            || resident.stop_asked
            || matches!(resident.phase, Phase::Stopping | Phase::Stopped)
        {
            return Fate::Stopping;
        }
        if resident.kind.is_headless() {
            return Fate::Finishes;
        }
        match self.due_at(resident) {
            Some(at) if at <= now && !room && !self.options.accept_no_room => Fate::NoRoom,
            Some(at) if at <= now => Fate::Due,
            at => Fate::LeftAlone(at),
        }
    }
}

/// Where each workspace could go, one after the other: each takes its place before the next is asked about. `without`
/// is the cluster that they leave.
pub fn rooms<C: Borrow<Candidate>>(
    requests: &[PlacementRequest],
    candidates: &[C],
    without: &ClusterName,
) -> Vec<Result<ClusterName, Vec<(ClusterName, Rejection)>>> {
    let others = candidates.iter().map(C::borrow).filter(|one| one.name != *without);
    let mut left: Vec<Candidate> = others.cloned().collect();
    let one = |request: &PlacementRequest| {
        let decision = place(request, &left);
        let Some((target, _)) = decision.ranked.into_iter().next() else { return Err(decision.rejected) };
        if let Some(taken) = left.iter_mut().find(|one| one.name == target.cluster) {
            taken.take(request.kind, &target.class);
        }
        Ok(target.cluster.clone())
    };
    requests.iter().map(one).collect()
}

/// When the drain ends, as far as that can be told: not where workspaces are left alone for good or run to their end.
pub fn estimate(drain: &Drain, fates: &[Fate], now: Timestamp) -> Option<Timestamp> {
    if drain.stage != Stage::Draining || drain.held() > 0 {
        return None;
    }
    let mut latest = now;
    let mut turns: i32 = 0;
    for fate in fates {
        match fate {
            Fate::Finishes | Fate::LeftAlone(None) | Fate::NoRoom => return None,
            Fate::LeftAlone(Some(at)) => {
                latest = latest.max(*at);
                turns = turns.saturating_add(1);
            }
            Fate::Due => turns = turns.saturating_add(1),
            Fate::Stopping => {}
        }
    }
    // At worst all of them are due together, at the last moment.
    let Options { rate, .. } = drain.options;
    let turns = SignedDuration::from_millis(60_000).saturating_mul(turns)
        / i32::try_from(rate.max(1)).unwrap_or(i32::MAX);
    Some(add(latest, turns))
}
