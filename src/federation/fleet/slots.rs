//! The registrations of this replica by name, and who waits for their changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::connected::{Connected, last_answer};
use super::slot::{Broken, Slot};
use crate::{Error, Result};
use domain::names::ClusterName;
use store::Registration;

pub(super) struct Slots {
    by_name: RwLock<BTreeMap<ClusterName, Slot>>,
    changes: watch::Sender<()>,
    /// Whether registrations were listed once.
    listed: watch::Sender<bool>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { by_name: RwLock::default(), changes: watch::channel(()).0, listed: watch::channel(false).0 }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.read().len()
    }

    /// Wakes when a registration, or something of its member, changes. Members report their changes to it.
    pub(super) fn changes(&self) -> &watch::Sender<()> {
        &self.changes
    }

    /// Wakes everything that waits for changes.
    pub(super) fn notify(&self) {
        self.changes.send_replace(());
    }

    pub(super) fn mark_listed(&self) {
        self.listed.send_replace(true);
    }

    pub(super) fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// Waits until registrations were listed.
    pub(super) async fn listed(&self) {
        // This struct holds the sender: the wait cannot fail.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    pub(super) fn get(&self, name: &ClusterName) -> Option<Slot> {
        self.by_name.read().get(name).cloned()
    }

    /// A member in use; why there is none.
    pub(super) fn usable(&self, name: &ClusterName) -> Result<Arc<Connected>> {
        match self.by_name.read().get(name) {
            Some(Slot::Connected(connected)) => Ok(Arc::clone(connected)),
            Some(Slot::Broken(broken)) => {
                Err(Error::Unusable { cluster: name.clone(), reason: broken.reason.clone() })
            }
            Some(Slot::Removed(_)) | None => Err(Error::NoCluster(name.clone())),
        }
    }

    /// All members in use, by name.
    pub(super) fn connected(&self) -> Vec<Arc<Connected>> {
        let slots = self.by_name.read();
        slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Connected(connected) => Some(Arc::clone(connected)),
                Slot::Broken(_) | Slot::Removed(_) => None,
            })
            .collect()
    }

    /// All registrations that cannot be used, by name.
    pub(super) fn broken(&self) -> Vec<Arc<Broken>> {
        let slots = self.by_name.read();
        slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Broken(broken) => Some(Arc::clone(broken)),
                Slot::Connected(_) | Slot::Removed(_) => None,
            })
            .collect()
    }

    /// Names of all registrations but these.
    pub(super) fn others_than(&self, names: &[ClusterName]) -> Vec<ClusterName> {
        self.by_name.read().keys().filter(|name| !names.contains(name)).cloned().collect()
    }

    /// Version of a registration, used or not.
    pub(super) fn version(&self, name: &ClusterName) -> Option<i64> {
        self.by_name.read().get(name).filter(|slot| !matches!(slot, Slot::Removed(_))).map(Slot::version)
    }

    /// A registration as it is used here, with the login in use.
    pub(super) fn registration(&self, name: &ClusterName) -> Option<Registration> {
        match self.get(name)? {
            Slot::Connected(connected) => Some((&*connected.in_use()).into()),
            Slot::Broken(broken) => broken.registration.clone(),
            Slot::Removed(_) => None,
        }
    }

    /// Replaces or removes a slot, and ends the tasks of the member that it held; when its cluster last answered.
    pub(super) fn put(&self, name: &ClusterName, slot: Option<Slot>) -> Option<Timestamp> {
        let mut slots = self.by_name.write();
        let before = match slot {
            Some(slot) => slots.insert(name.clone(), slot),
            None => slots.remove(name),
        };
        drop(slots);
        let Some(Slot::Connected(before)) = before else { return None };
        before.tasks.stop().cancel();
        last_answer(&before.member.health().report())
    }
}
