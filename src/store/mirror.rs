//! What every replica needs to keep an index of one kind of record: all of them, then every change, in order.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    Error, Result, Store,
    clusters::ClusterEntry,
    follow::{Change, Entry, Follow},
    keys::Keys,
    value::decode,
};
use domain::{drain::Drain, record::PlacementRecord};

/// A kind of record that can be mirrored. The store implements it for what it keeps.
pub trait Mirrored: Sized + sealed::Sealed {
    /// Reads a value; `key` is below the kind's own prefix.
    #[doc(hidden)]
    fn decode(key: &str, value: &[u8]) -> Result<Self>;
}

/// A record with its key and version.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<T> {
    /// Below the kind's prefix: the workspace id, the cluster, or `<cluster>/spec` and `<cluster>/status`.
    pub key: String,
    /// The record.
    pub value: T,
    /// What a change of it must show.
    pub version: i64,
}

/// What happened to the records.
#[derive(Debug)]
pub enum MirrorEvent<T> {
    /// These are all; forget what was known. Comes first, and again where etcd's history was lost.
    Reset {
        /// All records.
        items: Vec<Item<T>>,
        /// The etcd revision that they were listed at.
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
    /// A record is there and cannot be read; it must neither be taken for gone nor end the mirror.
    Unreadable {
        /// As in [`Item::key`].
        key: String,
        /// Its version.
        version: i64,
        /// Why.
        error: Error,
    },
}

/// Follows all records of a kind. Pull it with [`Mirror::next`]; nothing is buffered beyond one answer of etcd.
pub struct Mirror<T> {
    follow: Follow,
    seen: watch::Sender<Seen>,
    unreadable: Vec<MirrorEvent<T>>,
    kind: PhantomData<fn() -> T>,
}

/// How far a mirror has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Every change up to this etcd revision has been taken; 0 before the first list.
    pub revision: i64,
    /// When etcd last said so; it says so every second, so this is the age of what is known.
    pub at: Instant,
}

/// Tells how far a [`Mirror`] has come.
#[derive(Debug, Clone)]
pub struct Progress {
    seen: watch::Receiver<Seen>,
    hurry: Arc<Notify>,
}

/// From one question how far etcd is to the next, while somebody waits for the answer.
const ASK_EVERY: Duration = Duration::from_millis(50);

impl Progress {
    /// How far it has come now.
    pub fn now(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until everything up to `revision` (of a [`Term`](super::Term), for example) has been taken. Answers no where
    /// the mirror ended before.
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
            follow: Follow::new(store, prefix(store.keys())),
            seen,
            unreadable: Vec::new(),
            kind: PhantomData,
        }
    }

    /// How far the mirror has come; advances when the event after is asked for, that is, once an event was applied.
    pub fn progress(&self) -> Progress {
        Progress { seen: self.seen.subscribe(), hurry: self.follow.hurry() }
    }

    /// The next event. Never fails and never ends: without etcd it waits for it. May be dropped and called again.
    pub async fn next(&mut self) -> MirrorEvent<T> {
        loop {
            if let Some(event) = self.unreadable.pop() {
                return event;
            }
            match self.follow.next().await {
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

mod sealed {
    pub trait Sealed {}
    impl Sealed for domain::record::PlacementRecord {}
    impl Sealed for crate::clusters::ClusterEntry {}
    impl Sealed for domain::drain::Drain {}
}

impl Mirrored for PlacementRecord {
    fn decode(key: &str, value: &[u8]) -> Result<Self> {
        let record: Self = decode(key, value)?;
        if record.workspace.as_str() != key {
            let reason = format!("it is the record of workspace {}", record.workspace);
            return Err(Error::Malformed { key: key.to_owned(), reason });
        }
        Ok(record)
    }
}
