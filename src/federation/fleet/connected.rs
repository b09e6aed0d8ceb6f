//! A connected member cluster: its registration, caches, gate and tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::callbacks::MemberObserver;
use super::candidacy::Candidacy;
use super::gate::{Gate, Opened};
use super::settings::{Defaults, Settings};
use super::watcher::Watcher;
use crate::view::index::ClusterFacts;
use crate::{Error, Result};
use controller::{self, Controller};
use domain::cluster::{Capacity, ClusterSpec, NamespaceSpec};
use domain::condition::Condition;
use domain::health::Health;
use domain::names::{Namespace, Region};
use domain::secret::Secret;
use k8s::resources::Workspace;
use member::Member;
use member::acceptance::Acceptance;
use member::cache::NamespaceCache;
use member::health::HealthReport;
use member::tasks::Tasks;
use store::Registration;

/// The registration of a member, replaced as a whole: whoever loads it once sees nothing of another.
#[derive(Debug, Clone)]
pub struct InUse {
    /// What the admin wants.
    pub spec: Arc<ClusterSpec>,
    /// Its API address.
    pub api_server: String,
    /// Which cluster it is, whatever its address; empty where that is not known.
    pub cluster_uid: String,
    /// Of the registration in etcd.
    pub version: i64,
    pub(crate) kubeconfig: Secret<Vec<u8>>,
}

impl From<&InUse> for Registration {
    fn from(in_use: &InUse) -> Self {
        Self {
            spec: ClusterSpec::clone(&in_use.spec),
            api_server: in_use.api_server.clone(),
            kubeconfig: Some(in_use.kubeconfig.clone()),
            cluster_uid: in_use.cluster_uid.clone(),
            version: in_use.version,
        }
    }
}

/// A member in use.
pub struct Connected {
    /// Changed only while `Fleet::changing` is held.
    pub(super) in_use: ArcSwap<InUse>,
    /// As they were recorded last, for the time since when each is so.
    pub(crate) conditions: Mutex<Vec<Condition>>,
    /// Client, caches and health.
    pub member: Arc<Member>,
    /// Learned once it answered.
    pub server_version: ArcSwapOption<String>,
    pub(super) places: BTreeMap<Namespace, Place>,
    /// Observes its workspaces for whoever runs the fleet.
    pub(crate) observer: Arc<dyn MemberObserver>,
    /// Shows what the caches hold.
    pub(super) watcher: Arc<Watcher>,
    /// Wakes when something was listed.
    pub(super) changes: watch::Sender<()>,
    /// Whether it may be written to now.
    pub gate: Gate,
    /// Its tasks; their token ends them.
    pub(super) tasks: Arc<Tasks>,
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
    /// Whether it accepts workspaces, as far as the leader learned.
    pub acceptance: Arc<Acceptance>,
    pub(super) controller: Arc<Controller>,
    /// What the controller takes from the settings.
    pub(super) controlled: Arc<ArcSwap<controller::Settings>>,
}

impl Place {
    /// Workspaces that its controller could not bring on, and those whose turn has come.
    pub fn at_work(&self) -> (usize, usize) {
        (self.controller.failing(), self.controller.waiting())
    }

    /// The pod that the controller will make of a Workspace that does not exist yet; `None` where it makes none.
    pub fn planned_pod(&self, workspace: Workspace) -> Option<Pod> {
        controller::planned_pod(workspace, &self.controlled.load())
    }
}

impl Connected {
    /// The registration in use. For more than one field of it load it once.
    pub fn in_use(&self) -> Arc<InUse> {
        self.in_use.load_full()
    }

    /// What the admin wants.
    pub fn spec(&self) -> Arc<ClusterSpec> {
        Arc::clone(&self.in_use.load().spec)
    }

    /// Version of the registration in use.
    pub fn version(&self) -> i64 {
        self.in_use.load().version
    }

    /// Its region.
    pub fn region(&self) -> Region {
        self.in_use.load().spec.region.clone()
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

    /// Takes a changed registration in place; `false` where this needs another connection: other namespaces have other
    /// watches, and so has a capacity that is a limit from now on. Another login or address is used from now on, and watches under way go on as they began. A login that is
    /// in a Secret is not part of the registration: the one in use stays.
    pub(super) fn take(&self, registration: &Registration, defaults: &Defaults) -> bool {
        let places = |spec: &ClusterSpec| {
            let of = |one: &NamespaceSpec| (one.namespace.clone(), one.secrets_namespace.clone());
            spec.namespaces.iter().map(of).collect::<Vec<_>>()
        };
        let before = self.in_use();
        let counted = registration.spec.capacity == Capacity::Unlimited || self.member.counts_all_pods();
        if places(&before.spec) != places(&registration.spec)
            || before.spec.fence != registration.spec.fence
            || !counted
        {
            return false;
        }
        let mut kubeconfig = before.kubeconfig.clone();
        if let Some(new) = &registration.kubeconfig
            && kubeconfig.expose() != new.expose()
        {
            let text = std::str::from_utf8(new.expose());
            let replaced = text.map(|text| self.member.replace_kubeconfig(text));
            if !matches!(replaced, Ok(Ok(()))) {
                return false;
            }
            tracing::info!(cluster = %registration.spec.name, "another kubeconfig is in use");
            kubeconfig = new.clone();
        }
        self.in_use.store(Arc::new(InUse {
            spec: Arc::new(registration.spec.clone()),
            api_server: registration.api_server.clone(),
            cluster_uid: registration.cluster_uid.clone(),
            version: registration.version,
            kubeconfig,
        }));
        if before.spec.namespaces != registration.spec.namespaces {
            for problem in self.reload(defaults) {
                tracing::error!(problem, "a namespace keeps its last good settings");
            }
        }
        true
    }

    /// Uses another login of the same registration.
    pub(super) fn use_login(&self, text: &Secret<String>) -> member::Result<()> {
        self.member.replace_kubeconfig(text.expose())?;
        let kubeconfig = text.clone().map(String::into_bytes);
        self.in_use.store(Arc::new(InUse { kubeconfig, ..InUse::clone(&self.in_use.load()) }));
        Ok(())
    }

    /// Tells the index of each change of health.
    pub(super) async fn follow_health(&self) {
        let mut health = self.member.health().subscribe();
        let mut nodes_known = false;
        loop {
            let state = *health.borrow_and_update();
            tracing::info!(health = ?state, "cluster health");
            self.tell();
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
                    () = self.tasks.stop().cancelled() => return,
                }
            }
        }
    }

    pub(super) fn tell(&self) {
        let report = self.member.health().report();
        self.watcher.tell(ClusterFacts {
            region: self.region(),
            reachable: matches!(report.health, Health::Available | Health::Suspect),
            last_answer: last_answer(&report),
        });
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
            () = self.tasks.stop().cancelled() => return,
        }
        tokio::select! {
            () = self.control_while_open(place) => {}
            () = self.tasks.stop().cancelled() => {}
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
            let over = async {
                tokio::select! {
                    () = term.ended() => {}
                    _ = gate.wait_for(|state| !state.is_open_at(&epoch)) => {}
                    () = self.tasks.stop().cancelled() => {}
                }
            };
            if !stops_with(running, over, &run).await {
                return;
            }
            // Within a term the gate may have closed and opened again at this epoch while the controller came to its end.
            if !term.is_valid() && gate.wait_for(|state| !state.is_open_at(&epoch)).await.is_err() {
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

/// Runs until `over`, and then until `running` has come to the end that `run` asks it for; whether it ran for so long.
async fn stops_with(
    running: impl Future<Output = ()>,
    over: impl Future<Output = ()>,
    run: &CancellationToken,
) -> bool {
    let mut running = std::pin::pin!(running);
    tokio::select! {
        () = &mut running => return false,
        () = over => {}
    }
    run.cancel();
    running.await;
    true
}

/// When a cluster last answered, by the wall clock.
pub(crate) fn last_answer(report: &HealthReport) -> Option<Timestamp> {
    report.last_answer.map(ago)
}

/// The time so long ago.
pub(crate) fn ago(duration: std::time::Duration) -> Timestamp {
    let ago = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    Timestamp::now().saturating_sub(ago).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_controller_that_ended_by_itself_is_not_awaited_again() {
        let run = CancellationToken::new();
        assert!(!stops_with(async {}, std::future::pending(), &run).await);
    }

    #[tokio::test]
    async fn a_controller_is_asked_to_end_and_awaited() {
        let run = CancellationToken::new();
        let mut steps = 0;
        let running = async {
            run.cancelled().await;
            tokio::task::yield_now().await;
            steps += 1;
        };
        assert!(stops_with(running, async {}, &run).await);
        assert_eq!(steps, 1);
    }
}
