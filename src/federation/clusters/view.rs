//! A registered cluster as it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::classes::{Classes, Shown, settings_of, shown};
use super::conditions::{conditions, tasks_running};
use super::drain::known::KnownDrains;
use super::login::login_current;
use super::notes::Notes;
use crate::fleet::{Broken, Connected, Fleet, ago, last_answer};
use crate::view::index::Index;
use crate::{Error, Result};
use domain::cluster::ClusterSpec;
use domain::condition::Condition;
use domain::drain::Stage;
use domain::health::Health;
use domain::names::{ClassId, ClusterName, Namespace, WorkspaceId};
use member::health::HealthReport;

/// Strays that a condition names.
const STRAYS_NAMED: usize = 5;

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
    /// What is right and wrong with it.
    pub conditions: Vec<Condition>,
    /// Its drain.
    pub drain: Option<Stage>,
}

/// Registered clusters as they are shown.
pub struct Views {
    pub(super) fleet: Arc<Fleet>,
    pub(super) index: Arc<Index>,
    pub(super) drains: Arc<KnownDrains>,
    pub(super) notes: Arc<Notes>,
    pub(super) classes: Arc<Classes>,
}

impl Views {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        drains: Arc<KnownDrains>,
        notes: Arc<Notes>,
        classes: Arc<Classes>,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, index, drains, notes, classes })
    }

    /// All registered clusters, by name.
    pub fn all(&self) -> Vec<ClusterView> {
        let (members, offers) = (self.fleet.connected(), self.classes.offers());
        let shown = shown(&offers);
        let mut views: Vec<ClusterView> =
            members.iter().map(|connected| self.view(connected, &shown)).collect();
        views.extend(self.fleet.broken().iter().map(|broken| self.view_broken(broken)));
        views.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        views
    }

    /// One registered cluster.
    pub fn get(&self, name: &ClusterName) -> Result<ClusterView> {
        if let Some(connected) = self.fleet.get(name) {
            return Ok(self.view(&connected, &shown(&self.classes.offers())));
        }
        let broken = self.fleet.broken().into_iter().find(|broken| broken.spec.name == *name);
        broken.map(|broken| self.view_broken(&broken)).ok_or_else(|| Error::NoCluster(name.clone()))
    }

    fn view(&self, connected: &Connected, shown: &Shown<'_>) -> ClusterView {
        let report = connected.member.health().report();
        let in_use = connected.in_use();
        let spec = Arc::clone(&in_use.spec);
        let settings = settings_of(connected);
        let mut classes: Vec<ClassId> = settings
            .iter()
            .flat_map(|settings| settings.class_views())
            .map(|class| class.id.clone())
            .collect();
        classes.sort();
        classes.dedup();
        ClusterView {
            api_server: in_use.api_server.clone(),
            version: in_use.version,
            health: report.health,
            reason: report.reason.clone(),
            since: ago(report.lasted),
            last_answer: last_answer(&report),
            server_version: connected.server_version.load().as_deref().cloned().unwrap_or_default(),
            workspaces: self.index.count_on(&spec.name),
            classes,
            maintenance: under_maintenance(connected),
            drain: self.drains.get(&spec.name).map(|(drain, _)| drain.stage),
            conditions: self.conditions_of(connected, &report, shown),
            spec,
        }
    }

    pub(super) fn conditions_of(
        &self,
        connected: &Connected,
        report: &HealthReport,
        shown: &Shown<'_>,
    ) -> Vec<Condition> {
        let spec = connected.spec();
        let observed = self.notes.get(&spec.name).unwrap_or_default();
        let failing = self.fleet.failing_tasks(connected);
        let mut others = vec![self.no_strays(connected), tasks_running(&failing, Timestamp::now())];
        others.extend(login_current(&self.fleet, &spec));
        conditions(connected, report, shown, &observed, others)
    }

    pub(super) fn conditions_of_broken(&self, broken: &Broken) -> Vec<Condition> {
        let unusable = Condition::fails("Usable", broken.kind, broken.reason.clone(), broken.since);
        let mut conditions = vec![unusable];
        conditions.extend(login_current(&self.fleet, &broken.spec));
        conditions
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
            drain: self.drains.get(&broken.spec.name).map(|(drain, _)| drain.stage),
            conditions: self.conditions_of_broken(broken),
        }
    }

    /// Whether every resource of this installation there has a record.
    fn no_strays(&self, connected: &Connected) -> Condition {
        const KIND: &str = "NoStrays";
        let (name, now) = (connected.member.name(), Timestamp::now());
        let strays = self.index.strays(name, now);
        if strays.is_empty() {
            return Condition::holds(KIND, now);
        }
        let mut named: Vec<&str> = strays.iter().take(STRAYS_NAMED).map(WorkspaceId::as_str).collect();
        if strays.len() > STRAYS_NAMED {
            named.push("…");
        }
        let (count, named) = (strays.len(), named.join(", "));
        let message = format!("{count} without a record: {named}; see `spaceport cluster diff {name}`");
        Condition::fails(KIND, "Strays", message, now)
    }
}

fn under_maintenance(connected: &Connected) -> BTreeMap<Namespace, Timestamp> {
    let now = Timestamp::now();
    let until = |name: &Namespace| connected.member.maintenance(name.as_str())?.until();
    let on = connected.places().keys().filter_map(|name| Some((name.clone(), until(name)?)));
    on.filter(|(_, until)| now < *until).collect()
}
