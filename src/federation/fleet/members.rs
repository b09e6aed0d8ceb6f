//! All member clusters of this replica, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::callbacks::Callbacks;
use super::connected::{Connected, Place};
use super::logins::{LoginState, Logins};
use super::settings::Defaults;
use super::slot::{Broken, Slot};
use crate::leadership::Leading;
use crate::view::index::Index;
use crate::{Error, Result};
use domain::cluster::DefaultNamespaces;
use domain::health::Health;
use domain::names::{ClusterName, Namespace, Region};
use domain::record::PlacementRecord;
use domain::signing::SigningKeys;
use host::Host;
use member::MemberOptions;
use member::apply::Writer;
use member::tasks::TaskName;
use store::Term;

/// What is the same for every member.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Client, probes and health.
    pub member: MemberOptions,
    /// The manager's configuration for namespaces.
    pub defaults: Arc<ArcSwap<Defaults>>,
    /// The cluster that the manager itself runs in, where it knows one.
    pub host: Option<Arc<Host>>,
}

/// All members, by name.
pub struct Fleet {
    pub(super) slots: RwLock<BTreeMap<ClusterName, Slot>>,
    pub(super) index: Arc<Index>,
    pub(super) options: FleetOptions,
    pub(super) keyed: Arc<ArcSwap<SigningKeys>>,
    /// This installation's id.
    pub(super) installation: Arc<str>,
    pub(super) leading: watch::Receiver<Option<Leading>>,
    pub(super) callbacks: Arc<dyn Callbacks>,
    pub(super) logins: Logins,
    /// Held while members are connected, go or get another login, or settings change, so that none is connected with
    /// settings of before.
    pub(super) changing: Mutex<()>,
    pub(super) changes: watch::Sender<()>,
    /// Whether registrations were listed once.
    pub(super) listed: watch::Sender<bool>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("members", &self.slots.read().len()).finish_non_exhaustive()
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
        Arc::new(Self {
            slots: RwLock::default(),
            logins: Logins::new(options.host.clone()),
            index,
            options,
            keyed,
            installation,
            leading,
            callbacks,
            changing: Mutex::default(),
            changes: watch::channel(()).0,
            listed: watch::channel(false).0,
        })
    }

    /// Wakes when a registration was added, changed or removed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The manager's configuration for namespaces.
    pub fn defaults(&self) -> Arc<Defaults> {
        self.options.defaults.load_full()
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
        match self.slots.read().get(name) {
            Some(Slot::Connected(connected)) => Some(Arc::clone(connected)),
            _ => None,
        }
    }

    /// A member in use; why there is none.
    pub(crate) fn usable(&self, name: &ClusterName) -> Result<Arc<Connected>> {
        match self.slots.read().get(name) {
            Some(Slot::Connected(connected)) => Ok(Arc::clone(connected)),
            Some(Slot::Broken(broken)) => {
                Err(Error::Unusable { cluster: name.clone(), reason: broken.reason.clone() })
            }
            Some(Slot::Removed(_)) | None => Err(Error::NoCluster(name.clone())),
        }
    }

    /// All members in use, by name.
    pub fn connected(&self) -> Vec<Arc<Connected>> {
        let slots = self.slots.read();
        slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Connected(connected) => Some(Arc::clone(connected)),
                Slot::Broken(_) | Slot::Removed(_) => None,
            })
            .collect()
    }

    /// All registrations that cannot be used, by name.
    pub fn broken(&self) -> Vec<Arc<Broken>> {
        let slots = self.slots.read();
        slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Broken(broken) => Some(Arc::clone(broken)),
                Slot::Connected(_) | Slot::Removed(_) => None,
            })
            .collect()
    }

    /// Version of a registration, used or not.
    pub fn version(&self, name: &ClusterName) -> Option<i64> {
        self.slots.read().get(name).filter(|slot| !matches!(slot, Slot::Removed(_))).map(Slot::version)
    }

    /// Wakes whoever waits for changes.
    pub(crate) fn stir(&self) {
        self.changes.send_replace(());
    }

    /// How long a health probe waits.
    pub fn probe_deadline(&self) -> std::time::Duration {
        self.options.member.probe_deadline
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
