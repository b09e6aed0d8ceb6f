//! The registry of member clusters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::fleet::{Broken, Connected, ago, last_answer};
use super::settings::Settings;
use super::{Error, Federation, Result};
use crate::cluster::client::{Credentials, Limits, Signals, connect};
use crate::cluster::probe::verify;
use crate::domain::cluster::ClusterSpec;
use crate::domain::health::Health;
use crate::domain::names::{ClassId, ClusterName, Namespace};
use crate::domain::secret::Secret;
use crate::domain::workspace::ClassView;
use crate::store;
use crate::store::NewCluster;

/// For all calls that verify a cluster.
const VERIFY_WITHIN: Duration = Duration::from_secs(10);
/// For this replica to see its own write.
pub(super) const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Tries of a change that others get in the way of.
const TRIES: usize = 5;

/// A registered cluster with what is observed of it.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// What the admin wants.
    pub spec: Arc<ClusterSpec>,
    /// Its API address.
    pub api_server: String,
    /// Of the registration.
    pub version: i64,
    /// Its health.
    pub health: Health,
    /// Why the health is what it is; empty where all is well.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it last answered.
    pub last_answer: Option<Timestamp>,
    /// Such as `v1.36.2`; empty until it answered.
    pub server_version: String,
    /// Live workspaces placed there.
    pub workspaces: usize,
    /// Classes it offers, over all namespaces.
    pub classes: Vec<ClassId>,
    /// Namespaces under maintenance now, and until when.
    pub maintenance: BTreeMap<Namespace, Timestamp>,
}

/// A client made only to verify tells nobody.
struct Unheard;

impl Signals for Unheard {
    fn answered(&self) {}
    fn missed(&self, _reason: &str) {}
}

impl Federation {
    /// Verifies a cluster live and adds it.
    pub async fn register(&self, spec: ClusterSpec, kubeconfig: String) -> Result<ClusterView> {
        let term = self.term()?;
        spec.validate()?;
        self.resolve(&spec)?;
        if self.fleet.version(&spec.name).is_some() {
            return Err(store::Error::ClusterExists { cluster: spec.name }.into());
        }
        let credentials = Credentials::parse(&spec.name, &kubeconfig)?;
        let identity = crate::cluster::reader(&spec);
        let client = connect(&spec.name, &credentials, &Limits::default(), identity, Arc::new(Unheard))?;
        verify(&spec, &client, VERIFY_WITHIN).await?;
        let name = spec.name.clone();
        let new = NewCluster {
            spec,
            api_server: credentials.server().to_owned(),
            kubeconfig: Secret::new(kubeconfig.into_bytes()),
        };
        let version = self.store.create_cluster(&term, &self.sealer, &new).await?;
        tracing::info!(cluster = %name, "registered");
        self.await_version(&name, version).await?;
        // Verified a moment ago, it answers as a rule at once; the caller then sees it as it will be.
        self.await_fleet(|| {
            self.cluster(&name).is_ok_and(|view| view.health == Health::Available)
                && self.fleet.get(&name).is_none_or(|connected| !connected.gate.is_pending())
        })
        .await;
        self.cluster(&name)
    }

    /// Every namespace's settings must resolve before anything is written.
    fn resolve(&self, spec: &ClusterSpec) -> Result<()> {
        let defaults = self.fleet.defaults();
        let problems: Vec<String> = spec
            .namespaces
            .iter()
            .filter_map(|namespace| Settings::resolve(namespace, &defaults).err())
            .flatten()
            .map(|problem| problem.to_string())
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid { field: "spec.namespaces", rule: problems.join("; ") })
    }

    /// Takes a cluster out. Without `force` only where no live workspace is placed there.
    pub async fn deregister(&self, name: &ClusterName, force: bool) -> Result<()> {
        let term = self.term()?;
        let _alone = self.registry.write().await;
        let version = self.fleet.version(name).ok_or_else(|| Error::NoCluster(name.clone()))?;
        let mut workspaces = self.index.placed_on(name);
        if !workspaces.is_empty() && !force {
            workspaces.sort();
            return Err(Error::NotEmpty { cluster: name.clone(), workspaces });
        }
        self.store.delete_cluster(&term, name, version).await?;
        self.fleet.remove(name);
        tracing::info!(cluster = %name, left = workspaces.len(), force, "deregistered");
        Ok(())
    }

    /// Keeps new workspaces away, or lets them in again.
    pub async fn set_cordoned(&self, name: &ClusterName, cordoned: bool) -> Result<ClusterView> {
        self.change_cluster(name, |spec| ClusterSpec { cordoned, ..spec.clone() }).await
    }

    /// Changes what the admin wants of a cluster, decided on anew where others get in the way. A change that changes
    /// nothing is not written.
    pub async fn change_cluster(
        &self,
        name: &ClusterName,
        change: impl Fn(&ClusterSpec) -> ClusterSpec,
    ) -> Result<ClusterView> {
        for _ in 0..TRIES {
            let term = self.term()?;
            let view = self.cluster(name)?;
            let spec = change(&view.spec);
            if spec == *view.spec {
                return Ok(view);
            }
            spec.validate()?;
            match self.store.update_cluster(&term, view.version, &spec).await {
                Ok(version) => return self.await_version(name, version).await,
                // Someone else changed it and this replica will hear of it.
                Err(store::Error::Conflict { .. }) => {
                    self.await_change(name, view.version).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { what: format!("cluster {name}") })
    }

    /// All registered clusters, by name.
    pub fn clusters(&self) -> Vec<ClusterView> {
        let mut views: Vec<ClusterView> =
            self.fleet.connected().iter().map(|connected| self.view(connected)).collect();
        views.extend(self.fleet.broken().iter().map(|broken| self.view_broken(broken)));
        views.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        views
    }

    /// One registered cluster.
    pub fn cluster(&self, name: &ClusterName) -> Result<ClusterView> {
        if let Some(connected) = self.fleet.get(name) {
            return Ok(self.view(&connected));
        }
        let broken = self.fleet.broken().into_iter().find(|broken| broken.spec.name == *name);
        broken.map(|broken| self.view_broken(&broken)).ok_or_else(|| Error::NoCluster(name.clone()))
    }

    /// Classes of the clusters that take starts, by id, and the preferred one.
    pub fn classes(&self) -> (Vec<ClassView>, Option<ClassId>) {
        let mut classes = BTreeMap::new();
        let mut preferred = self.fleet.defaults().preferred_class.clone();
        for connected in self.fleet.connected() {
            let spec = connected.spec.load();
            if spec.cordoned
                || spec.weight == 0
                || connected.member.health().report().health != Health::Available
            {
                continue;
            }
            for place in connected.places().values() {
                let settings = place.settings.load();
                for class in settings.class_views() {
                    classes.entry(class.id.clone()).or_insert(class);
                }
                preferred = preferred.or_else(|| settings.preferred_class.clone());
            }
        }
        (classes.into_values().collect(), preferred)
    }

    fn view(&self, connected: &Connected) -> ClusterView {
        let report = connected.member.health().report();
        let spec = connected.spec.load_full();
        let mut classes: Vec<ClassId> = connected
            .places()
            .values()
            .flat_map(|place| place.settings.load().class_views().map(|class| class.id).collect::<Vec<_>>())
            .collect();
        classes.sort();
        classes.dedup();
        ClusterView {
            api_server: connected.api_server.clone(),
            version: connected.version(),
            health: report.health,
            reason: report.reason.clone(),
            since: ago(report.lasted),
            last_answer: last_answer(&report),
            server_version: connected.server_version.load().as_deref().cloned().unwrap_or_default(),
            workspaces: self.index.count_on(&spec.name),
            classes,
            maintenance: under_maintenance(connected),
            spec,
        }
    }

    fn view_broken(&self, broken: &Broken) -> ClusterView {
        ClusterView {
            spec: Arc::new(broken.spec.clone()),
            api_server: broken.api_server.clone(),
            version: broken.version,
            health: Health::Lost,
            reason: broken.reason.clone(),
            since: broken.since,
            last_answer: None,
            server_version: String::new(),
            workspaces: self.index.count_on(&broken.spec.name),
            classes: Vec::new(),
            maintenance: BTreeMap::new(),
        }
    }

    /// Waits until this replica's own fleet shows what was just written, so that the next call sees it.
    async fn await_version(&self, name: &ClusterName, version: i64) -> Result<ClusterView> {
        let seen = || self.fleet.version(name).is_some_and(|seen| seen >= version);
        self.await_fleet(seen).await;
        self.cluster(name)
    }

    async fn await_change(&self, name: &ClusterName, version: i64) {
        self.await_fleet(|| self.fleet.version(name).is_none_or(|seen| seen != version)).await;
    }

    async fn await_fleet(&self, done: impl Fn() -> bool) {
        let mut changes = self.fleet.changes();
        let waiting = async {
            loop {
                changes.borrow_and_update();
                if done() || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SEEN_WITHIN, waiting).await.is_err() {
            tracing::warn!("the registry's change was written, and is not seen to work yet");
        }
    }
}

fn under_maintenance(connected: &Connected) -> BTreeMap<Namespace, Timestamp> {
    let now = Timestamp::now();
    let until = |name: &Namespace| connected.member.maintenance(name.as_str())?.until();
    let on = connected.places().keys().filter_map(|name| Some((name.clone(), until(name)?)));
    on.filter(|(_, until)| now < *until).collect()
}
