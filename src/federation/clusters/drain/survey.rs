//! Which workspaces are in a cluster, and whether other clusters have capacity for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::view::index::{Index, Placed};
use domain::drain::{Drain, Fate, Resident, Row, rooms};
use domain::names::{ClassId, ClusterName, WorkspaceId};
use domain::placement::{Candidate, PlacementRequest, place};
use domain::workspace::{Kind, Phase};

/// The workspaces of a cluster and the fleet around it, as they are now.
pub(super) struct Survey {
    cluster: ClusterName,
    placed: Vec<Placed>,
    candidates: Vec<Arc<Candidate>>,
    /// Classes that no other cluster could take one more of.
    no_room: BTreeSet<String>,
}

impl Survey {
    pub(super) fn of(fleet: &Fleet, index: &Index, cluster: &ClusterName) -> Self {
        let placed = index.residents(cluster);
        let candidates = fleet.candidates();
        let mut survey = Self { cluster: cluster.clone(), placed, candidates, no_room: BTreeSet::new() };
        let classes: BTreeMap<&str, &Placed> =
            survey.placed.iter().filter_map(|one| Some((one.1.as_ref()?.class.as_str(), one))).collect();
        let others: Vec<Arc<Candidate>> =
            survey.candidates.iter().filter(|one| one.name != *cluster).cloned().collect();
        let full =
            classes.into_iter().filter(|(_, one)| place(&survey.request(one), &others).ranked.is_empty());
        survey.no_room = full.map(|(class, _)| class.to_owned()).collect();
        survey
    }

    pub(super) fn residents(&self) -> Vec<Resident> {
        self.placed.iter().map(resident).collect()
    }

    /// Whether another cluster could take one more like this workspace.
    pub(super) fn has_room(&self, id: &WorkspaceId) -> bool {
        // Workspaces are in the order of their ids.
        let at = self.placed.binary_search_by(|(record, _)| record.workspace.cmp(id));
        let view = at.ok().and_then(|at| self.placed[at].1.as_ref());
        view.is_none_or(|view| !self.no_room.contains(view.class.as_str()))
    }

    /// The fate of each workspace, with its owner.
    pub(super) fn rows(&self, drain: &Drain, now: Timestamp) -> Vec<(Row, String)> {
        let fates = self.fates(drain, now);
        let displaced = self.placed.iter().zip(&fates).filter(|(_, fate)| fate.is_displaced());
        let requests: Vec<PlacementRequest> = displaced.map(|(one, _)| self.request(one)).collect();
        let mut rooms = rooms(&requests, &self.candidates, &self.cluster).into_iter();
        let row = |(one, fate): (&Placed, Fate)| {
            let room = if fate.is_displaced() { rooms.next() } else { None };
            (Row { resident: resident(one), fate, room }, one.0.owner.to_string())
        };
        self.placed.iter().zip(fates).map(row).collect()
    }

    pub(super) fn fates(&self, drain: &Drain, now: Timestamp) -> Vec<Fate> {
        let fate = |one: &Placed| drain.fate(&resident(one), self.has_room(&one.0.workspace), now);
        self.placed.iter().map(fate).collect()
    }

    /// A start that asks for what the workspace has. What its owner may is not recorded: whatever its cluster demands.
    fn request(&self, (record, view): &Placed) -> PlacementRequest {
        let here = self.candidates.iter().find(|one| one.name == self.cluster);
        let demanded =
            here.map(|here| here.constraints.iter().filter_map(|one| one.permission())).into_iter();
        PlacementRequest {
            regions: here.map(|here| here.region.clone()).into_iter().collect(),
            permissions: demanded.flatten().map(str::to_owned).collect(),
            class: view.as_ref().and_then(|view| view.class.parse::<ClassId>().ok()),
            kind: view.as_ref().map(|view| view.kind).unwrap_or_default(),
            seed: record.workspace.to_string(),
            ..PlacementRequest::default()
        }
    }
}

fn resident((record, view): &Placed) -> Resident {
    let id = record.workspace.clone();
    let Some(view) = view else {
        // Recorded and not seen yet: it is coming, and nothing can be said of it.
        return Resident {
            id,
            kind: Kind::Regular,
            phase: Phase::Pending,
            idle_since: None,
            closed: false,
            stop_asked: false,
        };
    };
    Resident {
        id,
        kind: view.kind,
        phase: view.phase,
        idle_since: view.last_activity.or(view.created_at),
        closed: view.conditions.closed,
        stop_asked: view.conditions.stopped_by_request || view.deleting,
    }
}
