//! The use cases about workspaces.

use std::sync::Arc;

use super::base::Base;
use crate::federation::Workspaces;
use crate::workspaces::adopt::claims::Claims;
use crate::workspaces::adopt::relocate::Relocation;
use crate::workspaces::adopt::site::Sites;
use crate::workspaces::adopt::{Adopting, Discarding};
use crate::workspaces::builders::Builders;
use crate::workspaces::changes::Changes;
use crate::workspaces::diff::Comparison;
use crate::workspaces::explain::Explanations;
use crate::workspaces::forget::GivingUp;
use crate::workspaces::hosts::Hosts;
use crate::workspaces::logs::Logs;
use crate::workspaces::orphans::Orphans;
use crate::workspaces::ownership::Ownership;
use crate::workspaces::queries::Queries;
use crate::workspaces::records::Records;
use crate::workspaces::sessions::Sessions;
use crate::workspaces::snapshots::Snapshots;
use crate::workspaces::start::Starts;
use crate::workspaces::start::create::Creation;
use crate::workspaces::start::placing::Placing;
use crate::workspaces::start::repeat::Repeats;

/// What several use cases about workspaces share.
pub(super) struct Shared {
    pub(super) records: Arc<Records>,
    pub(super) ownership: Arc<Ownership>,
    hosts: Arc<Hosts>,
    comparison: Arc<Comparison>,
}

impl Shared {
    pub(super) fn new(base: &Base) -> Self {
        let Base { store, index, fleet, options, installation, .. } = base;
        let (store, installation) = (store.clone(), installation.clone());
        Self {
            records: Records::new(store.clone(), index.clone(), fleet.clone(), options.tombstone_life),
            ownership: Ownership::new(installation.clone()),
            hosts: Hosts::new(fleet.clone(), index.clone()),
            comparison: Comparison::new(fleet.clone(), index.clone(), store, installation),
        }
    }
}

pub(super) fn workspaces(base: &Base, shared: &Shared) -> Workspaces {
    let Base { leadership, store, fleet, index, locks, .. } = base;
    let Shared { records, ownership, comparison, .. } = shared;
    let queries = Queries::new(index.clone());
    let orphans = Orphans::new(fleet.clone(), index.clone(), ownership.clone(), base.installation.clone());
    let sites = Sites::new(locks.clone(), records.clone(), comparison.clone());
    Workspaces {
        starts: starts(base, shared),
        changes: Changes::new(
            leadership.clone(),
            locks.clone(),
            records.clone(),
            fleet.clone(),
            ownership.clone(),
            orphans.clone(),
        ),
        snapshots: Snapshots::new(
            leadership.clone(),
            records.clone(),
            queries.clone(),
            fleet.clone(),
            orphans,
        ),
        logs: Logs::new(queries.clone(), fleet.clone()),
        sessions: Sessions::new(queries.clone(), fleet.clone()),
        builders: Builders::new(fleet.clone(), base.options.image_builder.clone()),
        explanations: Explanations::new(
            leadership.clone(),
            store.clone(),
            base.decisions.clone(),
            fleet.clone(),
        ),
        comparison: comparison.clone(),
        adopting: adopting(base, shared, sites.clone()),
        discarding: Discarding::new(leadership.clone(), fleet.clone(), comparison.clone(), sites),
        giving_up: GivingUp::new(
            leadership.clone(),
            fleet.clone(),
            store.clone(),
            index.clone(),
            locks.clone(),
            records.clone(),
        ),
        queries,
    }
}

fn starts(base: &Base, shared: &Shared) -> Arc<Starts> {
    let Base { fleet, index, registry, decisions, meters, keyed, .. } = base;
    let Shared { records, ownership, hosts, .. } = shared;
    let placing =
        Placing::new(fleet.clone(), index.clone(), registry.clone(), decisions.clone(), meters.clone());
    let creation = Creation::new(
        (fleet.clone(), index.clone()),
        base.queue.clone(),
        meters.clone(),
        keyed.clone(),
        base.installation.clone(),
        base.options.placement_deadline,
    );
    let repeats = Repeats::new(
        fleet.clone(),
        index.clone(),
        records.clone(),
        ownership.clone(),
        creation.clone(),
        keyed.clone(),
    );
    Starts::new(
        base.leadership.clone(),
        base.locks.clone(),
        records.clone(),
        hosts.clone(),
        placing,
        creation,
        repeats,
    )
}

fn adopting(base: &Base, shared: &Shared, sites: Arc<Sites>) -> Arc<Adopting> {
    let Base { leadership, fleet, index, locks, registry, queue, .. } = base;
    let Shared { records, hosts, comparison, .. } = shared;
    let claims = Claims::new(records.clone(), index.clone(), hosts.clone(), registry.clone());
    let relocation =
        Relocation::new(records.clone(), comparison.clone(), locks.clone(), registry.clone(), queue.clone());
    Adopting::new(
        leadership.clone(),
        fleet.clone(),
        comparison.clone(),
        sites,
        claims,
        relocation,
        queue.clone(),
    )
}
