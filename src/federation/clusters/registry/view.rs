//! A registered cluster as it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::clusters::observed::period;
use crate::clusters::registry::classes::{Shown, classes_agree, settings_of, shown};
use crate::clusters::registry::learned;
use crate::fleet::{Broken, Connected, GateState, ago, last_answer};
use crate::{Error, Federation, Result};
use cluster::probe::HealthReport;
use cluster::tasks::TaskName;
use domain::canary::Standing;
use domain::cluster::{ClusterSpec, FenceMode};
use domain::condition::{self, Condition, State};
use domain::drain::Stage;
use domain::health::Health;
use domain::names::{ClassId, ClusterName, Namespace, WorkspaceId};
use domain::observed::Observed;
use domain::rewind::Rewinds;

/// A login that ends sooner is worth a word.
const ENDS_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Conditions that only the leader can tell.
const WRITABLE: &str = "Writable";
const CANARY_SEEN: &str = "CanarySeen";

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

impl Federation {
    /// All registered clusters, by name.
    pub fn clusters(&self) -> Vec<ClusterView> {
        let (members, offers) = (self.fleet.connected(), self.offers());
        let shown = shown(&offers);
        let mut views: Vec<ClusterView> =
            members.iter().map(|connected| self.view(connected, &shown)).collect();
        views.extend(self.fleet.broken().iter().map(|broken| self.view_broken(broken)));
        views.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        views
    }

    /// One registered cluster.
    pub fn cluster(&self, name: &ClusterName) -> Result<ClusterView> {
        if let Some(connected) = self.fleet.get(name) {
            return Ok(self.view(&connected, &shown(&self.offers())));
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
        let observed = self.known.get(&spec.name).unwrap_or_default();
        let failing = self.fleet.failing_tasks(connected);
        let mut others = vec![self.no_strays(connected), tasks_running(&failing, Timestamp::now())];
        others.extend(self.login_current(&spec));
        conditions(connected, report, shown, &observed, others)
    }

    pub(super) fn conditions_of_broken(&self, broken: &Broken) -> Vec<Condition> {
        let unusable = Condition::fails("Usable", broken.kind, broken.reason.clone(), broken.since);
        let mut conditions = vec![unusable];
        conditions.extend(self.login_current(&broken.spec));
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

    /// Whether everything of ours there has a record.
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

/// What is right and wrong with a member now, each since when. Asking records nothing: see [`crate::clusters::registry::ages`].
pub(super) fn conditions(
    connected: &Connected,
    report: &HealthReport,
    shown: &Shown<'_>,
    observed: &Observed,
    others: Vec<Condition>,
) -> Vec<Condition> {
    let now = Timestamp::now();
    let mut found = vec![available(report)];
    match connected.gate.state() {
        GateState::Standby => {
            let kinds = [WRITABLE, CANARY_SEEN].into_iter().chain(learned::KINDS);
            found.extend(kinds.map(|kind| noted(kind, connected, observed, now)));
        }
        _ => found.extend(of_the_leader(connected, report.health, now)),
    }
    found.extend([
        synced(connected, now),
        history(observed.rewinds, now),
        login(connected.member.login_ends(), now),
        maintenance_read(connected, now),
        classes_agree(connected, shown, now),
    ]);
    found.extend(others);
    condition::aged(&connected.conditions.lock(), found)
}

/// Whether this replica's tasks of a member run.
pub(super) fn tasks_running(failing: &[(TaskName, u32)], now: Timestamp) -> Condition {
    const KIND: &str = "TasksRunning";
    if failing.is_empty() {
        return Condition::holds(KIND, now);
    }
    let each: Vec<String> = failing
        .iter()
        .map(|(task, times)| format!("task {task} failed {times} times in a row and is restarted"))
        .collect();
    let message = format!("{}; the log of this manager says why", each.join("; "));
    Condition::fails(KIND, "Restarting", message, now)
}

fn available(report: &HealthReport) -> Condition {
    const KIND: &str = "Available";
    let since = ago(report.lasted);
    let reason = match report.health {
        Health::Available => return Condition::holds(KIND, since),
        Health::Connecting => "Connecting",
        Health::Suspect => "Suspect",
        Health::Lost => "Lost",
    };
    let failing = Condition::fails(KIND, reason, report.reason.clone(), since);
    match report.health {
        Health::Connecting => Condition { state: State::Unknown, ..failing },
        _ => failing,
    }
}

/// What only the leader can tell, each since when.
pub(crate) fn told_by_the_leader(connected: &Connected, now: Timestamp) -> Vec<Condition> {
    let found = of_the_leader(connected, connected.member.health().health(), now);
    condition::aged(&connected.conditions.lock(), found)
}

fn of_the_leader(connected: &Connected, health: Health, now: Timestamp) -> Vec<Condition> {
    let mut found = vec![writable(connected, health, now), canary(connected, now)];
    found.extend(learned::conditions(connected, now));
    found
}

/// What the leader noted, on a replica that does not lead.
fn noted(kind: &'static str, connected: &Connected, observed: &Observed, now: Timestamp) -> Condition {
    let Some((noted, at)) = observed.condition(kind, period(connected), now) else {
        let message = "only the leader knows, and it has not reported lately".to_owned();
        return Condition { state: State::Unknown, ..Condition::fails(kind, "Standby", message, now) };
    };
    let known =
        ["", "Fence", "Refused", "Raising", "Unreachable", "Standby", "NotShown", "NotWritten", "NotAllowed"];
    let reason =
        known.into_iter().chain(learned::REASONS).find(|known| *known == noted.reason).unwrap_or("Noted");
    let colon = if noted.message.is_empty() { "" } else { ": " };
    let message = format!("as the leader saw it at {at:.0}{colon}{}", noted.message);
    Condition { kind, state: noted.state, reason, message, since: noted.since }
}

/// Whether the leader may write there and the cluster accepted its last dry-run writes.
fn writable(connected: &Connected, health: Health, now: Timestamp) -> Condition {
    const KIND: &str = WRITABLE;
    match connected.gate.state() {
        GateState::Open(_) if matches!(health, Health::Lost | Health::Connecting) => Condition {
            state: State::Unknown,
            ..Condition::fails(KIND, "Unreachable", "the cluster does not answer".to_owned(), now)
        },
        GateState::Open(_) => Condition::holds(KIND, now),
        GateState::Barred(_, reason) => {
            let kind = match connected.spec().fence {
                FenceMode::Enforced => "Fence",
                FenceMode::Off => "Refused",
            };
            Condition::fails(KIND, kind, reason, now)
        }
        GateState::Raising(_) => {
            Condition::fails(KIND, "Raising", "its fence is being raised".to_owned(), now)
        }
        GateState::Standby => Condition {
            state: State::Unknown,
            ..Condition::fails(KIND, "Standby", "the leader has not enabled its writes yet".to_owned(), now)
        },
    }
}

/// Whether small writes go through and watches show them, as the leader sees it.
fn canary(connected: &Connected, now: Timestamp) -> Condition {
    const KIND: &str = CANARY_SEEN;
    let (reason, message) = match connected.member.canary().standing() {
        Standing::Well(_) => return Condition::holds(KIND, now),
        Standing::Unknown => {
            let message = "the first renewal is pending".to_owned();
            return Condition { state: State::Unknown, ..Condition::fails(KIND, "Standby", message, now) };
        }
        Standing::NotShown(reason) => ("NotShown", reason),
        Standing::NotWritten(reason) => ("NotWritten", reason),
        Standing::NotAllowed(reason) => ("NotAllowed", reason),
    };
    Condition::fails(KIND, reason, message, now)
}

fn synced(connected: &Connected, now: Timestamp) -> Condition {
    const KIND: &str = "Synced";
    let reports = connected.member.watches();
    let failing: Vec<String> = reports
        .iter()
        .filter_map(|watch| Some(format!("{}: {}", watch.what, watch.error.as_ref()?)))
        .collect();
    if !failing.is_empty() {
        return Condition::fails(KIND, "WatchesFail", failing.join("; "), now);
    }
    let unreadable: Vec<&str> =
        reports.iter().flat_map(|watch| watch.unreadable.iter().map(String::as_str)).collect();
    if !unreadable.is_empty() {
        let message = format!("objects that cannot be read: {}", unreadable.join(", "));
        return Condition::fails(KIND, "Unreadable", message, now);
    }
    if connected.member.is_synced() {
        return Condition::holds(KIND, now);
    }
    Condition::fails(KIND, "Listing", "not everything was listed yet".to_owned(), now)
}

/// Whether the cluster's history is the one that was seen.
fn history(rewinds: Option<Rewinds>, now: Timestamp) -> Condition {
    const KIND: &str = "HistoryIntact";
    match rewinds.filter(|rewinds| rewinds.is_recent(now)) {
        None => Condition::holds(KIND, now),
        Some(Rewinds { last, .. }) => {
            let message = format!(
                "it was found set back at {last:.0}, as by a restore of an old backup of its etcd: workspaces made since \
                 the backup are gone, and those that had ended and came back are left alone"
            );
            Condition::fails(KIND, "Restored", message, last)
        }
    }
}

fn login(ends: Option<Timestamp>, now: Timestamp) -> Condition {
    const KIND: &str = "LoginLasts";
    match ends {
        Some(ends) if ends <= now => Condition::fails(KIND, "Ended", format!("it ended at {ends:.0}"), ends),
        Some(ends) if ends.duration_since(now) < ENDS_SOON => {
            Condition::fails(KIND, "EndsSoon", format!("it ends at {ends:.0}"), now)
        }
        _ => Condition::holds(KIND, now),
    }
}

fn maintenance_read(connected: &Connected, now: Timestamp) -> Condition {
    const KIND: &str = "MaintenanceRead";
    let problem = |name: &Namespace| connected.member.maintenance(name.as_str())?.problem();
    let problems: Vec<String> =
        connected.places().keys().filter_map(|name| Some(format!("{name}: {}", problem(name)?))).collect();
    if problems.is_empty() {
        return Condition::holds(KIND, now);
    }
    Condition::fails(KIND, "Unreadable", problems.join("; "), now)
}

fn under_maintenance(connected: &Connected) -> BTreeMap<Namespace, Timestamp> {
    let now = Timestamp::now();
    let until = |name: &Namespace| connected.member.maintenance(name.as_str())?.until();
    let on = connected.places().keys().filter_map(|name| Some((name.clone(), until(name)?)));
    on.filter(|(_, until)| now < *until).collect()
}
