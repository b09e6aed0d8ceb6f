//! The leader's tasks and the watches of etcd.

use std::sync::Arc;

use super::base::Base;
use super::workspaces::Shared;
use crate::clusters::addresses::Addresses;
use crate::clusters::drain::runner::DrainRunner;
use crate::clusters::observed::Observations;
use crate::clusters::records::ClusterRecords;
use crate::clusters::restore_detection::RestoreDetection;
use crate::federation::{Clusters, Watches, Workspaces};
use crate::leader::cluster_events::ClusterEvents;
use crate::leader::etcd_watch::{DrainWatch, PlacementWatch, RegistrationWatch};
use crate::leader::progress::WatchProgress;
use crate::leader::reencryption::Reencryption;
use crate::leader::sweeps::Sweeps;
use crate::leader::tasks::{Leader, Tasks};
use crate::workspaces::orphan_secrets::OrphanSecrets;
use crate::workspaces::settle::Settling;

pub(super) fn watches(base: &Base, observations: &Arc<Observations>) -> Watches {
    let Base { store, fleet, index, .. } = base;
    let progress = WatchProgress::new(base.drains.clone());
    Watches {
        placements: PlacementWatch::new(store.clone(), index.clone(), base.queue.clone(), progress.clone()),
        drains: DrainWatch::new(store.clone(), base.drains.clone()),
        registrations: RegistrationWatch::new(
            store.clone(),
            base.sealer.clone(),
            fleet.clone(),
            observations.clone(),
            base.notes.clone(),
            progress.clone(),
        ),
        progress,
    }
}

pub(super) fn events(base: &Base, clusters: &Clusters) -> Arc<ClusterEvents> {
    let (drains, views) = (clusters.drains.clone(), clusters.views.clone());
    ClusterEvents::new(base.fleet.clone(), base.drains.clone(), drains, views)
}

pub(super) fn leader(base: &Base, tasks: Tasks, progress: &Arc<WatchProgress>) -> Arc<Leader> {
    Leader::new(
        base.leadership.clone(),
        base.fleet.clone(),
        base.store.clone(),
        base.sealer.clone(),
        base.keyed.clone(),
        progress.clone(),
        tasks,
    )
}

pub(super) fn tasks(
    base: &Base,
    shared: &Shared,
    (workspaces, clusters): (&Workspaces, &Clusters),
    records: &Arc<ClusterRecords>,
    observations: &Arc<Observations>,
    events: &Arc<ClusterEvents>,
) -> Tasks {
    let Base { store, fleet, index, locks, .. } = base;
    Tasks {
        settling: Settling::new(
            shared.records.clone(),
            index.clone(),
            fleet.clone(),
            locks.clone(),
            base.queue.clone(),
            shared.ownership.clone(),
            workspaces.changes.clone(),
        ),
        sweeps: Sweeps::new(store.clone(), clusters.deregistration.clone(), clusters.secret.clone()),
        orphan_secrets: OrphanSecrets::new(
            fleet.clone(),
            index.clone(),
            locks.clone(),
            base.installation.clone(),
            base.options.leftover_age,
        ),
        drains: DrainRunner::new(
            store.clone(),
            base.drains.clone(),
            fleet.clone(),
            index.clone(),
            locks.clone(),
            workspaces.changes.clone(),
        ),
        decisions: base.decisions.clone(),
        reencryption: Reencryption::new(store.clone(), base.sealer.clone()),
        restores: RestoreDetection::new(index.clone(), observations.clone()),
        addresses: Addresses::new(fleet.clone(), records.clone()),
        events: events.clone(),
        observations: observations.clone(),
    }
}
