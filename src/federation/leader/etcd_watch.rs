//! The watches of etcd that every replica runs: placement records into the index, drains, and registrations into the fleet.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::progress::WatchProgress;
use crate::clusters::drain::known::KnownDrains;
use crate::clusters::notes::Notes;
use crate::clusters::observed::Observations;
use crate::fleet::Fleet;
use crate::view::index::Index;
use crate::workspaces::settle::queue::Queue;
use domain::names::{ClusterName, WorkspaceId};
use domain::record::PlacementRecord;
use store::{ClusterEntry, MirrorEvent, Sealer, Store};

/// Keeps the records of the index.
pub struct PlacementWatch {
    store: Store,
    index: Arc<Index>,
    queue: Queue,
    progress: Arc<WatchProgress>,
}

impl PlacementWatch {
    pub(crate) fn new(
        store: Store,
        index: Arc<Index>,
        queue: Queue,
        progress: Arc<WatchProgress>,
    ) -> Arc<Self> {
        Arc::new(Self { store, index, queue, progress })
    }

    /// Keeps the index's records until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut mirror = self.store.mirror_placements();
        self.progress.follow_placements(mirror.progress());
        while let Some(event) = shutdown.run_until_cancelled(mirror.next()).await {
            match event {
                MirrorEvent::Reset { items, revision } => {
                    let all: Vec<_> = items.into_iter().map(|item| (item.value, item.version)).collect();
                    let is_news = |(record, version): &&(PlacementRecord, i64)| {
                        self.index.record_of(&record.workspace).is_none_or(|(_, known)| known < *version)
                    };
                    let news: Vec<_> =
                        all.iter().filter(is_news).map(|(record, _)| record.workspace.clone()).collect();
                    self.index.records_are(all, revision);
                    for id in &news {
                        self.queue.push(id);
                    }
                }
                MirrorEvent::Put(item) => {
                    // Also a claim whose answer was lost: someone must see whether anything comes of it.
                    let id = item.value.workspace.clone();
                    self.index.record(item.value, item.version);
                    self.queue.push(&id);
                }
                MirrorEvent::Delete { key, version } => {
                    if let Ok(id) = key.parse::<WorkspaceId>() {
                        self.index.record_gone(&id, version);
                    }
                }
                MirrorEvent::Unreadable { key, error, .. } => {
                    tracing::error!(key, %error, "a placement record cannot be read");
                }
            }
        }
    }
}

/// Keeps the drains.
pub struct DrainWatch {
    store: Store,
    drains: Arc<KnownDrains>,
}

impl DrainWatch {
    pub(crate) fn new(store: Store, drains: Arc<KnownDrains>) -> Arc<Self> {
        Arc::new(Self { store, drains })
    }

    /// Keeps the drains until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut mirror = self.store.mirror_drains();
        self.drains.progress.send_replace(Some(mirror.progress()));
        while let Some(event) = shutdown.run_until_cancelled(mirror.next()).await {
            match event {
                MirrorEvent::Reset { items, revision } => self.drains.are(items, revision),
                MirrorEvent::Put(item) => self.drains.put(item.value, item.version),
                MirrorEvent::Delete { key, version } => {
                    if let Ok(name) = key.parse::<ClusterName>() {
                        self.drains.gone(&name, version);
                    }
                }
                MirrorEvent::Unreadable { key, error, .. } => {
                    tracing::error!(key, %error, "a drain cannot be read");
                }
            }
        }
    }
}

/// Keeps the members of the fleet, and what leaders noted of them.
pub struct RegistrationWatch {
    store: Store,
    sealer: Arc<Sealer>,
    fleet: Arc<Fleet>,
    observations: Arc<Observations>,
    notes: Arc<Notes>,
    progress: Arc<WatchProgress>,
}

impl RegistrationWatch {
    pub(crate) fn new(
        store: Store,
        sealer: Arc<Sealer>,
        fleet: Arc<Fleet>,
        observations: Arc<Observations>,
        notes: Arc<Notes>,
        progress: Arc<WatchProgress>,
    ) -> Arc<Self> {
        Arc::new(Self { store, sealer, fleet, observations, notes, progress })
    }

    /// Keeps the fleet's members until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut mirror = self.store.mirror_clusters();
        self.progress.follow_registrations(mirror.progress());
        while let Some(event) = shutdown.run_until_cancelled(mirror.next()).await {
            match event {
                MirrorEvent::Reset { items, revision } => {
                    let mut named = Vec::with_capacity(items.len());
                    // Before anything of a cluster is listed.
                    for item in &items {
                        self.observations.observed(&item.value, item.version);
                    }
                    for item in items {
                        named.extend(self.entry(item.value, item.version));
                    }
                    self.notes.forget(revision, |name| !named.contains(name));
                    self.fleet.keep_only(&named);
                }
                MirrorEvent::Put(item) => {
                    self.observations.observed(&item.value, item.version);
                    self.entry(item.value, item.version);
                }
                MirrorEvent::Delete { key, version } => {
                    let name = key.strip_suffix("/spec").and_then(|name| name.parse::<ClusterName>().ok());
                    if let Some(name) = name {
                        self.notes.forget(version, |known| *known == name);
                        self.fleet.removed(&name);
                    }
                }
                MirrorEvent::Unreadable { key, error, .. } => {
                    tracing::error!(key, %error, "a cluster's entry cannot be read");
                }
            }
        }
    }

    /// Takes a registration into the fleet; its name.
    fn entry(&self, entry: ClusterEntry, version: i64) -> Option<ClusterName> {
        let ClusterEntry::Spec(stored) = entry else { return None };
        let name = stored.spec.name.clone();
        match stored.open(&self.sealer, version) {
            Ok(registration) => self.fleet.put(registration),
            Err(error) => {
                let reason = format!("its kubeconfig cannot be unsealed: {error}");
                self.fleet.put_broken(stored.spec, stored.api_server, version, reason);
            }
        }
        Some(name)
    }
}
