//! All member clusters of this replica, by name.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::callbacks::Callbacks;
use super::connect::{Connector, FleetOptions};
use super::connected::{Connected, Place};
use super::logins::{LoginState, Logins};
use super::settings::Defaults;
use super::slot::{Broken, Slot};
use super::slots::Slots;
use crate::leadership::Leading;
use crate::view::index::Index;
use crate::{Error, Result};
use domain::cluster::DefaultNamespaces;
use domain::health::Health;
use domain::names::{ClusterName, Namespace, Region};
use domain::record::PlacementRecord;
use domain::signing::SigningKeys;
use host::Host;
use member::apply::Writer;
use member::tasks::TaskName;
use store::Term;

/// All members, by name.
pub struct Fleet {
    pub(super) slots: Slots,
    pub(super) connector: Connector,
    pub(super) logins: Logins,
    pub(super) index: Arc<Index>,
    /// Held while members are connected, go or get another login, or settings change, so that none is connected with
    /// settings of before.
    pub(super) changing: Mutex<()>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("members", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Fleet {
    /// No member yet. Members are raised and controllers run while `leading` holds a term.
    pub fn new(
        options: FleetOptions,
        index: Arc<Index>,
        (keyed, installation): (Arc<ArcSwap<SigningKeys>>, Arc<str>),
        leading: watch::Receiver<Option<Leading>>,
        callbacks: Arc<dyn Callbacks>,
    ) -> Arc<Self> {
        let slots = Slots::new();
        let logins = Logins::new(options.host.clone());
        let connector = Connector {
            options,
            index: Arc::clone(&index),
            keyed,
            installation,
            leading,
            callbacks,
            changes: slots.changes().clone(),
        };
        Arc::new(Self { slots, connector, logins, index, changing: Mutex::default() })
    }

    /// Wakes when a registration was added, changed or removed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.slots.changes().subscribe()
    }

    /// The manager's configuration for namespaces.
    pub fn defaults(&self) -> Arc<Defaults> {
        self.connector.options.defaults.load_full()
    }

    /// Namespaces of clusters that name none, by the configuration in force.
    pub fn default_namespaces(&self) -> DefaultNamespaces {
        let manager = &self.defaults().manager;
        DefaultNamespaces {
            workspaces: manager.namespace.clone(),
            secrets: manager.secrets_namespace.clone(),
        }
    }

    /// A member in use.
    pub fn get(&self, name: &ClusterName) -> Option<Arc<Connected>> {
        match self.slots.get(name) {
            Some(Slot::Connected(connected)) => Some(connected),
            _ => None,
        }
    }

    /// A member in use; why there is none.
    pub(crate) fn usable(&self, name: &ClusterName) -> Result<Arc<Connected>> {
        self.slots.usable(name)
    }

    /// All members in use, by name.
    pub fn connected(&self) -> Vec<Arc<Connected>> {
        self.slots.connected()
    }

    /// All registrations that cannot be used, by name.
    pub fn broken(&self) -> Vec<Arc<Broken>> {
        self.slots.broken()
    }

    /// Version of a registration, used or not.
    pub fn version(&self, name: &ClusterName) -> Option<i64> {
        self.slots.version(name)
    }

    /// Wakes whoever waits for changes.
    pub(crate) fn stir(&self) {
        self.slots.notify();
    }

    /// How long a health probe waits.
    pub fn probe_deadline(&self) -> std::time::Duration {
        self.connector.options.member.probe_deadline
    }

    /// Whether a member is in use and well, and its nodes are known.
    pub fn is_available(&self, name: &ClusterName) -> bool {
        self.get(name).is_some_and(|connected| {
            let member = &connected.member;
            member.health().health() == Health::Available && member.capacity().is_known()
        })
    }

    /// Whether a member serves a namespace now; one that was taken out a moment ago does not.
    pub fn serves(&self, cluster: &ClusterName, namespace: &Namespace) -> bool {
        self.get(cluster).is_some_and(|connected| connected.places.contains_key(namespace))
    }

    /// Ends every task.
    pub fn close(&self) {
        self.logins.close();
        for connected in self.connected() {
            connected.tasks.stop().cancel();
        }
    }

    /// Everything that is needed to write where a record says.
    pub(crate) async fn reach(
        &self,
        term: &Term,
        record: &PlacementRecord,
    ) -> Result<(Writer, Place, Region)> {
        let connected = self.get(&record.cluster).ok_or_else(|| Error::NoCluster(record.cluster.clone()))?;
        let place = connected.place(&record.namespace)?;
        let pass = connected.gate.pass(&record.cluster, term).await?;
        let writer = connected.member.writer(&record.namespace, &pass);
        Ok((writer, place, connected.region()))
    }

    /// Fails where the namespace that a record names is under maintenance.
    pub(crate) fn refuse_under_maintenance(&self, record: &PlacementRecord) -> Result<()> {
        let connected = self.get(&record.cluster);
        let maintenance = connected
            .as_ref()
            .and_then(|connected| connected.member.maintenance(record.namespace.as_str()))
            .is_some_and(|maintenance| maintenance.enabled_at(Timestamp::now()));
        if maintenance {
            let place = format!("{}/{}", record.cluster, record.namespace);
            return Err(Error::Maintenance { place, verdicts: Vec::new() });
        }
        Ok(())
    }

    /// How a cluster's login is, where it is read from a Secret.
    pub fn login(&self, name: &ClusterName) -> Option<LoginState> {
        Some(self.login_since(name)?.0)
    }

    /// The same, and since when.
    pub fn login_since(&self, name: &ClusterName) -> Option<(LoginState, Timestamp)> {
        self.logins.state(name)
    }

    /// Tasks of a member that failed and have not run steadily since, and how often each failed in a row.
    pub fn failing_tasks(&self, connected: &Connected) -> Vec<(TaskName, u32)> {
        let mut failing = connected.tasks.failing();
        failing.extend(self.logins.failing(connected.member.name()));
        failing
    }

    /// The cluster that the manager itself runs in.
    pub fn host(&self) -> Option<&Arc<Host>> {
        self.logins.host()
    }
}
