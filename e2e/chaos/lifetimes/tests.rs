//! Lifetimes from audit logs.

use serde_json::{Value, json};

use super::*;

fn event(verb: &str, received: u64, object: Value) -> Event {
    let resource = if object["kind"] == "Pod" { "pods" } else { "workspaces" };
    Event {
        received,
        answered: received + 10,
        verb: verb.to_owned(),
        resource: resource.to_owned(),
        namespace: "ws".to_owned(),
        name: "one".to_owned(),
        accepted: true,
        dry_run: false,
        epoch: None,
        object,
    }
}

fn workspace(version: u64, phase: &str, finalizer: bool, deleted: bool) -> Value {
    let finalizers: &[&str] = if finalizer { &["gitpod.io/finalizer"] } else { &[] };
    let mut object =
        serde_json::to_value(Workspace::new("one", k8s::resources::WorkspaceSpec::default())).unwrap();
    object["metadata"] = json!({
        "name": "one", "uid": "u1", "resourceVersion": version.to_string(), "finalizers": finalizers,
        "creationTimestamp": "1970-01-01T00:00:05Z",
    });
    if deleted {
        object["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:06Z");
    }
    object["status"] = json!({ "phase": phase, "podStarts": 0 });
    object
}

fn lifetimes(events: &[Event]) -> Resource {
    let mut lifetimes = Lifetimes::default();
    for event in events {
        lifetimes.take("eu", event).unwrap();
    }
    lifetimes.resources().remove(0)
}

#[test]
fn a_lifetime_begins_with_the_response_to_its_creation_and_ends_with_the_request_that_removed_the_last_finalizer()
 {
    let begun = event("create", 5_100, workspace(1, "Unknown", true, false));
    let runs = event("patch", 5_200, workspace(2, "Running", true, false));
    let deleted = event("delete", 6_000, workspace(4, "Stopped", true, true));
    let removed = event("patch", 6_100, workspace(5, "Stopped", false, true));
    let late = event("patch", 5_900, workspace(3, "Stopping", true, false));
    let dry = Event { dry_run: true, ..removed.clone() };
    let refused = Event { accepted: false, ..removed.clone() };
    let life = lifetimes(&[begun.clone(), runs.clone(), dry, refused]);
    assert_eq!((life.from, life.until, life.phase.as_str()), (5_110, None, "Running"));
    let life = lifetimes(&[runs, begun, deleted.clone(), removed, late]);
    assert_eq!((life.from, life.until, life.seen_end), (5_110, Some(6_100), true));
    assert_eq!((life.version, life.phase.as_str()), (5, "Stopped"));
    assert_eq!(lifetimes(&[deleted]).until, None, "its finalizer holds it");
}

#[test]
fn a_deletion_that_is_complete_answers_the_uid_alone() {
    let begun = event("create", 5_100, workspace(1, "Unknown", false, false));
    let gone =
        event("delete", 6_000, json!({ "kind": "Status", "status": "Success", "details": { "uid": "u1" } }));
    let life = lifetimes(&[begun, gone]);
    assert_eq!((life.until, life.seen_end), (Some(6_000), true));
}

#[test]
fn writes_that_a_killed_apiserver_did_not_log_are_known_from_lists_and_later_responses() {
    let mut lifetimes = Lifetimes::default();
    let unlogged: Workspace = serde_json::from_value(workspace(3, "Running", true, false)).unwrap();
    lifetimes.are("eu", std::slice::from_ref(&unlogged));
    let life = lifetimes.resources().remove(0);
    assert_eq!((life.from, life.phase.as_str(), life.until), (6_000, "Running", None));
    lifetimes.take("eu", &event("patch", 5_300, workspace(4, "Stopping", true, false))).unwrap();
    lifetimes.are("us", &[]);
    assert_eq!(lifetimes.resources()[0].until, None, "it is in another cluster");
    lifetimes.are("eu", &[]);
    let life = lifetimes.resources().remove(0);
    assert_eq!((life.from, life.until, life.seen_end), (5_310, Some(5_300), false));
    lifetimes.take("eu", &event("patch", 7_000, workspace(5, "Stopped", false, true))).unwrap();
    let life = lifetimes.resources().remove(0);
    assert_eq!((life.until, life.seen_end), (Some(7_000), true));
}

#[test]
fn pods_that_ran_belong_to_their_owner_and_each_counts_once() {
    let pod = |uid: &str, phase: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "status": { "phase": phase },
            "metadata": { "uid": uid, "ownerReferences": [
                { "apiVersion": "v1", "kind": "Workspace", "name": "one", "uid": "u1" }] },
        })
    };
    let begun = event("create", 5_100, workspace(1, "Unknown", true, false));
    let mut all = vec![begun];
    all.extend(["Pending", "Running", "Running"].map(|phase| event("patch", 5_200, pod("p1", phase))));
    assert_eq!(lifetimes(&all).pods, ["p1"]);
    all.push(event("patch", 5_300, pod("p2", "Running")));
    assert_eq!(lifetimes(&all).pods, ["p1", "p2"]);
}
