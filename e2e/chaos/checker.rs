//! Checks the history of a run against Spaceport's guarantees. A pure function, one rule for each guarantee; the run
//! must have become quiet.

mod admin;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::history::{Answer, Asked, Call, History, Outcome, Record, Recorded, Resource, Seen, Write};

/// A broken guarantee.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A start was acknowledged, and the workspace never existed where the response said.
    Lost(String),
    /// A start was acknowledged, no client asked for a stop and no drain stopped it, and it does not run at the end.
    NotRunning(String),
    /// A workspace had more than one lifetime, or more than one pod that ran.
    MoreThanOnce(String),
    /// A workspace on two clusters, at whatever times.
    TwoClusters(String),
    /// Two workspaces with one long-lived id at the same time.
    MetaTwice(String),
    /// A stop was acknowledged, and the workspace exists at the end.
    ForgottenStop(String),
    /// The same request got two responses.
    TwoAnswers(String),
    /// Two different requests under one id were both acknowledged.
    TwoRequests(String),
    /// Record and cluster disagree on whether, or where, a workspace exists.
    WrongRecord(String),
    /// A subscriber received an older version after a newer one.
    VersionFell(String),
    /// The last state that a subscriber received is not the state at the end.
    NotTrue(String),
    /// A write of an earlier epoch was accepted after a write of a later one.
    Stale(String),
    /// A start sent after a cluster was closed was placed there while it was closed.
    Misplaced(String),
    /// A workspace was stopped without a request.
    StoppedByNobody(String),
    /// A workspace is gone, and its content is in no backup.
    LostContent(String),
    /// Acknowledged activity is not recorded.
    LostActivity(String),
    /// An acknowledged start was rejected when it was repeated, though the workspace runs.
    RepeatRefused(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, which) = match self {
            Self::Lost(which) => ("an acknowledged start is lost", which),
            Self::NotRunning(which) => ("an acknowledged start does not run", which),
            Self::MoreThanOnce(which) => ("it ran more than once", which),
            Self::TwoClusters(which) => ("it was on two clusters", which),
            Self::MetaTwice(which) => ("a long-lived id lived twice", which),
            Self::ForgottenStop(which) => ("an acknowledged stop is forgotten", which),
            Self::TwoAnswers(which) => ("a repeated call got another answer", which),
            Self::TwoRequests(which) => ("two requests under one id were acknowledged", which),
            Self::WrongRecord(which) => ("record and cluster disagree", which),
            Self::VersionFell(which) => ("a version fell", which),
            Self::NotTrue(which) => ("a subscriber's last state is not true", which),
            Self::Stale(which) => ("a write of an earlier epoch was accepted", which),
            Self::Misplaced(which) => ("it was placed on a cluster that was closed", which),
            Self::StoppedByNobody(which) => ("nobody asked for the stop", which),
            Self::LostContent(which) => ("it ended without a backup", which),
            Self::LostActivity(which) => ("acknowledged activity is lost", which),
            Self::RepeatRefused(which) => ("a repeated start was refused though it runs", which),
        };
        write!(f, "{what}: {which}")
    }
}

/// Returns every broken guarantee, sorted.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = BTreeSet::new();
    let mut calls: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &history.calls {
        calls.entry(&call.id).or_default().push(call);
    }
    let mut lifetimes: BTreeMap<&str, Vec<&Resource>> = BTreeMap::new();
    for resource in &history.resources {
        lifetimes.entry(&resource.id).or_default().push(resource);
    }
    let none = Vec::new();
    for (id, calls) in &calls {
        let lifetimes = lifetimes.get(id).unwrap_or(&none);
        violations.extend(answers(id, calls));
        violations.extend(fate(id, calls, lifetimes, history));
        violations.extend(repeats(id, calls, lifetimes));
        violations.extend(admin::stopped_by_nobody(id, calls, lifetimes, history));
        violations.extend(admin::lost_activity(id, calls, lifetimes));
    }
    for (id, lifetimes) in &lifetimes {
        violations.extend(once(id, lifetimes));
    }
    violations.extend(admin::misplaced(history, &lifetimes));
    violations.extend(admin::lost_content(&history.resources));
    violations.extend(metas(&history.resources));
    violations.extend(records(&history.records, &lifetimes));
    for (name, seen) in &history.subscribers {
        violations.extend(versions(name, seen));
        if !history.ended.contains(name) {
            violations.extend(last_states(name, seen, &lifetimes));
        }
    }
    for (cluster, writes) in &history.writes {
        violations.extend(epochs(cluster, writes));
    }
    violations.into_iter().collect()
}

fn started<'a>(calls: &[&'a Call]) -> Vec<(&'a Asked, &'a Answer)> {
    let acknowledged = calls.iter().filter_map(|call| match &call.outcome {
        Outcome::Started(answer) => Some((&call.asked, answer)),
        Outcome::Stopped | Outcome::Marked | Outcome::Failed(_) => None,
    });
    acknowledged.collect()
}

/// One request per id, one response per request.
fn answers(id: &str, calls: &[&Call]) -> Vec<Violation> {
    let started = started(calls);
    let Some((asked, answer)) = started.first() else { return Vec::new() };
    let others = started.iter().filter_map(|(other, got)| {
        if other != asked {
            Some(Violation::TwoRequests(id.to_owned()))
        } else if got != answer {
            Some(Violation::TwoAnswers(format!("{id}: {answer:?} and {got:?}")))
        } else {
            None
        }
    });
    others.collect()
}

/// Acknowledged starts and stops took effect, and stay so.
fn fate(id: &str, calls: &[&Call], lifetimes: &[&Resource], history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    let stops = || calls.iter().filter(|call| call.asked == Asked::Stop);
    if let Some((_, answer)) = started(calls).first() {
        let there: Vec<_> = lifetimes.iter().filter(|life| life.cluster == answer.cluster).collect();
        if there.is_empty() {
            violations.push(Violation::Lost(format!("{id} on {}", answer.cluster)));
        } else if stops().next().is_none()
            && !there.iter().any(|life| life.until.is_none() && life.phase == "Running")
            && !there.iter().any(|life| admin::is_drained(life, history))
        {
            let last = there.last().map_or("", |life| life.phase.as_str());
            violations.push(Violation::NotRunning(format!("{id} on {}: {last}", answer.cluster)));
        }
    }
    // A stop of an unknown workspace is acknowledged too, but clients here never start one after that.
    if stops().any(|call| call.outcome == Outcome::Stopped)
        && let Some(life) = lifetimes.iter().find(|life| life.until.is_none())
    {
        violations.push(Violation::ForgottenStop(format!("{id} is on {}: {}", life.cluster, life.phase)));
    }
    violations
}

/// A repeated start of a running workspace is acknowledged again.
fn repeats(id: &str, calls: &[&Call], lifetimes: &[&Resource]) -> Vec<Violation> {
    let Some(first) = calls.iter().find(|call| matches!(call.outcome, Outcome::Started(_))) else {
        return Vec::new();
    };
    let refused = |call: &&&Call| {
        let is_refused = matches!(&call.outcome, Outcome::Failed(why) if why.starts_with("AlreadyExists"));
        is_refused && call.asked == first.asked && call.sent >= first.answered
    };
    let runs = lifetimes.iter().any(|life| life.until.is_none() && life.stop_asked.is_none());
    let refused = calls.iter().find(refused).filter(|_| runs);
    refused.map(|call| Violation::RepeatRefused(format!("{id}: {:?}", call.outcome))).into_iter().collect()
}

/// One cluster, one lifetime, one pod.
fn once(id: &str, lifetimes: &[&Resource]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let clusters: BTreeSet<&str> = lifetimes.iter().map(|life| life.cluster.as_str()).collect();
    if clusters.len() > 1 {
        violations.push(Violation::TwoClusters(format!("{id}: {clusters:?}")));
    }
    let uids: BTreeSet<&str> = lifetimes.iter().map(|life| life.uid.as_str()).collect();
    let pods: BTreeSet<&str> =
        lifetimes.iter().flat_map(|life| life.pods.iter().map(String::as_str)).collect();
    if uids.len() > clusters.len() || pods.len() > 1 {
        violations.push(Violation::MoreThanOnce(format!(
            "{id}: {} lifetimes, {} pods",
            uids.len(),
            pods.len()
        )));
    }
    violations
}

/// No two workspaces with one long-lived id at a time.
fn metas(resources: &[Resource]) -> Vec<Violation> {
    let mut by_meta: BTreeMap<&str, Vec<&Resource>> = BTreeMap::new();
    for resource in resources {
        by_meta.entry(&resource.meta).or_default().push(resource);
    }
    let begins_within = |one: &Resource, other: &Resource| one.from < other.until.unwrap_or(u64::MAX);
    let overlap = |one: &Resource, other: &Resource| begins_within(one, other) && begins_within(other, one);
    let mut violations = Vec::new();
    for (meta, lifetimes) in by_meta {
        for (nth, one) in lifetimes.iter().enumerate() {
            let mut others = lifetimes[nth + 1..].iter().filter(|other| other.id != one.id);
            if let Some(other) = others.find(|other| overlap(one, other)) {
                violations.push(Violation::MetaTwice(format!("{meta}: {} and {}", one.id, other.id)));
            }
        }
    }
    violations
}

/// A workspace is recorded where it is, and a record names a place where it is. An unconfirmed record may still be
/// either.
fn records(records: &[Record], lifetimes: &BTreeMap<&str, Vec<&Resource>>) -> Vec<Violation> {
    let records: BTreeMap<&str, &Record> =
        records.iter().map(|record| (record.id.as_str(), record)).collect();
    let there =
        |id: &str| lifetimes.get(id).and_then(|lifetimes| lifetimes.iter().find(|life| life.until.is_none()));
    let mut violations = Vec::new();
    for id in records.keys().chain(lifetimes.keys()) {
        let said = records.get(id).map(|record| (record.cluster.as_str(), record.state));
        let is = there(id).map(|life| life.cluster.as_str());
        let agree = match (said, is) {
            (Some((said, state)), Some(is)) => said == is && state != Recorded::Ended,
            (Some((_, state)), None) => state != Recorded::Confirmed,
            (None, is) => is.is_none(),
        };
        if !agree {
            violations.push(Violation::WrongRecord(format!("{id} is on {is:?}, recorded as {said:?}")));
        }
    }
    violations
}

fn versions(name: &str, seen: &[Seen]) -> Vec<Violation> {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for update in seen {
        let before = last.insert(&update.id, update.version).unwrap_or(0);
        if before > update.version {
            let fell = format!("{name}: {} from {before} to {}", update.id, update.version);
            violations.push(Violation::VersionFell(fell));
        }
    }
    violations
}

/// Existing workspaces are reported as they are, and ended ones as stopped.
fn last_states(name: &str, seen: &[Seen], lifetimes: &BTreeMap<&str, Vec<&Resource>>) -> Vec<Violation> {
    let last: BTreeMap<&str, &Seen> = seen.iter().map(|update| (update.id.as_str(), update)).collect();
    let mut violations = Vec::new();
    for (id, lifetimes) in lifetimes {
        let alive = lifetimes.iter().find(|life| life.until.is_none());
        let reported = last.get(id).map(|update| (update.phase.as_str(), update.cluster.as_str()));
        let good = match (alive, reported) {
            (Some(life), Some((phase, cluster))) => phase == life.phase && cluster == life.cluster,
            (Some(_), None) => false,
            // A subscriber that came later never heard of workspaces that had ended.
            (None, None) => true,
            (None, Some((phase, _))) => phase == "Stopped",
        };
        if !good {
            let is = alive.map(|life| (life.phase.as_str(), life.cluster.as_str()));
            violations
                .push(Violation::NotTrue(format!("{name}: {id} is {is:?} and was reported as {reported:?}")));
        }
    }
    for (id, update) in &last {
        if !lifetimes.contains_key(id) && update.phase != "Stopped" {
            violations.push(Violation::NotTrue(format!(
                "{name}: {id} never existed, reported as {}",
                update.phase
            )));
        }
    }
    violations
}

/// The first write of an epoch proves that the raise of the fence was confirmed; the apiserver must reject whatever it
/// receives later under an earlier epoch.
fn epochs(cluster: &str, writes: &[Write]) -> Vec<Violation> {
    let mut first: BTreeMap<(&str, (u64, u64)), u64> = BTreeMap::new();
    for write in writes.iter().filter(|write| write.accepted && !write.probe) {
        let from = first.entry((&write.namespace, write.epoch)).or_insert(write.received);
        *from = write.received.min(*from);
    }
    let mut violations = Vec::new();
    for write in writes.iter().filter(|write| write.accepted && !write.probe) {
        let later = first.iter().find(|((namespace, epoch), from)| {
            *namespace == write.namespace && *epoch > write.epoch && **from < write.received
        });
        if let Some(((_, epoch), from)) = later {
            let (what, late) = (&write.what, write.received - from);
            violations.push(Violation::Stale(format!(
                "{cluster}: {what} under {:?}, {late} ms after the first write under {epoch:?}",
                write.epoch
            )));
        }
    }
    violations
}

#[cfg(test)]
mod tests;
