use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::fake::Fake;
use super::{parse, spaceport};
use proto::contentservice::workspace_initializer::Spec;
use proto::spaceport::v1::{
    ContentReport, DescribeContentResponse, EndedWorkspace, ListBackupsResponse, LogsRequest, LogsResponse,
    WorkspaceBackup, WorkspaceBackupKind,
};
use proto::wsman::{
    DescribeWorkspaceResponse, GetWorkspacesResponse, StartWorkspaceResponse, StopWorkspacePolicy,
    SubscribeResponse, WorkspaceAuthentication, WorkspaceConditions, WorkspaceMetadata, WorkspacePhase,
    WorkspaceStatus,
};

const START: &str = "workspace start --id one --meta-id meta --owner me --image image --wait";

fn status(id: &str, phase: WorkspacePhase, version: u64) -> WorkspaceStatus {
    WorkspaceStatus {
        id: id.to_owned(),
        phase: phase.into(),
        status_version: version,
        cluster: "eu".to_owned(),
        reachable: true,
        ..Default::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "streams carry results")]
fn event(id: &str, phase: WorkspacePhase, version: u64) -> Result<SubscribeResponse, Status> {
    Ok(update(status(id, phase, version)))
}

fn update(status: WorkspaceStatus) -> SubscribeResponse {
    let resume_token = status.status_version.to_string();
    SubscribeResponse { status: Some(status), resume_token, ..Default::default() }
}

fn answer() -> StartWorkspaceResponse {
    StartWorkspaceResponse {
        url: "https://meta.example".to_owned(),
        owner_token: "hunter2".to_owned(),
        cluster: "eu".to_owned(),
        ..Default::default()
    }
}

fn phases(ran: &str) -> Vec<&str> {
    ran.lines().filter_map(|line| line.split_whitespace().nth(1)).collect()
}

#[tokio::test]
async fn start_and_wait_sees_every_phase_and_survives_a_broken_stream() {
    let server = Fake::default();
    {
        let mut script = server.0.lock();
        script.start = Some(Ok(answer()));
        script.streams.push_back(vec![
            event("another-run", WorkspacePhase::Stopped, 9),
            event("one", WorkspacePhase::Pending, 1),
            event("one", WorkspacePhase::Creating, 2),
            Err(Status::unavailable("restarting")),
        ]);
        script.streams.push_back(vec![
            event("one", WorkspacePhase::Creating, 2),
            event("one", WorkspacePhase::Running, 3),
        ]);
    }
    let ran = spaceport(&server.serve().await, &format!("{START} -o json")).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(phases(&ran.err), ["PENDING", "CREATING", "connection", "RUNNING"], "{}", ran.err);
    let view: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&view["phase"], &view["url"]), (&"RUNNING".into(), &"https://meta.example".into()));
    assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"));
    let script = server.0.lock();
    assert_eq!(script.calls[0], "subscribe");
    assert_eq!(script.calls.iter().filter(|call| **call == "start").count(), 1);
    let [first, second] = &script.subscriptions[..] else { panic!("{:?}", script.subscriptions) };
    assert!(first.replay && first.must_match.as_ref().unwrap().meta_id == "meta");
    assert_eq!((second.replay, second.resume_token.as_str()), (false, "2"));
}

#[tokio::test]
async fn parts_without_effect_are_warnings_on_standard_error() {
    let server = Fake::default();
    let warnings = vec!["no cluster is in region europ".to_owned()];
    server.0.lock().start = Some(Ok(StartWorkspaceResponse { warnings, ..answer() }));
    let start = START.trim_end_matches(" --wait");
    let ran = spaceport(&server.serve().await, &format!("{start} --region europ -o json")).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "warning: no cluster is in region europ\n"));
    assert!(serde_json::from_str::<serde_json::Value>(&ran.out).is_ok(), "{}", ran.out);
}

#[tokio::test]
async fn a_token_that_another_replica_gave_is_dropped_for_a_replay() {
    let server = Fake::default();
    {
        let mut script = server.0.lock();
        script.tokens_expire = true;
        script.start = Some(Ok(answer()));
        let lost = Err(Status::unavailable("the leader is gone"));
        script.streams.push_back(vec![event("one", WorkspacePhase::Creating, 2), lost]);
        let repeated = event("one", WorkspacePhase::Creating, 2);
        script.streams.push_back(vec![repeated, event("one", WorkspacePhase::Running, 3)]);
    }
    let ran = spaceport(&server.serve().await, START).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let asked: Vec<_> =
        server.0.lock().subscriptions.iter().map(|s| (s.replay, s.resume_token.clone())).collect();
    assert_eq!(asked, [(true, String::new()), (false, "2".to_owned()), (true, String::new())]);
}

#[tokio::test]
async fn a_failed_start_ends_with_its_reason() {
    let server = Fake::default();
    let conditions =
        WorkspaceConditions { failed: "image cannot be pulled".to_owned(), ..Default::default() };
    let failed =
        WorkspaceStatus { conditions: Some(conditions), ..status("one", WorkspacePhase::Stopping, 2) };
    server.0.lock().start = Some(Ok(answer()));
    server.0.lock().streams.push_back(vec![Ok(update(failed))]);
    let ran = spaceport(&server.serve().await, START).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.ends_with("spaceport: workspace one: failed: image cannot be pulled\n"), "{}", ran.err);
}

#[tokio::test]
async fn a_rejected_start_differs_from_one_without_a_response() {
    let server = Fake::default();
    server.0.lock().start = Some(Err(Status::failed_precondition("under maintenance")));
    server.0.lock().streams.push_back(vec![]);
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, START).await;
    let expected = "spaceport: failed to start workspace one: FAILED_PRECONDITION: under maintenance\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, expected));
    server.0.lock().start = Some(Err(Status::unavailable("leader is changing")));
    let ran = spaceport(&endpoint, START.trim_end_matches(" --wait")).await;
    assert!(ran.err.contains("may or may not start; see `spaceport workspace show one`"), "{}", ran.err);
    // The server says that it wrote nothing: no cluster could take it yet.
    let reason = |reason: &str| {
        let mut details = ErrorDetails::with_error_info(reason, "spaceport.dev", HashMap::new());
        details.add_precondition_failure_violation("CLUSTER", "eu", "is being connected");
        let message = "no cluster can take workspace one: eu is being connected";
        Status::with_error_details(Code::Unavailable, message, details)
    };
    for (given, expected) in [
        (
            "CLUSTERS_NOT_KNOWN",
            "spaceport: workspace one was not started; repeat the command: UNAVAILABLE: no",
        ),
        ("NOT_SERVED", "spaceport: workspace one was not started; repeat the command: UNAVAILABLE: no"),
        ("NOT_LEADER", "spaceport: workspace one was not started; repeat the command: UNAVAILABLE: no"),
        ("CLUSTER", "spaceport: workspace one may or may not start; see"),
    ] {
        server.0.lock().start = Some(Err(reason(given)));
        let ran = spaceport(&endpoint, START.trim_end_matches(" --wait")).await;
        assert!(ran.code == 1 && ran.err.starts_with(expected), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_wait_has_an_end_and_a_refused_subscription_is_reported() {
    let server = Fake::default();
    server.0.lock().start = Some(Ok(answer()));
    server.0.lock().streams.push_back(vec![event("one", WorkspacePhase::Creating, 1)]);
    server.0.lock().streams.push_back(vec![Err(Status::permission_denied("certificate was revoked"))]);
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, &format!("{START} --wait-timeout 300ms")).await;
    let gave_up = "workspace one: is CREATING after 300ms, and still starts: follow it with `spaceport workspace watch one`";
    assert!(ran.err.contains(gave_up) && ran.err.contains("`spaceport workspace stop one`"), "{}", ran.err);
    let ran = spaceport(&endpoint, START).await;
    assert!(ran.err.ends_with("PERMISSION_DENIED: certificate was revoked\n"), "{}", ran.err);
    let ran = spaceport(&endpoint, START).await;
    assert!(ran.err.starts_with("spaceport: failed to subscribe: UNIMPLEMENTED"), "{}", ran.err);
}

#[tokio::test]
async fn stop_waits_for_the_end_and_one_failure_does_not_keep_the_others() {
    let server = Fake::default();
    let metadata = WorkspaceMetadata { meta_id: "meta".to_owned(), ..Default::default() };
    let known = WorkspaceStatus { metadata: Some(metadata), ..status("one", WorkspacePhase::Running, 1) };
    let described = |status| Some(DescribeWorkspaceResponse { status: Some(status), ..Default::default() });
    server.0.lock().described = described(known.clone());
    server.0.lock().described_after_stops.push_back(None);
    let stream = vec![event("one", WorkspacePhase::Stopping, 2), event("one", WorkspacePhase::Stopped, 3)];
    server.0.lock().streams.push_back(stream);
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, "workspace stop one --wait --policy immediately").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(phases(&ran.err), ["STOPPING", "STOPPED", "one"], "{}", ran.err);
    assert_eq!(server.0.lock().stopped[0].policy(), StopWorkspacePolicy::Immediately);
    assert_eq!(server.0.lock().calls, ["subscribe", "stop"]);

    let held = "Its pod ws-one is held by finalizer example.com/x.";
    let left = WorkspaceStatus {
        held: held.to_owned(),
        metadata: Some(WorkspaceMetadata { meta_id: "meta".to_owned(), ..Default::default() }),
        ..status("one", WorkspacePhase::Stopped, 4)
    };
    server.0.lock().streams.push_back(vec![Ok(update(left.clone()))]);
    server.0.lock().described = described(known.clone());
    let ran = spaceport(&endpoint, "workspace stop one --wait").await;
    assert!(ran.err.ends_with(&format!("stopped one\nmeta id meta stays taken: {held}\n")), "{}", ran.err);
    // The holder is known only after the workspace has stopped.
    server.0.lock().streams.push_back(vec![event("one", WorkspacePhase::Stopped, 5)]);
    server.0.lock().described_after_stops.push_back(described(left));
    let ran = spaceport(&endpoint, "workspace stop one --wait").await;
    assert!(ran.err.ends_with(&format!("stopped one\nmeta id meta stays taken: {held}\n")), "{}", ran.err);
    // Nobody is known to hold it: the wait ends all the same.
    server.0.lock().streams.push_back(vec![event("one", WorkspacePhase::Stopped, 6)]);
    server.0.lock().described = described(known);
    let ran = spaceport(&endpoint, "workspace stop one --wait --wait-timeout 600ms").await;
    assert!(ran.code == 0 && ran.err.ends_with("stopped one\n"), "{}", ran.err);

    let ran = spaceport(&endpoint, "workspace stop unknown two").await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("stopping two") && ran.err.contains("failed to stop unknown: NOT_FOUND"),
        "{}",
        ran.err
    );
    assert!(ran.err.ends_with("spaceport: 1 of 2 workspaces did not stop\n"), "{}", ran.err);
}

#[tokio::test]
async fn an_unknown_id_is_a_failure_although_the_server_takes_the_stop() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    for line in ["workspace stop nope", "workspace stop nope --wait"] {
        let ran = spaceport(&endpoint, line).await;
        let expected = "spaceport: failed to stop nope: NOT_FOUND: no such workspace\n";
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", expected), "{line}");
    }
    // It was stopped all the same: the replica that describes it may lag behind.
    assert_eq!(server.0.lock().calls, ["stop", "stop"]);
    server.0.lock().streams.push_back(vec![Err(Status::permission_denied("over"))]);
    let ran = spaceport(&endpoint, "workspace watch nope").await;
    assert!(ran.err.starts_with("there is no workspace nope yet; waiting for its start\n"), "{}", ran.err);
}

#[tokio::test]
async fn each_changed_reason_is_a_line_without_control_sequences() {
    let server = Fake::default();
    let with = |message: &str, phase, version| {
        Ok(update(WorkspaceStatus { message: message.to_owned(), ..status("one", phase, version) }))
    };
    server.0.lock().start = Some(Ok(answer()));
    server.0.lock().streams.push_back(vec![
        with("waits for a node", WorkspacePhase::Pending, 1),
        with("pulls\u{1b}[2J the image", WorkspacePhase::Pending, 2),
        with("pulls\u{1b}[2J the image", WorkspacePhase::Pending, 3),
        with("ready", WorkspacePhase::Running, 4),
    ]);
    let ran = spaceport(&server.serve().await, START).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let reasons: Vec<_> =
        ran.err.lines().filter_map(|line| line.split_once("  eu  ")).map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["waits for a node", "pulls [2J the image", "ready"], "{}", ran.err);
    assert!(!ran.err.contains('\u{1b}') && !ran.err.contains('\r'), "{:?}", ran.err);
}

#[tokio::test]
async fn list_follows_pages_and_filters_what_the_server_cannot() {
    let server = Fake::default();
    let page = |id: &str, phase, token: &str| GetWorkspacesResponse {
        status: vec![status(id, phase, 1)],
        next_page_token: token.to_owned(),
    };
    let unreachable = WorkspaceStatus { reachable: false, ..status("c", WorkspacePhase::Running, 1) };
    let last = GetWorkspacesResponse { status: vec![unreachable], ..Default::default() };
    server.0.lock().pages.extend([
        page("b", WorkspacePhase::Running, "1"),
        page("a", WorkspacePhase::Stopped, "2"),
        last,
    ]);
    let ran = spaceport(&server.serve().await, "workspace list --phase running --cluster eu").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ids: Vec<_> = ran.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids, ["ID", "b", "c"]);
    assert!(ran.out.contains("RUNNING (stale)"), "{}", ran.out);
    assert_eq!(server.0.lock().page_tokens, ["", "1", "2"]);
}

#[tokio::test]
async fn an_empty_list_is_a_sentence_on_standard_error_and_empty_json() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let listed = |id: &str| GetWorkspacesResponse {
        status: vec![status(id, WorkspacePhase::Running, 1)],
        ..Default::default()
    };
    for (line, out, err) in [
        ("workspace list", "", "no workspaces found\n"),
        ("workspace list --cluster nope", "", "no workspaces found\n"),
        ("workspace list --cluster nope -o wide", "", "no workspaces found\n"),
        ("workspace list --cluster nope -o json", "[]\n", ""),
    ] {
        let page = if line.contains("nope") { listed("a") } else { GetWorkspacesResponse::default() };
        server.0.lock().pages.push_back(page);
        let ran = spaceport(&endpoint, line).await;
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, out, err), "{line}");
    }
}

#[tokio::test]
async fn the_owners_token_is_shown_only_when_asked_for() {
    let server = Fake::default();
    let auth = WorkspaceAuthentication { owner_token: "hunter2".to_owned(), ..Default::default() };
    let known = WorkspaceStatus { auth: Some(auth), ..status("one", WorkspacePhase::Running, 1) };
    server.0.lock().described =
        Some(DescribeWorkspaceResponse { status: Some(known), last_activity: String::new() });
    let endpoint = server.serve().await;
    for format in ["table", "json", "yaml"] {
        let ran = spaceport(&endpoint, &format!("workspace show one -o {format}")).await;
        assert!(ran.out.contains("RUNNING") && !ran.out.contains("hunter2"), "{}", ran.out);
        let ran = spaceport(&endpoint, &format!("workspace show one --owner-token -o {format}")).await;
        assert!(ran.out.contains("hunter2"), "{}", ran.out);
    }
}

#[tokio::test]
async fn watch_writes_a_line_a_change_and_ends_with_the_refusal() {
    let server = Fake::default();
    server.0.lock().streams.push_back(vec![
        event("one", WorkspacePhase::Running, 2),
        event("two", WorkspacePhase::Running, 1),
        event("one", WorkspacePhase::Creating, 1),
        event("one", WorkspacePhase::Stopped, 3),
        Err(Status::permission_denied("certificate was revoked")),
    ]);
    let ran = spaceport(&server.serve().await, "workspace watch one --owner me -o json").await;
    assert_eq!(ran.code, 1);
    let line = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["phase"].clone();
    assert_eq!(ran.out.lines().map(line).collect::<Vec<_>>(), ["RUNNING", "STOPPED"]);
    let filter = server.0.lock().subscriptions[0].must_match.clone().unwrap();
    assert_eq!(filter.owner, "me");
}

#[tokio::test]
async fn a_snapshot_is_waited_for_where_asked_to() {
    let endpoint = Fake::default().serve().await;
    let ran = spaceport(&endpoint, "workspace snapshot one").await;
    assert!(ran.code == 0 && ran.out.contains("not yet   store://at-once"), "{}{}", ran.out, ran.err);
    let ran = spaceport(&endpoint, "workspace snapshot one --wait -o json").await;
    let view: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&view["url"], &view["complete"]), (&"store://waited".into(), &true.into()));
    let ran = spaceport(&endpoint, "workspace snapshot stopped").await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.starts_with("spaceport: failed to take a snapshot of stopped: FAILED_PRECONDITION"),
        "{}",
        ran.err
    );
    let ran = spaceport(&endpoint, "workspace snapshot slow --wait --wait-timeout 200ms").await;
    assert!(ran.code == 1 && ran.err.contains("DEADLINE_EXCEEDED"), "{}", ran.err);
    assert!(
        ran.err.contains("a snapshot of slow that was begun goes on; its URL is in the Snapshot"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn timeouts_and_ports_are_set_and_the_workspace_is_shown() {
    let server = Fake::default();
    let known = status("one", WorkspacePhase::Running, 1);
    server.0.lock().described =
        Some(DescribeWorkspaceResponse { status: Some(known), last_activity: String::new() });
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, "workspace timeout one --closed 0s --after 2h").await;
    assert!(ran.code == 0 && ran.out.contains("RUNNING"), "{}{}", ran.out, ran.err);
    let set: Vec<_> = server.0.lock().timeouts.iter().map(|t| (t.duration.clone(), t.r#type)).collect();
    assert_eq!(set, [("2h0m0s".to_owned(), 0), ("0s".to_owned(), 1)]);
    let ran =
        spaceport(&endpoint, "workspace port expose one 8080 --visibility public --protocol https").await;
    assert!(ran.code == 0 && ran.out.contains("RUNNING"), "{}{}", ran.out, ran.err);
    assert_eq!(spaceport(&endpoint, "workspace port unexpose one 8080").await.code, 0);
    let asked = std::mem::take(&mut server.0.lock().ports);
    let (exposed, unexposed) =
        (asked[0].spec.clone().unwrap_or_default(), asked[1].spec.clone().unwrap_or_default());
    assert_eq!((asked[0].expose, exposed.port, exposed.visibility, exposed.protocol), (true, 8080, 1, 1));
    assert_eq!((asked[1].expose, unexposed.port), (false, 8080));
    for wrong in ["timeout one", "timeout one --after soon", "port expose one 0", "port expose one 65536"] {
        let line = format!("spaceport workspace {wrong} --endpoint {endpoint}");
        assert!(parse(line.split_whitespace()).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_log_is_written_as_it_is_and_what_was_asked_for_is_passed_on() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let piece = |content: &[u8]| Ok(LogsResponse { content: content.to_vec(), resume_token: String::new() });
    // The second piece goes on within a character of the first.
    let pieces = vec![piece(b"gr\xc3"), piece(b"\xbc\xc3\x9fe\n"), piece(b"no newline")];
    server.0.lock().logs.push_back(pieces);
    let flags = "--follow --tail 7 --since 5m --previous -o json";
    let ran = spaceport(&endpoint, &format!("workspace logs one {flags}")).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "grüße\nno newline", ""));
    let since = Some(prost_types::Duration { seconds: 300, nanos: 0 });
    let (id, resume_token) = ("one".to_owned(), String::new());
    let asked = LogsRequest { id, follow: true, tail: Some(7), since, previous: true, resume_token };
    assert_eq!(server.0.lock().logs_asked, [asked]);

    let broken = vec![piece(b"a line\n"), Err(Status::unavailable("this replica is shutting down"))];
    server.0.lock().logs.push_back(broken);
    let ran = spaceport(&endpoint, "workspace logs one").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, "a line\n"));
    assert_eq!(
        ran.err,
        "spaceport: reading the log of one was interrupted: UNAVAILABLE: this replica is shutting down\n"
    );

    let ran = spaceport(&endpoint, "workspace logs one").await;
    let reported = "failed to read the log of one: FAILED_PRECONDITION: workspace one: it has no pod yet";
    assert_eq!((ran.code, ran.out.as_str(), ran.err), (1, "", format!("spaceport: {reported}\n")));
}

#[tokio::test]
async fn a_followed_log_resumes_after_an_interruption_and_ends_with_the_container() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let piece = |content: &[u8], token: &str| {
        Ok(LogsResponse { content: content.to_vec(), resume_token: token.to_owned() })
    };
    let broken = || Err(Status::unavailable("this replica is shutting down"));
    server.0.lock().logs =
        [vec![piece(b"one\ntw", "t1"), broken()], vec![broken()], vec![piece(b"o\nthree\n", "t2"), broken()]]
            .into();
    let ran = spaceport(&endpoint, "workspace logs one --follow").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, "one\ntwo\nthree\n"));
    let going_on =
        "reading the log of one was interrupted: UNAVAILABLE: this replica is shutting down; resuming\n"
            .repeat(3);
    let reported =
        "reading the log of one was interrupted: FAILED_PRECONDITION: workspace one: it has no pod yet";
    assert_eq!(ran.err, format!("{going_on}spaceport: {reported}\n"));
    let asked = std::mem::take(&mut server.0.lock().logs_asked);
    let tokens: Vec<&str> = asked.iter().map(|one| one.resume_token.as_str()).collect();
    assert_eq!(tokens, ["", "t1", "t1", "t2"]);
}

#[tokio::test]
async fn a_workspace_that_is_over_shows_how_it_ended_and_one_that_never_was_is_not_found() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, "workspace show one").await;
    let reported = "spaceport: failed to show one: NOT_FOUND: no such workspace\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", reported));
    let conditions = WorkspaceConditions { failed: "cannot pull image: x".to_owned(), ..Default::default() };
    let mut ended = EndedWorkspace {
        id: "one".to_owned(),
        cluster: "eu".to_owned(),
        ended_at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
        conditions: Some(conditions),
        message: "Failed: cannot pull image: x".to_owned(),
        ..Default::default()
    };
    ended.set_last_phase(WorkspacePhase::Creating);
    server.0.lock().ended = Some(ended);
    let ran = spaceport(&endpoint, "workspace stop one").await;
    let reported =
        "spaceport: failed to stop one: NOT_FOUND: workspace one has already ended (1970-01-01T00:00:00Z)\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", reported));
    let ran = spaceport(&endpoint, "workspace show one -o json").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let view: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&view["phase"], &view["lastPhase"]), (&"STOPPED".into(), &"CREATING".into()));
    assert_eq!(view["conditions"]["failed"], "cannot pull image: x");
    assert_eq!(view["endedAt"], "1970-01-01T00:00:00Z");
    let ran = spaceport(&endpoint, "workspace show one").await;
    assert!(
        ran.out.contains("Failed: cannot pull image: x") && ran.out.contains("1970-01-01T00:00:00Z"),
        "{}",
        ran.out
    );
}

fn described() -> DescribeWorkspaceResponse {
    let metadata =
        WorkspaceMetadata { owner: "me".to_owned(), meta_id: "meta".to_owned(), ..Default::default() };
    let status = WorkspaceStatus { metadata: Some(metadata), ..status("one", WorkspacePhase::Running, 1) };
    DescribeWorkspaceResponse { status: Some(status), ..Default::default() }
}

fn backup(name: &str, newest: bool) -> WorkspaceBackup {
    WorkspaceBackup {
        kind: WorkspaceBackupKind::Head.into(),
        size: 2048,
        format: "zst".to_owned(),
        snapshot: name.to_owned(),
        newest,
        ..Default::default()
    }
}

#[tokio::test]
async fn show_tells_what_is_known_of_the_content_and_goes_without_what_is_not() {
    let server = Fake::default();
    server.0.lock().described = Some(described());
    let endpoint = server.serve().await;
    let show = async |flags: &str| spaceport(&endpoint, &format!("workspace show one {flags}")).await;
    // A server of an earlier version.
    let ran = show("").await;
    assert!(ran.code == 0 && !ran.out.contains("backup"), "{}{}", ran.out, ran.err);
    {
        let mut script = server.0.lock();
        let message = "the content stays on node n1 in /w/one".to_owned();
        let backup = Some(ContentReport { succeeded: false, at: None, message });
        script.content = Some(DescribeContentResponse { backup, ..Default::default() });
        script.backups.push_back(Err(Status::unavailable("the store does not answer")));
    }
    let ran = show("").await;
    assert!(ran.out.contains("the content stays on node n1 in /w/one"), "{}", ran.out);
    assert!(
        ran.out.contains("newest backup:") && ran.out.contains("the store does not answer"),
        "{}",
        ran.out
    );
    {
        let mut script = server.0.lock();
        script.backups_asked.clear();
        let backups = vec![backup("older@bucket", false), backup("newest@bucket", true)];
        script.backups.push_back(Ok(ListBackupsResponse { backups, ..Default::default() }));
    }
    let ran = show("-o json").await;
    let view: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let newest = &view["content"]["newestBackup"];
    assert_eq!((&newest["name"], &newest["size"]), (&"newest@bucket".into(), &2048.into()));
    assert_eq!(view["content"]["backup"]["succeeded"], false);
    let asked = server.0.lock().backups_asked.clone();
    assert_eq!((&*asked[0].owner, &*asked[0].meta_id, &*asked[0].id), ("me", "meta", ""));
}

#[tokio::test]
async fn backups_lists_every_page_by_instance_or_by_owner_and_workspace() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    {
        let mut script = server.0.lock();
        let page = |name: &str, next: &str| {
            Ok(ListBackupsResponse {
                owner: "me".to_owned(),
                meta_id: "meta".to_owned(),
                backups: vec![backup(name, name == "a@bucket")],
                next_page_token: next.to_owned(),
            })
        };
        script.backups.extend([page("a@bucket", "1"), page("b@bucket", "2"), page("c@bucket", "2")]);
        script
            .backups
            .push_back(Ok(ListBackupsResponse { meta_id: "meta".to_owned(), ..Default::default() }));
        script.backups.push_back(Err(Status::failed_precondition("content.storage is not set")));
    }
    let ran = spaceport(&endpoint, "workspace backups one").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let names: Vec<_> = ran.out.split_whitespace().filter(|word| word.ends_with("@bucket")).collect();
    assert_eq!(names, ["a@bucket", "b@bucket", "c@bucket"], "{}", ran.out);
    assert!(ran.out.contains("backup (newest)"), "{}", ran.out);
    let ran = spaceport(&endpoint, "workspace backups meta --owner me").await;
    assert_eq!((ran.code, &*ran.err), (0, "meta has no backups and no snapshots\n"));
    let ran = spaceport(&endpoint, "workspace backups one").await;
    assert!(ran.code == 1 && ran.err.contains("content.storage is not set"), "{}", ran.err);
    let asked = server.0.lock().backups_asked.clone();
    let of = |at: usize| (&*asked[at].id, &*asked[at].owner, &*asked[at].meta_id, &*asked[at].page_token);
    assert_eq!([of(0), of(1), of(2)], [("one", "", "", ""), ("one", "", "", "1"), ("one", "", "", "2")]);
    assert_eq!(of(3), ("", "me", "meta", ""));
}

#[tokio::test]
async fn a_stop_whose_backup_failed_says_so_and_fails() {
    let server = Fake::default();
    {
        let mut script = server.0.lock();
        script.described = Some(described());
        script.streams.push_back(vec![event("one", WorkspacePhase::Stopped, 3)]);
        let message = "no such bucket; the content stays on node n1 in /w/one".to_owned();
        let backup = Some(ContentReport { succeeded: false, at: None, message });
        script.content = Some(DescribeContentResponse { backup, ..Default::default() });
    }
    let ran = spaceport(&server.serve().await, "workspace stop one --wait").await;
    let expected = "spaceport: one stopped, but its backup failed: no such bucket; the content stays on node n1 in /w/one\n";
    assert!(ran.code == 1 && ran.err.ends_with(expected), "{}", ran.err);
}

#[tokio::test]
async fn a_password_is_in_the_request_and_in_nothing_that_is_printed() {
    let server = Fake::default();
    server.0.lock().start = Some(Err(Status::invalid_argument("spec.initializer.git: no")));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let start = START.trim_end_matches(" --wait");
    let flags =
        format!("--git-url https://git.example/a --git-user u --git-password-file {}", file.display());
    let ran = spaceport(&server.serve().await, &format!("{start} {flags}")).await;
    assert!(ran.code == 1 && !ran.err.contains("hunter2") && !ran.out.contains("hunter2"), "{}", ran.err);
    let request = server.0.lock().started.pop().unwrap();
    let Some(Spec::Git(git)) = request.spec.unwrap().initializer.unwrap().spec else { panic!("no git") };
    assert_eq!(git.config.unwrap().auth_password, "hunter2");
}
