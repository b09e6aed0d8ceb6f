use serde_json::{Value, json};

use super::*;
use domain::workspace::{ContentReports, Kind};

fn seen_of(status: &Value) -> View {
    let workspace: Workspace = serde_json::from_value(json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
        "metadata": {"name": "a", "namespace": "ws", "uid": "u", "resourceVersion": "42",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"mine": "1", "spaceport.dev/generation": "3", "spaceport.dev/spec-digest": "d",
                "spaceport.dev/project": "p"}},
        "spec": {
            "ownership": {"owner": "jane", "workspaceID": "meta", "team": "t"}, "type": "Prebuild", "class": "c",
            "image": {"workspace": {"ref": "img"}, "ide": {"web": "w", "supervisor": "s", "refs": ["l"]}},
            "initializer": "", "workspaceLocation": "", "admission": {"level": "Everyone"},
            "timeout": {"time": "90m", "closed": "0"},
            "ports": [{"port": 8080, "visibility": "Everyone", "protocol": "Https"},
                      {"port": 99, "visibility": "Owner", "protocol": "Http"}]},
        "status": status,
    }))
    .unwrap();
    let urls = |id: &str, meta: &str, port: u16| (port != 99).then(|| format!("https://{port}-{meta}.{id}"));
    let settings =
        ViewSettings { default_timeout: "30m0s", closed_timeout: "2m0s", urls: &urls, installation: "here" };
    view(&workspace, &settings).unwrap()
}

fn condition(kind: &str, status: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": "Unknown", "message": message,
           "lastTransitionTime": "2026-01-01T01:00:00Z"})
}

fn hindered(phase: &str, reason: &str, message: &str) -> Value {
    let mut running = condition("WorkspaceContainerRunning", "False", message);
    running["reason"] = json!(reason);
    json!({"podStarts": 1, "phase": phase, "conditions": [running]})
}

fn with_node(phase: &str, reason: &str, others: &[Value]) -> Value {
    let mut node = condition("NodeNotReady", "True", "node n1 does not answer");
    node["reason"] = json!(reason);
    let conditions = [&[node][..], others].concat();
    json!({"podStarts": 1, "phase": phase, "conditions": conditions})
}

#[test]
fn a_resource_that_others_hold_says_whose_finalizer_does() {
    let message = |finalizers: &[&str], deleting: bool| {
        let deleted = deleting.then_some("2026-01-01T00:00:00Z");
        let meta = json!({"name": "a", "finalizers": finalizers, "deletionTimestamp": deleted});
        let status = json!({"podStarts": 1, "phase": "Stopped"});
        let spec = WorkspaceSpec { type_: Kind::Prebuild, ..WorkspaceSpec::default() };
        let meta = serde_json::from_value(meta).unwrap();
        message::message(&spec, &serde_json::from_value(status).unwrap(), &meta)
    };
    assert_eq!(
        message(&["other/x"], true),
        "Its resource was deleted. Its resource is held by finalizer other/x."
    );
    let many = ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7"];
    assert!(message(&many, true).ends_with("held by finalizers a/1, a/2, a/3, a/4, a/5 and 2 more."));
    assert_eq!(message(&["other/x"], false), "Ended.", "nobody deleted it yet");
    assert_eq!(
        message(&["other/x", "gitpod.io/finalizer"], true),
        "Its resource was deleted.",
        "we hold it, too"
    );
}

#[test]
fn a_view_is_what_the_resource_says() {
    let view =
        seen_of(&json!({"podStarts": 1, "phase": "Running", "url": "https://meta", "ownerToken": "tok",
        "snapshot": "snap", "runtime": {"nodeName": "n1", "podName": "p", "hostIP": "10.0.0.1"},
        "git": {"branch": "main", "totalUntrackedFiles": 2}, "lastActivity": "2026-01-01T02:00:00Z",
        "imageInfo": {"totalSize": 10, "workspaceImageSize": 4},
        "initializerMetrics": {"git": {"duration": "1.5s", "size": 7}},
        "conditions": [condition("FirstUserActivity", "True", "")]}));
    assert_eq!((view.resource_version, view.generation, view.digest.as_str()), (42, 3, "d"));
    assert_eq!(view.annotations, BTreeMap::from([("mine".to_owned(), "1".to_owned())]));
    assert_eq!((view.team.as_deref(), view.project.as_deref()), (Some("t"), Some("p")));
    assert_eq!((view.timeout.as_str(), view.closed_timeout.as_str()), ("1h30m0s", "0s"));
    assert_eq!(view.ports[0].1.as_deref(), Some("https://8080-meta.a"));
    assert_eq!(view.ports[1].1, None);
    assert_eq!(view.runtime.unwrap().node_ip, "10.0.0.1");
    let git = view.initializer_metrics.unwrap().git.unwrap();
    assert_eq!((git.duration, git.size), (Duration::from_millis(1500), 7));
    assert_eq!(view.conditions.first_user_activity, Some("2026-01-01T01:00:00Z".parse().unwrap()));
    assert_eq!(view.message, "The task runs.");
}

#[test]
fn a_condition_that_is_true_without_a_text_reads_as_true_all_the_same() {
    let view = seen_of(&json!({"podStarts": 1, "conditions": [
        condition("Failed", "True", ""), condition("Timeout", "True", ""), condition("Aborted", "False", "x")]}));
    assert_eq!(view.conditions.failed.as_deref(), Some("failed for an unknown reason"));
    assert_eq!(view.conditions.timeout.as_deref(), Some("timed out"));
    assert!(!view.conditions.aborted);
    assert_eq!(view.conditions.headless_task_failed, None);
}

#[test]
fn the_message_says_why_a_workspace_is_where_it_is() {
    let cases = [
        (json!({"podStarts": 0, "phase": "Pending"}), "Waits for its pod to be made."),
        (json!({"podStarts": 1, "phase": "Pending"}), "Waits for a node with available capacity."),
        (json!({"podStarts": 1, "phase": "Creating"}), "Its node pulls the images and starts the container."),
        (
            json!({"podStarts": 1, "phase": "Stopping", "conditions":
                [condition("StoppedByRequest", "True", "30s"), condition("ContentReady", "True", "")]}),
            "Stopped on request; its content is being backed up.",
        ),
        (
            json!({"podStarts": 1, "phase": "Stopped", "conditions": [condition("Timeout", "True", "it was idle")]}),
            "Timed out: it was idle.",
        ),
        (
            json!({"podStarts": 1, "phase": "Stopping", "conditions":
                [condition("Failed", "True", "no such image"), condition("StoppedByRequest", "True", "")]}),
            "Failed: no such image",
        ),
        (hindered("Creating", "ImagePullFailing", "not found"), "Its image cannot be pulled yet: not found"),
        (hindered("Pending", "Unschedulable", "0/3 nodes"), "No node takes its pod yet: 0/3 nodes"),
        (hindered("Pending", "PodNotCreated", "quota"), "The cluster does not take its pod yet: quota"),
        (hindered("Stopping", "ImagePullFailing", "not found"), "Shutting down."),
        (
            hindered("Creating", "ContainerNotStarted", "CreateContainerError: no disk"),
            "Its container cannot be started yet: CreateContainerError: no disk",
        ),
        (
            with_node("Running", "Unreachable", &[]),
            "Its node n1 does not answer: nobody knows how its pod is.",
        ),
        (
            json!({"podStarts": 1, "phase": "Running", "conditions":
                [condition("StorageFull", "True", "9.9 GiB of 10.0 GiB are used: writes fail")]}),
            "The storage is full: 9.9 GiB of 10.0 GiB are used: writes fail.",
        ),
        (with_node("Running", "NotReady", &[]), "Its node n1 does not answer."),
        (
            with_node("Stopping", "Unreachable", &[condition("StoppedByRequest", "True", "30s")]),
            "Stopped on request; it is shutting down. Its node n1 does not answer: nobody knows how its pod is.",
        ),
        (with_node("Stopped", "Unreachable", &[]), "Ended."),
        (
            json!({"podStarts": 1, "phase": "Stopped", "conditions": [condition("StoppedByRequest", "True", ""),
                condition("PodHeld", "True", "its pod ws-a is held by finalizer example.com/x")]}),
            "Stopped on request. Its pod ws-a is held by finalizer example.com/x.",
        ),
        (
            json!({"podStarts": 1, "phase": "Stopped", "conditions": [condition("Failed", "True", "no such image"),
                condition("PodHeld", "True", "its pod ws-a is held by finalizers a/b, c/d")]}),
            "Failed: no such image. Its pod ws-a is held by finalizers a/b, c/d.",
        ),
    ];
    for (status, message) in cases {
        assert_eq!(seen_of(&status).message, message);
    }
}

#[test]
fn a_write_that_the_cluster_refuses_is_said_and_no_step_that_it_prevents_or_that_is_done() {
    let refused = "the cluster refuses to delete its pod ws-a: admission webhook hook.example denied it (403 Forbidden)";
    let sentence = format!("T{}; it is retried.", &refused[1..]);
    let seen = |phase: &str, more: serde_json::Value| {
        let mut conditions =
            vec![condition("WriteRefused", "True", refused), condition("ContentReady", "True", "")];
        conditions.extend(more.as_array().unwrap().iter().cloned());
        seen_of(&json!({"podStarts": 1, "phase": phase, "conditions": conditions}))
    };
    let stop = || condition("StoppedByRequest", "True", "30s");
    let stopping = seen("Stopping", json!([stop()]));
    assert_eq!(stopping.message, format!("Stopped on request. {sentence}"));
    assert_eq!(stopping.held, "");
    let stopped = seen("Stopped", json!([stop(), condition("BackupComplete", "True", "")]));
    assert_eq!(stopped.message, format!("Stopped on request. {sentence}"));
    assert_eq!(stopped.held, sentence, "so that a stop that waits names it");
    let failed = seen("Stopping", json!([condition("Failed", "True", "no such image")]));
    assert_eq!(failed.message, format!("Failed: no such image. {sentence}"));
}

#[test]
fn a_workspace_whose_refused_pod_is_made_again_is_pending_and_one_that_is_stopped_is_not() {
    let phase_with = |conditions: serde_json::Value| {
        let status = json!({ "podStarts": 1, "phase": "Stopping", "conditions": conditions });
        let status: WorkspaceStatus = serde_json::from_value(status).unwrap();
        phase(Some(&status))
    };
    let condition = |kind: &str| {
        json!({ "type": kind, "status": "True", "reason": "Because", "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z" })
    };
    assert_eq!(phase_with(json!([condition("PodRejected")])), Phase::Pending);
    assert_eq!(phase_with(json!([condition("PodRejected"), condition("StoppedByRequest")])), Phase::Stopping);
    assert_eq!(phase_with(json!([])), Phase::Stopping);
    assert_eq!(phase(None), Phase::Pending);
}

#[test]
fn a_long_operation_is_in_the_message_until_it_ends() {
    let progress = |text: &str| condition("ContentProgress", "True", text);
    let message = |phase: &str, conditions: &[Value]| {
        seen_of(&json!({"podStarts": 1, "phase": phase, "conditions": conditions})).message
    };
    let restoring = progress("restoring the archive, 1.2 GiB");
    assert_eq!(
        message("Initializing", std::slice::from_ref(&restoring)),
        "Restoring the archive, 1.2 GiB. Content is being initialized."
    );
    let ready = condition("ContentReady", "True", "");
    assert_eq!(message("Initializing", &[ready.clone(), restoring.clone()]), "Waits for the IDE to answer.");
    assert_eq!(message("Running", &[ready.clone(), restoring]), "The task runs.");
    let writing = progress("writing the archive, 7 MiB");
    let stopped = condition("StoppedByRequest", "True", "30s");
    let stopping = [ready.clone(), stopped.clone(), writing.clone()];
    assert_eq!(
        message("Stopping", &stopping),
        "Writing the archive, 7 MiB. Stopped on request; its content is being backed up."
    );
    let complete = condition("BackupComplete", "True", "stored as x (7 bytes)");
    let ended = message("Stopping", &[ready.clone(), stopped, writing.clone(), complete]);
    assert_eq!(ended, "Stopped on request; it is shutting down.");
    let over = condition("ContentProgress", "False", "");
    assert_eq!(message("Stopping", &[ready.clone(), over]), "Its content is being backed up.");
    let failed = condition("Failed", "True", "no space");
    assert_eq!(message("Stopping", &[ready, writing, failed]), "Failed: no space");
}

#[test]
fn the_reports_of_the_node_agent_are_taken_over() {
    let reports = |conditions: &[Value]| {
        let status = json!({"podStarts": 1, "phase": "Stopping", "conditions": conditions});
        seen_of(&status).content.map(|content| *content).unwrap_or_default()
    };
    let ready = condition("ContentReady", "True", "");
    assert_eq!(reports(&[condition("ContentReady", "False", "")]), ContentReports::default());
    let mut broken = condition("ContentReady", "False", "no such branch");
    broken["reason"] = json!("InitializationFailure");
    let initialization = reports(&[broken]).initialization.unwrap();
    assert_eq!((initialization.succeeded, &*initialization.message), (false, "no such branch"));
    let complete = condition("BackupComplete", "True", "stored as x (7 bytes)");
    let backup = reports(&[ready.clone(), complete.clone()]).backup.unwrap();
    assert_eq!((backup.succeeded, &*backup.message), (true, "stored as x (7 bytes)"));
    assert_eq!(backup.at.to_string(), "2026-01-01T01:00:00Z");
    let failed = condition("BackupFailure", "True", "the content stays on node n1 in /w/a");
    let backup = reports(&[ready, complete, failed]).backup.unwrap();
    assert_eq!((backup.succeeded, &*backup.message), (false, "the content stays on node n1 in /w/a"));
}
