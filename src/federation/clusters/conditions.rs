//! Conditions of a member cluster.

use jiff::{SignedDuration, Timestamp};

use super::classes::{Shown, classes_agree};
use super::learned;
use super::notes::period;
use crate::fleet::{Connected, GateState, ago};
use domain::canary::CanaryState;
use domain::cluster::FenceMode;
use domain::condition::{self, Condition, State};
use domain::health::Health;
use domain::names::Namespace;
use domain::observed::Observed;
use domain::restore::Restores;
use member::health::HealthReport;
use member::tasks::TaskName;

/// A login that ends sooner is worth a word.
const ENDS_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Conditions that only the leader knows.
const WRITABLE: &str = "Writable";
const CANARY_SEEN: &str = "CanarySeen";

/// What is right and wrong with a member now, each since when. Asking records nothing: see [`super::ages`].
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

/// Conditions that only the leader knows, each since when.
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
        CanaryState::Healthy(_) => return Condition::holds(KIND, now),
        CanaryState::Unknown => {
            let message = "the first renewal is pending".to_owned();
            return Condition { state: State::Unknown, ..Condition::fails(KIND, "Standby", message, now) };
        }
        CanaryState::NotShown(reason) => ("NotShown", reason),
        CanaryState::NotWritten(reason) => ("NotWritten", reason),
        CanaryState::NotAllowed(reason) => ("NotAllowed", reason),
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
fn history(rewinds: Option<Restores>, now: Timestamp) -> Condition {
    const KIND: &str = "HistoryIntact";
    match rewinds.filter(|rewinds| rewinds.is_recent(now)) {
        None => Condition::holds(KIND, now),
        Some(Restores { last, .. }) => {
            let message = format!(
                "a restore of its etcd from an older backup was detected at {last:.0}: workspaces created since the backup are \
                 gone, and those that had ended and came back are left alone"
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
