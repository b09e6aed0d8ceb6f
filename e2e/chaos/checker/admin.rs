//! Guarantees to an admin: a cordoned or draining cluster gets no new workspaces, a drain stops only workspaces that
//! exist while it runs, and none of this loses content.

use std::collections::BTreeMap;

use super::Violation;
use crate::chaos::history::{Act, AdminCall, Asked, Call, Content, History, Outcome, Resource};

/// A call without a response may be carried out this many milliseconds after it was sent: by a replica that was frozen,
/// or once there is a leader.
pub const LATE: u64 = 20_000;

/// Interval in which a cluster certainly accepted no new workspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Closed {
    from: u64,
    until: u64,
}

/// Starts that were first sent while their cluster was closed, and placed there while it still was.
pub fn misplaced(history: &History, lifetimes: &BTreeMap<&str, Vec<&Resource>>) -> Vec<Violation> {
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    for call in history.calls.iter().filter(|call| matches!(call.asked, Asked::Start { .. })) {
        let sent = first.entry(&call.id).or_insert(call.sent);
        *sent = call.sent.min(*sent);
    }
    let mut violations = Vec::new();
    for (id, sent) in first {
        let acknowledged = history.calls.iter().filter(|call| call.id == id).filter_map(placed);
        let seen = lifetimes.get(id).into_iter().flatten().map(|life| (life.cluster.as_str(), life.from));
        for (cluster, at) in acknowledged.chain(seen) {
            let closed = closed(&history.admin, cluster);
            if let Some(closed) = closed.iter().find(|closed| closed.from <= sent && at <= closed.until) {
                let what = format!("{id} on {cluster}: asked for {} ms after", sent - closed.from);
                violations.push(Violation::Misplaced(what));
                break;
            }
        }
    }
    violations
}

fn placed(call: &Call) -> Option<(&str, u64)> {
    match &call.outcome {
        Outcome::Started(answer) => Some((answer.cluster.as_str(), call.answered)),
        _ => None,
    }
}

/// A cluster is closed from the acknowledgement of a call that closes it until the next call that may open it is sent,
/// and not while an earlier call that may open it could still take effect.
fn closed(admin: &[AdminCall], cluster: &str) -> Vec<Closed> {
    let here: Vec<&AdminCall> = admin.iter().filter(|call| call.cluster == cluster).collect();
    let mut closed = Vec::new();
    for call in here.iter().filter(|call| call.acknowledged && call.act.closes()) {
        let opens = |other: &&&AdminCall| other.act.opens(call.act);
        let until = here.iter().filter(opens).map(|other| other.sent).filter(|sent| *sent >= call.sent).min();
        let lost = here.iter().filter(opens).filter(|other| !other.acknowledged && other.sent < call.sent);
        let certain = lost.map(|other| other.sent.saturating_add(LATE)).max().unwrap_or(0);
        closed.push(Closed { from: call.answered.max(certain), until: until.unwrap_or(u64::MAX) });
    }
    closed
}

/// Workspaces that stopped without a request of a client or a drain.
pub fn stopped_by_nobody(
    id: &str,
    calls: &[&Call],
    lifetimes: &[&Resource],
    history: &History,
) -> Vec<Violation> {
    if calls.iter().any(|call| call.asked == Asked::Stop) {
        return Vec::new();
    }
    let stopped = lifetimes.iter().filter(|life| life.stop_asked.is_some() && !is_drained(life, history));
    stopped.map(|life| Violation::StoppedByNobody(format!("{id} on {}", life.cluster))).collect()
}

/// Whether a drain of its cluster may have stopped it.
pub fn is_drained(life: &Resource, history: &History) -> bool {
    let admin = history.admin.iter().filter(|call| call.cluster == life.cluster);
    let drains = admin.clone().filter(|call| call.act == Act::Drain);
    // Time of the stop request; if its log entry was lost with the apiserver, any time.
    let (earliest, latest) = match (life.stop_asked, life.until) {
        (Some(at), _) => (at, at),
        (None, Some(_)) if !life.seen_end => (life.from, u64::MAX),
        (None, _) => return false,
    };
    let mut ends = drains.map(|drain| {
        let over = admin.clone().filter(|call| call.act.opens(Act::Drain) && call.acknowledged);
        let over = over.map(|call| call.answered).filter(|answered| *answered >= drain.answered).min();
        (drain.sent, over.map_or(u64::MAX, |over| over.saturating_add(LATE)))
    });
    ends.any(|(from, until)| from <= latest && earliest <= until)
}

/// Workspaces that ended without a backup of their content.
pub fn lost_content(lifetimes: &[Resource]) -> Vec<Violation> {
    let lost = lifetimes.iter().filter(|life| life.seen_end && life.content == Content::Unsaved);
    lost.map(|life| Violation::LostContent(format!("{} on {}", life.id, life.cluster))).collect()
}

/// Acknowledged activity is recorded, unless an earlier call without a response took effect after it.
pub fn lost_activity(id: &str, calls: &[&Call], lifetimes: &[&Resource]) -> Vec<Violation> {
    let marks = || calls.iter().filter(|call| call.asked == Asked::Activity);
    let acknowledged = marks().filter(|call| call.outcome == Outcome::Marked).map(|call| call.sent).max();
    let (Some(marked), Some(life)) = (acknowledged, lifetimes.last()) else { return Vec::new() };
    let without_answer = marks().filter(|call| matches!(call.outcome, Outcome::Failed(_)));
    let late =
        without_answer.map(|call| call.sent).filter(|sent| *sent < marked && sent + LATE > marked).min();
    // Kubernetes timestamps have whole seconds.
    let bound = late.unwrap_or(marked) / 1000 * 1000;
    let is_known = life.until.is_none() || life.seen_end;
    if is_known && life.active.is_none_or(|active| active < bound) {
        return vec![Violation::LostActivity(format!(
            "{id}: {:?} is known, {bound} was acknowledged",
            life.active
        ))];
    }
    Vec::new()
}
