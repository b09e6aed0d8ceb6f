//! What many use cases share.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::callbacks::FleetCallbacks;
use super::parts::{Options, Parts};
use crate::clusters::drain::known::KnownDrains;
use crate::clusters::notes::Notes;
use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::locks::{Locks, RegistryLock};
use crate::metrics::metering::Meters;
use crate::view::index::Index;
use crate::workspaces::decisions::Decisions;
use crate::workspaces::settle::queue::Queue;
use domain::signing::SigningKeys;
use store::{Sealer, Store};

/// What many use cases share. Every part is cheap to clone.
pub(super) struct Base {
    pub(super) store: Store,
    pub(super) sealer: Arc<Sealer>,
    pub(super) installation: Arc<str>,
    pub(super) keyed: Arc<ArcSwap<SigningKeys>>,
    pub(super) options: Options,
    pub(super) leadership: Arc<Leadership>,
    pub(super) index: Arc<Index>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) meters: Meters,
    pub(super) locks: Arc<Locks>,
    pub(super) registry: Arc<RegistryLock>,
    pub(super) queue: Queue,
    pub(super) decisions: Arc<Decisions>,
    pub(super) notes: Arc<Notes>,
    pub(super) drains: Arc<KnownDrains>,
}

impl Base {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { store, sealer, installation, us, options, fleet, meters, subscriber_buffer, .. } = parts;
        let index = Arc::new(Index::new(subscriber_buffer));
        let keyed = Arc::new(ArcSwap::from_pointee(installation.keyed()));
        let leadership = Leadership::new(us, installation.id, installation.incarnation);
        let installation: Arc<str> = installation.id.to_string().into();
        let (queue, notes) = (Queue::default(), Arc::<Notes>::default());
        let callbacks = FleetCallbacks {
            installation: installation.clone(),
            meters: meters.clone(),
            terms: leadership.terms(),
            queue: queue.clone(),
            notes: notes.clone(),
        };
        let identity = (keyed.clone(), installation.clone());
        let fleet = Fleet::new(fleet, index.clone(), identity, leadership.terms(), Arc::new(callbacks));
        Self {
            decisions: Decisions::new(store.clone()),
            drains: Arc::new(KnownDrains::new(index.clone())),
            store,
            sealer: Arc::new(sealer),
            installation,
            keyed,
            options,
            leadership,
            index,
            fleet,
            meters,
            locks: Arc::default(),
            registry: Arc::default(),
            queue,
            notes,
        }
    }
}
