//! Mirrors all records of one kind from etcd: all of them, then every change in order.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    Error, Store,
    keys::Keys,
    list_watch::{Change, Entry, ListWatch},
    mirrored::{Item, Mirrored},
    registration::ClusterEntry,
};
use domain::{drain::Drain, record::PlacementRecord};

/// A change of the records.
#[derive(Debug)]
pub enum MirrorEvent<T> {
    /// All records; replaces earlier state. It comes first, and again if etcd's history was lost.
    Reset {
        /// All records.
        items: Vec<Item<T>>,
        /// The etcd revision of the list.
        revision: i64,
    },
    /// A record is new or changed.
    Put(Item<T>),
    /// A record is gone.
    Delete {
        /// As in [`Item::key`].
        key: String,
        /// The revision that deleted it.
        version: i64,
    },
    /// A record exists and cannot be read; it must not be treated as deleted.
    Unreadable {
        /// As in [`Item::key`].
        key: String,
        /// Its version.
        version: i64,
        /// Cause.
        error: Error,
    },
}

/// Watches all records of a kind. Poll it with [`Mirror::next`]; at most one response of etcd is buffered.
pub struct Mirror<T> {
    list_watch: ListWatch,
    seen: watch::Sender<Seen>,
    unreadable: Vec<MirrorEvent<T>>,
    kind: PhantomData<fn() -> T>,
}

/// Progress of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Every change up to this etcd revision was returned; 0 before the first list.
    pub revision: i64,
    /// When etcd last confirmed it, which it does every second: the age of the mirrored state.
    pub at: Instant,
}

/// Observes the progress of a [`Mirror`].
#[derive(Debug, Clone)]
pub struct Progress {
    seen: watch::Receiver<Seen>,
    hurry: Arc<Notify>,
}

/// Interval of progress requests while a caller waits for the mirror.
const ASK_EVERY: Duration = Duration::from_millis(50);

impl Progress {
    /// Current progress.
    pub fn now(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until everything up to `revision` (of a [`Term`](super::Term), for example) was returned; `false` if the mirror
    /// ended before.
    pub async fn caught_up(&mut self, revision: i64) -> bool {
        loop {
            self.hurry.notify_one();
            let reached = self.seen.wait_for(|seen| seen.revision >= revision);
            if let Ok(reached) = timeout(ASK_EVERY, reached).await {
                return reached.is_ok();
            }
        }
    }
}

impl Store {
    /// Mirrors all placements.
    pub fn mirror_placements(&self) -> Mirror<PlacementRecord> {
        Mirror::new(self, Keys::placements)
    }

    /// Mirrors all drains.
    pub fn mirror_drains(&self) -> Mirror<Drain> {
        Mirror::new(self, Keys::drains)
    }

    /// Mirrors all registrations and statuses of clusters.
    pub fn mirror_clusters(&self) -> Mirror<ClusterEntry> {
        Mirror::new(self, Keys::clusters)
    }
}

impl<T: Mirrored> Mirror<T> {
    fn new(store: &Store, prefix: fn(&Keys) -> String) -> Self {
        let (seen, _) = watch::channel(Seen { revision: 0, at: Instant::now() });
        Self {
            list_watch: ListWatch::new(store, prefix(store.keys())),
            seen,
            unreadable: Vec::new(),
            kind: PhantomData,
        }
    }

    /// Progress of the mirror. It advances when the following event is requested, which is after an event was applied.
    pub fn progress(&self) -> Progress {
        Progress { seen: self.seen.subscribe(), hurry: self.list_watch.hurry() }
    }

    /// The next event. Never fails and never ends: it waits while etcd is unavailable. Cancel-safe.
    pub async fn next(&mut self) -> MirrorEvent<T> {
        loop {
            if let Some(event) = self.unreadable.pop() {
                return event;
            }
            match self.list_watch.next().await {
                Change::Reset { entries, revision } => return self.reset(entries, revision),
                Change::Put(entry) => {
                    return read(entry);
                }
                Change::Delete { key, version } => return MirrorEvent::Delete { key, version },
                Change::Seen(revision) => {
                    self.seen.send_replace(Seen { revision, at: Instant::now() });
                }
            }
        }
    }

    fn reset(&mut self, entries: Vec<Entry>, revision: i64) -> MirrorEvent<T> {
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            match read(entry) {
                MirrorEvent::Put(item) => items.push(item),
                unreadable => self.unreadable.push(unreadable),
            }
        }
        MirrorEvent::Reset { items, revision }
    }
}

/// A `Put`, or `Unreadable`.
fn read<T: Mirrored>(entry: Entry) -> MirrorEvent<T> {
    let Entry { key, value, version, .. } = entry;
    match T::decode(&key, &value) {
        Ok(value) => MirrorEvent::Put(Item { key, value, version }),
        Err(error) => MirrorEvent::Unreadable { key, version, error },
    }
}
