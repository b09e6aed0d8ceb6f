//! Conditions of what the leader learned of a cluster's namespaces: whether they exist, and accept
//! workspaces and pods.

use jiff::Timestamp;

use crate::fleet::Connected;
use domain::acceptance::{Change, NamespaceEnding};
use domain::condition::Condition;
use domain::names::Namespace;

const NAMESPACES_ACTIVE: &str = "NamespacesActive";
const WORKSPACES_ACCEPTED: &str = "WorkspacesAccepted";
const PODS_ACCEPTED: &str = "PodsAccepted";

/// Each condition of [`conditions`], and the reasons it gives.
pub(super) const KINDS: [&str; 3] = [NAMESPACES_ACTIVE, WORKSPACES_ACCEPTED, PODS_ACCEPTED];
pub(super) const REASONS: [&str; 7] =
    [TERMINATING, MISSING, FAILING, STATUS_WRITES_FAIL, CHANGES_FAIL, REJECTED_BY_RULES, REJECTED];
const TERMINATING: &str = "Terminating";
const MISSING: &str = "Missing";
const FAILING: &str = "Failing";
const STATUS_WRITES_FAIL: &str = "StatusWritesFail";
const CHANGES_FAIL: &str = "ChangesFail";
const REJECTED_BY_RULES: &str = "RejectedByRules";
const REJECTED: &str = "Rejected";

/// What the leader learned, one condition of each kind.
pub(super) fn conditions(connected: &Connected, now: Timestamp) -> [Condition; 3] {
    [active(connected, now), workspaces(connected, now), pods(connected, now)]
}

fn active(connected: &Connected, now: Timestamp) -> Condition {
    let ending: Vec<(&Namespace, NamespaceEnding)> = connected
        .member
        .acceptances()
        .filter_map(|(name, learned)| Some((name, learned.ending()?)))
        .collect();
    let Some((_, first)) = ending.first() else { return Condition::holds(NAMESPACES_ACTIVE, now) };
    let reason = match first {
        NamespaceEnding::Terminating => TERMINATING,
        NamespaceEnding::Missing => MISSING,
    };
    let each: Vec<String> = ending
        .iter()
        .map(|(name, ending)| format!("namespace {name} or the one with its secrets: {}", ending.describe()))
        .collect();
    let message =
        format!("{}; no new workspaces go there, and those that are there can be stopped", each.join("; "));
    Condition::fails(NAMESPACES_ACTIVE, reason, message, now)
}

fn workspaces(connected: &Connected, now: Timestamp) -> Condition {
    let mut problems = Vec::new();
    for (name, learned) in connected.member.acceptances() {
        let of_namespace = |reason, what: &str, why: Option<String>| {
            why.map(|why| (reason, format!("namespace {name}: {what}: {why}")))
        };
        let (status, object) = (learned.changes_fail(Change::Status), learned.changes_fail(Change::Object));
        problems.extend(of_namespace(FAILING, "creating workspaces fails", learned.workspaces_fail()));
        problems.extend(of_namespace(STATUS_WRITES_FAIL, "writing the status of workspaces fails", status));
        problems.extend(of_namespace(CHANGES_FAIL, "changing workspaces fails", object));
        problems.extend(of_namespace(REJECTED_BY_RULES, "it is the last choice", learned.last_choice()));
    }
    // The worst gives the reason.
    let worst = REASONS.into_iter().find(|reason| problems.iter().any(|(of, _)| of == reason));
    let texts: Vec<String> = problems.into_iter().map(|(_, text)| text).collect();
    unless_empty(WORKSPACES_ACCEPTED, worst.unwrap_or(FAILING), &texts, now)
}

fn pods(connected: &Connected, now: Timestamp) -> Condition {
    let rejected = connected.member.acceptances().filter_map(|(name, learned)| {
        Some(format!("namespace {name} rejects pods: {}", learned.pods_rejected()?))
    });
    unless_empty(PODS_ACCEPTED, REJECTED, &rejected.collect::<Vec<_>>(), now)
}

fn unless_empty(kind: &'static str, reason: &'static str, problems: &[String], now: Timestamp) -> Condition {
    if problems.is_empty() {
        return Condition::holds(kind, now);
    }
    Condition::fails(kind, reason, problems.join("; "), now)
}
