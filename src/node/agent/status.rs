//! Pure: the agent's part of a status, as a merge patch of what it is now. Conditions of other writers stay as they are.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s::resources::conditions::{self, CONTENT_PROGRESS};
use serde_json::{Map, Value, json};

use crate::decide::{Report, Update};

/// The patch that brings a report into the status of a Workspace. `None`: all of it is there, or it is for another attempt.
pub fn patch(status: &Value, report: &Report, now: Timestamp) -> Option<Value> {
    let attempt = status.get("podRecreated").and_then(Value::as_i64).unwrap_or_default();
    if attempt != i64::from(report.attempt) {
        return None;
    }
    let mut changes = Map::new();
    let updates = ended(status, &report.conditions);
    if let Some(list) = updated(status, &updates, now) {
        changes.insert("conditions".to_owned(), list);
    }
    let fields = [
        ("git", report.git.as_ref().map(|git| json!(git))),
        ("snapshot", report.snapshot.as_ref().map(|snapshot| json!(snapshot))),
        ("initializerMetrics", report.initializer_metrics.as_ref().map(|metrics| json!(metrics))),
    ];
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| status.get(name) != Some(value)) {
            changes.insert(name.to_owned(), value);
        }
    }
    (!changes.is_empty()).then(|| changes.into())
}

/// The updates, and that nothing is in progress any more where they report an end.
fn ended<'a>(status: &Value, updates: &'a [Update]) -> Cow<'a, [Update]> {
    let list = status.get("conditions").and_then(Value::as_array);
    let has = |one: &Value, field: &str, text: &str| one.get(field).and_then(Value::as_str) == Some(text);
    let in_progress = list
        .into_iter()
        .flatten()
        .any(|one| has(one, "type", CONTENT_PROGRESS) && has(one, "status", "True"));
    let is_end = !updates.is_empty() && updates.iter().all(|update| update.kind != CONTENT_PROGRESS);
    if !in_progress || !is_end {
        return updates.into();
    }
    let over = Update {
        kind: CONTENT_PROGRESS,
        is_true: false,
        reason: conditions::reason::UNKNOWN,
        message: String::new(),
    };
    updates.iter().cloned().chain([over]).collect()
}

/// The whole list with the updates; `None` if they are there. A repeated update keeps the time of its transition.
fn updated(status: &Value, updates: &[Update], now: Timestamp) -> Option<Value> {
    let mut list = status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut is_changed = false;
    for update in updates {
        let reason = if update.reason.is_empty() { conditions::reason::UNKNOWN } else { update.reason };
        let wanted = [
            ("type", update.kind),
            ("status", if update.is_true { "True" } else { "False" }),
            ("reason", reason),
            ("message", update.message.as_str()),
        ];
        let at = list.iter().position(|one| one.get("type").and_then(Value::as_str) == Some(update.kind));
        let current = at.and_then(|at| list.get(at));
        let holds = |(field, value): (&str, &str)| {
            current.and_then(|one| one.get(field)).and_then(Value::as_str) == Some(value)
        };
        if wanted.into_iter().all(holds) {
            continue;
        }
        let mut condition: Map<String, Value> =
            wanted.into_iter().map(|(field, value)| (field.to_owned(), json!(value))).collect();
        // Kubernetes timestamps have whole seconds.
        condition
            .insert("lastTransitionTime".to_owned(), json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        match at.and_then(|at| list.get_mut(at)) {
            Some(place) => *place = condition.into(),
            None => list.push(condition.into()),
        }
        is_changed = true;
    }
    is_changed.then_some(Value::Array(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: &'static str, is_true: bool, message: &str) -> Report {
        let update = Update { kind, is_true, reason: "Reason", message: message.to_owned() };
        Report { attempt: 0, conditions: vec![update], git: None, snapshot: None, initializer_metrics: None }
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05.6Z".parse().unwrap()
    }

    #[test]
    fn conditions_of_others_stay_as_they_are() {
        let theirs = json!({"type": "Deployed", "status": "True", "reason": "x", "unknownField": 7});
        let status = json!({"conditions": [theirs.clone()], "phase": "Stopping"});
        let patch = patch(&status, &report("BackupComplete", true, ""), now()).unwrap();
        let ours = json!({"type": "BackupComplete", "status": "True", "reason": "Reason", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z"});
        assert_eq!(patch, json!({"conditions": [theirs, ours]}));
    }

    #[test]
    fn a_report_that_is_there_already_changes_nothing() {
        let made = report("ContentReady", false, "no such repository");
        let status = patch(&json!({}), &made, now()).unwrap();
        assert_eq!(patch(&status, &made, "2027-01-01T00:00:00Z".parse().unwrap()), None);
        let other = patch(&status, &report("ContentReady", true, ""), now()).unwrap();
        assert_eq!(other["conditions"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_report_of_an_earlier_attempt_is_dropped() {
        let status = json!({"podRecreated": 1});
        assert_eq!(patch(&status, &report("StateWiped", true, ""), now()), None);
        let second = Report { attempt: 1, ..report("StateWiped", true, "") };
        assert!(patch(&status, &second, now()).is_some());
    }

    #[test]
    fn fields_are_patched_only_where_they_differ() {
        let snapshot = |url: &str| Report {
            snapshot: Some(url.to_owned()),
            conditions: Vec::new(),
            ..report("x", true, "")
        };
        let status = json!({"snapshot": "a"});
        assert_eq!(patch(&status, &snapshot("a"), now()), None);
        assert_eq!(patch(&status, &snapshot("b"), now()), Some(json!({"snapshot": "b"})));
    }

    #[test]
    fn the_report_of_an_end_takes_the_progress_back() {
        let state = |status: &Value, kind: &str| {
            let list = status["conditions"].as_array().unwrap();
            let found = list.iter().find(|one| one["type"] == kind).unwrap();
            (found["status"].clone(), found["message"].clone())
        };
        let status = patch(&json!({}), &report("ContentProgress", true, "restoring, 1 MiB"), now()).unwrap();
        let more = patch(&status, &report("ContentProgress", true, "restoring, 2 MiB"), now()).unwrap();
        assert_eq!(state(&more, "ContentProgress"), ("True".into(), "restoring, 2 MiB".into()));
        let end = patch(&more, &report("ContentReady", true, ""), now()).unwrap();
        assert_eq!(state(&end, "ContentReady"), ("True".into(), "".into()));
        assert_eq!(state(&end, "ContentProgress"), ("False".into(), "".into()));
        assert_eq!(patch(&end, &report("ContentReady", true, ""), now()), None);
        let none = patch(&json!({}), &report("ContentReady", true, ""), now()).unwrap();
        assert_eq!(none["conditions"].as_array().unwrap().len(), 1);
    }
}
