//! Builds the use cases and connects them. Nothing runs yet.

mod base;
mod callbacks;
mod clusters;
mod leader;
mod parts;
mod stored;
mod workspaces;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::base::Base;
use crate::clusters::observed::Observations;
use crate::clusters::records::ClusterRecords;
use crate::federation::{Clusters, Federation};
use crate::leader::cluster_events::ClusterEvents;
use crate::metrics::clusters::ClusterSources;
use crate::metrics::fleet::FleetSources;
use crate::metrics::replica::ReplicaSources;

pub use self::parts::{Options, Parts};

impl Federation {
    /// Builds the use cases of a process.
    pub fn new(mut parts: Parts) -> Arc<Self> {
        let content = parts.content.take();
        let base = Base::new(parts);
        let shared = workspaces::Shared::new(&base);
        let records = ClusterRecords::new(base.store.clone(), base.sealer.clone());
        let observations =
            Observations::new(base.store.clone(), base.notes.clone(), base.fleet.clone(), base.index.clone());
        let workspaces = workspaces::workspaces(&base, &shared);
        let clusters = clusters::clusters(&base, &records);
        let events = leader::events(&base, &clusters);
        let both = (&workspaces, &clusters);
        let tasks = leader::tasks(&base, &shared, both, &records, &observations, &events);
        let watches = leader::watches(&base, &observations);
        Arc::new(Self {
            measured: measured(&base, &clusters, events),
            leader: leader::leader(&base, tasks, &watches.progress),
            stored: stored::stored(&base, content),
            leadership: base.leadership,
            store: base.store,
            index: base.index,
            fleet: base.fleet,
            meters: base.meters,
            workspaces,
            clusters,
            watches,
            closing: CancellationToken::new(),
        })
    }
}

fn measured(base: &Base, clusters: &Clusters, events: Arc<ClusterEvents>) -> FleetSources {
    FleetSources {
        leadership: base.leadership.clone(),
        views: clusters.views.clone(),
        drains: clusters.drains.clone(),
        replica: ReplicaSources {
            index: base.index.clone(),
            queue: base.queue.clone(),
            decisions: base.decisions.clone(),
            events,
        },
        clusters: ClusterSources {
            index: base.index.clone(),
            fleet: base.fleet.clone(),
            meters: base.meters.clone(),
            notes: base.notes.clone(),
        },
    }
}
