//! A member in use: what placement, the index and the controllers take from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::candidacy::Candidacy;
use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, Opened};
use crate::cluster::Member;
use crate::cluster::cache::NamespaceCache;
use crate::cluster::probe::HealthReport;
use crate::controller::{self, Controller};
use crate::domain::cluster::{ClusterSpec, NamespaceSpec};
use crate::domain::condition::Condition;
use crate::domain::health::Health;
use crate::domain::names::{Namespace, Region};
use crate::domain::secret::Secret;
use crate::federation::index::{ClusterFacts, Index};
use crate::federation::metering::Meter;
use crate::federation::settings::{Defaults, Settings};
use crate::federation::{Error, Result};
use crate::store::Registration;

use super::watcher::Watcher;

/// A member in use.
pub struct Connected {
    /// What the admin wants.
    pub spec: ArcSwap<ClusterSpec>,
    /// Its API address.
    pub api_server: ArcSwap<String>,
    /// Which cluster it is, whatever its address; empty where that is not known.
    pub cluster_uid: ArcSwap<String>,
    /// As they were last seen, for the time since when each is so.
    pub(in crate::federation) conditions: Mutex<Vec<Condition>>,
    /// Client, caches and health.
    pub member: Arc<Member>,
    /// Learned once it answered.
    pub server_version: ArcSwapOption<String>,
    pub(super) version: AtomicI64,
    pub(in crate::federation) kubeconfig: ArcSwap<Secret<Vec<u8>>>,
    pub(super) places: BTreeMap<Namespace, Place>,
    /// Counts what becomes of its workspaces.
    pub(in crate::federation) meter: Arc<Meter>,
    /// Shows what the caches hold.
    pub(super) watcher: Arc<Watcher>,
    /// Wakes when something was listed.
    pub(super) changes: watch::Sender<()>,
    /// Whether it may be written to now.
    pub gate: Gate,
    pub(super) stop: CancellationToken,
    pub(super) candidacy: Candidacy,
}

/// A namespace of a member.
#[derive(Clone)]
pub struct Place {
    /// Where token secrets are.
    pub secrets_namespace: Namespace,
    /// Its settings.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Its workspaces and pods.
    pub cache: Arc<NamespaceCache>,
    pub(super) controller: Arc<Controller>,
    /// What the controller takes from the settings.
    pub(super) controlled: Arc<ArcSwap<controller::Settings>>,
}

impl Place {
    /// Workspaces that its controller could not bring on, and those whose turn has come.
    pub fn at_work(&self) -> (usize, usize) {
        (self.controller.failing(), self.controller.waiting())
    }
}

impl Connected {
    /// Version of the registration in use.
    pub fn version(&self) -> i64 {
        self.version.load(Ordering::Acquire)
    }

    /// Its region.
    pub fn region(&self) -> Region {
        self.spec.load().region.clone()
    }

    /// A namespace of it.
    pub fn place(&self, namespace: &Namespace) -> Result<Place> {
        self.places.get(namespace).cloned().ok_or_else(|| Error::NoNamespace {
            cluster: self.member.name().clone(),
            namespace: namespace.clone(),
        })
    }

    /// Its namespaces, by name.
    pub fn places(&self) -> &BTreeMap<Namespace, Place> {
        &self.places
    }

    /// The registration in use, with the login in use.
    pub(super) fn registration(&self) -> Registration {
        let version = self.version();
        Registration {
            spec: (**self.spec.load()).clone(),
            api_server: (**self.api_server.load()).clone(),
            kubeconfig: Some((**self.kubeconfig.load()).clone()),
            cluster_uid: (**self.cluster_uid.load()).clone(),
            version,
        }
    }

    /// Takes a changed registration in place, or says that this takes connecting anew: other namespaces have other
    /// watches. Another login or address is used from now on, and watches under way go on as they began. A login that is
    /// in a Secret is no matter of the registration: the one in use goes on.
    pub(super) fn take(&self, registration: &Registration, defaults: &Defaults) -> bool {
        let places = |spec: &ClusterSpec| {
            let of = |one: &NamespaceSpec| (one.namespace.clone(), one.secrets_namespace.clone());
            spec.namespaces.iter().map(of).collect::<Vec<_>>()
        };
        let before = self.spec.load_full();
        if places(&before) != places(&registration.spec) || before.fence != registration.spec.fence {
            return false;
        }
        if let Some(kubeconfig) = &registration.kubeconfig
            && self.kubeconfig.load().expose() != kubeconfig.expose()
        {
            let text = std::str::from_utf8(kubeconfig.expose());
            let replaced = text.map(|text| self.member.replace_kubeconfig(text));
            if !matches!(replaced, Ok(Ok(()))) {
                return false;
            }
            tracing::info!(cluster = %registration.spec.name, "another kubeconfig is in use");
            self.kubeconfig.store(Arc::new(kubeconfig.clone()));
        }
        self.api_server.store(Arc::new(registration.api_server.clone()));
        self.cluster_uid.store(Arc::new(registration.cluster_uid.clone()));
        let resettled = before.namespaces != registration.spec.namespaces;
        self.spec.store(Arc::new(registration.spec.clone()));
        self.version.store(registration.version, Ordering::Release);
        if resettled {
            for problem in self.reload(defaults) {
                tracing::error!(problem, "a namespace keeps its last good settings");
            }
        }
        true
    }

    /// Tells the index of each change of health.
    pub(super) async fn follow_health(&self, index: &Index) {
        let mut health = self.member.health().subscribe();
        let mut nodes_known = false;
        loop {
            let state = *health.borrow_and_update();
            tracing::info!(health = ?state, "cluster health");
            self.tell(index);
            self.changes.send_replace(());
            if state == Health::Available && self.server_version.load().is_none() {
                self.learn_version().await;
            }
            loop {
                tokio::select! {
                    changed = health.changed() => if changed.is_err() { return } else { break },
                    () = self.member.capacity().known(), if !nodes_known => {
                        nodes_known = true;
                        self.changes.send_replace(());
                    }
                    () = self.stop.cancelled() => return,
                }
            }
        }
    }

    pub(super) fn tell(&self, index: &Index) {
        let report = self.member.health().report();
        let facts = ClusterFacts {
            region: self.region(),
            reachable: matches!(report.health, Health::Available | Health::Suspect),
            last_answer: last_answer(&report),
        };
        // After the end of this member a late answer must not bring the cluster back.
        if !self.stop.is_cancelled() {
            index.cluster(self.member.name(), facts);
        }
    }

    async fn learn_version(&self) {
        match self.member.client().apiserver_version().await {
            Ok(version) => self.server_version.store(Some(Arc::new(version.git_version))),
            Err(error) => tracing::warn!(%error, "cannot read the server version"),
        }
    }

    /// Runs the controller of a namespace while the cluster may be written to, once the namespace's objects are known.
    pub(super) async fn control(&self, place: &Place) {
        tokio::select! {
            () = self.listed(place) => {}
            () = self.stop.cancelled() => return,
        }
        tokio::select! {
            () = self.control_while_open(place) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn control_while_open(&self, place: &Place) {
        let mut gate = self.gate.subscribe();
        loop {
            let Some(Opened { term, epoch, pass }) =
                gate.wait_for(|state| state.opened().is_some()).await.ok().and_then(|state| state.opened())
            else {
                return;
            };
            let run = CancellationToken::new();
            let writer = self.member.writer(place.cache.namespace(), &pass);
            let running = Arc::clone(&place.controller).run(writer, run.clone());
            tokio::pin!(running);
            tokio::select! {
                () = &mut running => {}
                () = term.ended() => {}
                _ = gate.wait_for(|state| !state.is_open_at(&epoch)) => {}
                () = self.stop.cancelled() => {}
            }
            run.cancel();
            running.await;
            if gate.wait_for(|state| !state.is_open_at(&epoch)).await.is_err() {
                return;
            }
        }
    }

    async fn listed(&self, place: &Place) {
        let mut changes = self.changes.subscribe();
        while !place.cache.is_synced() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// When a cluster last answered, by the wall clock.
pub(in crate::federation) fn last_answer(report: &HealthReport) -> Option<Timestamp> {
    report.last_answer.map(ago)
}

/// The time so long ago.
pub(in crate::federation) fn ago(duration: std::time::Duration) -> Timestamp {
    let ago = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    Timestamp::now().saturating_sub(ago).unwrap_or(Timestamp::MIN)
}
