//! Plan of a drain: what happens to each workspace, and an estimate of its end.

use std::borrow::Borrow;

use jiff::{SignedDuration, Timestamp};

use super::{Drain, Options, Resident, Stage, add};
use crate::names::ClusterName;
use crate::placement::{Candidate, PlacementRequest, Rejection, place};
use crate::workspace::Phase;

/// What a drain does to a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Headless: it runs to its end.
    Finishes,
    /// Not stopped before this time; `None`: never.
    LeftAlone(Option<Timestamp>),
    /// Due, and waits for the rate or concurrency limit.
    Due,
    /// Due, but no other cluster has available capacity for it.
    NoRoom,
    /// Being stopped.
    Stopping,
}

impl Fate {
    /// Whether the workspace needs a place elsewhere when its user starts it again: it ends because of the drain. One that
    /// runs to its end, or is being stopped already, does not.
    pub fn is_displaced(self) -> bool {
        match self {
            Self::LeftAlone(_) | Self::Due | Self::NoRoom => true,
            Self::Finishes | Self::Stopping => false,
        }
    }
}

/// The cluster that could take a workspace, or the rejections of all clusters.
pub type Room = Result<ClusterName, Vec<(ClusterName, Rejection)>>;

/// A workspace of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The workspace.
    pub resident: Resident,
    /// What the drain does to it.
    pub fate: Fate,
    /// The cluster that could take its next start, or the rejections of all clusters; `None` if the drain does not displace
    /// it.
    pub room: Option<Room>,
}

impl Drain {
    /// What the drain does to a workspace.
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

/// The cluster that could take each workspace, where each one reduces the capacity for the next. `without` is the cluster that
/// is drained.
pub fn rooms<C: Borrow<Candidate>>(
    requests: &[PlacementRequest],
    candidates: &[C],
    without: &ClusterName,
) -> Vec<Room> {
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

/// Estimated end of the drain; `None` if workspaces are never stopped or run to their end.
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
    // In the worst case all are due at the deadline.
    let Options { rate, .. } = drain.options;
    let turns = SignedDuration::from_millis(60_000).saturating_mul(turns)
        / i32::try_from(rate.max(1)).unwrap_or(i32::MAX);
    Some(add(latest, turns))
}
