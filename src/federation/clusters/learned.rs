//! Conditions of what the leader learned of a cluster's namespaces: whether they exist, and accept
//! workspaces and pods.

use jiff::Timestamp;

use crate::fleet::Connected;
use domain::acceptance::NamespaceEnding;
use domain::condition::Condition;
use domain::names::Namespace;

const NAMESPACES_ACTIVE: &str = "NamespacesActive";
const WORKSPACES_ACCEPTED: &str = "WorkspacesAccepted";
const PODS_ACCEPTED: &str = "PodsAccepted";

/// Each condition of [`conditions`], and the reasons it gives.
pub(super) const KINDS: [&str; 3] = [NAMESPACES_ACTIVE, WORKSPACES_ACCEPTED, PODS_ACCEPTED];
pub(super) const REASONS: [&str; 4] = [TERMINATING, MISSING, FAILING, REJECTED];
const TERMINATING: &str = "Terminating";
const MISSING: &str = "Missing";
const FAILING: &str = "Failing";
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
    let failing = connected.member.acceptances().filter_map(|(name, learned)| {
        Some(format!("namespace {name}: creating workspaces fails: {}", learned.workspaces_fail()?))
    });
    unless_empty(WORKSPACES_ACCEPTED, FAILING, &failing.collect::<Vec<_>>(), now)
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
