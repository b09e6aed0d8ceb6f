//! Single reconciles against a mock apiserver: which requests are sent, in which order, and how responses are handled.

use std::pin::pin;

use arc_swap::ArcSwap;
use http::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower_test::mock;

use super::*;
use crate::decide::tests::{FixedTokens, Scene, fresh, made, new_pod, running, terminated};
use crate::pod;
use crate::{ObstacleObserver, Parts};
use domain::names::Namespace;
use domain::pod::PodPhase;
use domain::workspace::Phase;
use k8s::resources::names;
use member::acceptance::Acceptance;
use member::cache::{NamespaceCache, NodeCache};
use member::maintenance::{DEFAULT_NAME, Maintenance};

type Server = mock::Handle<Request<Body>, Response<Body>>;

struct Bench {
    controller: Arc<Controller>,
    cache: Arc<NamespaceCache>,
    server: Server,
    shown: Arc<Shown>,
}

/// What was shown of obstacles.
#[derive(Default)]
struct Shown(Mutex<Vec<Option<String>>>);

impl ObstacleObserver for Shown {
    fn obstacle(&self, _workspace: &str, why: Option<&str>) {
        self.0.lock().push(why.map(str::to_owned));
    }
}

/// A controller whose caches hold what a scene shows.
fn bench(scene: &Scene) -> Bench {
    let (service, server) = mock::pair::<Request<Body>, Response<Body>>();
    let namespace: Namespace = "workspaces".parse().unwrap();
    let writer = Writer::new(
        "eu-1".parse().unwrap(),
        namespace.clone(),
        kube::Client::new(service, "default"),
        Duration::from_secs(10),
        DEFAULT_NAME.to_owned(),
        Arc::new(|| true),
    );
    let cache = Arc::new(NamespaceCache::new(namespace, Vec::new()));
    let mut workspace = scene.workspace.clone();
    workspace.metadata.labels =
        Some([(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned())].into_iter().collect());
    // Reconciles use the wall clock.
    workspace.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()));
    cache.begin_workspaces();
    cache.put_workspace(workspace);
    cache.end_workspaces();
    cache.begin_pods();
    for pod in &scene.pods {
        cache.put_pod(pod.as_ref().clone());
    }
    cache.end_pods();
    let shown = Arc::<Shown>::default();
    let parts = Parts {
        acceptance: Arc::new(Acceptance::new(watch::Sender::default())),
        capacity: Arc::default(),
        cache: Arc::clone(&cache),
        nodes: Arc::new(NodeCache::new(Vec::new())),
        maintenance: Arc::new(Maintenance::new()),
        writer: ArcSwap::from_pointee(writer),
        settings: Arc::new(ArcSwap::from_pointee(scene.settings.clone())),
        tokens: Arc::new(FixedTokens),
        obstacles: Arc::<Shown>::clone(&shown),
        installation: "here".into(),
    };
    Bench { controller: Arc::new(Controller::new(parts)), cache, server, shown }
}

/// What the mock answers to one call.
enum Answer {
    /// With the object that was sent.
    Echo,
    /// With the object that was sent, as created.
    Made,
    /// With the workspace in the cache, its status patched, in a new version.
    Patched,
    Refuse(u16, &'static str),
    With(Value),
}

impl Bench {
    /// Runs one reconcile, answers its calls in order, and returns them with its result.
    async fn reconcile(
        &mut self,
        answers: Vec<Answer>,
    ) -> (Vec<(String, Value)>, Result<Option<Duration>, Error>) {
        self.reconcile_late(Duration::ZERO, answers).await
    }

    /// Runs one reconcile that starts so long after it was due.
    async fn reconcile_late(
        &mut self,
        late: Duration,
        answers: Vec<Answer>,
    ) -> (Vec<(String, Value)>, Result<Option<Duration>, Error>) {
        let due = Instant::now() - late;
        let controller = Arc::clone(&self.controller);
        let answering = async {
            let mut calls = Vec::new();
            for answer in answers {
                calls.push(answer_one(&mut self.server, &self.cache, answer).await);
            }
            calls
        };
        let reconciling = async {
            let passed = controller.reconcile("a", due).await?;
            if let Some(epilogue) = passed.epilogue {
                controller.end(epilogue).await;
            }
            Ok(passed.wait)
        };
        let both = Box::pin(async { tokio::join!(answering, reconciling) });
        tokio::time::timeout(Duration::from_secs(1), both).await.expect("calls and answers do not match")
    }
}

async fn answer_one(server: &mut Server, cache: &NamespaceCache, answer: Answer) -> (String, Value) {
    let (request, reply) = pin!(server).next_request().await.unwrap();
    let (parts, content) = request.into_parts();
    let content = content.collect_bytes().await.unwrap();
    let sent: Value = serde_json::from_slice(&content).unwrap_or(Value::Null);
    let (status, body) = match answer {
        Answer::Echo => (200, sent.clone()),
        Answer::Made => {
            let mut made = sent.clone();
            made["metadata"]["uid"] = json!("pod-1");
            made["metadata"]["resourceVersion"] = json!("8");
            made["status"] = json!({ "phase": "Pending" });
            (201, made)
        }
        Answer::Patched => (200, patched(cache, &sent)),
        Answer::With(object) => (200, object),
        Answer::Refuse(code, reason) => {
            let text = format!("it is {reason}");
            let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "reason": reason, "message": text});
            (code, body)
        }
    };
    let mut response = Response::new(Body::from(serde_json::to_vec(&body).unwrap()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    reply.send_response(response);
    (format!("{} {}", parts.method, parts.uri.path().rsplit("/workspaces/").next().unwrap()), sent)
}

fn patched(cache: &NamespaceCache, sent: &Value) -> Value {
    let mut workspace = serde_json::to_value(cache.get("a").unwrap().as_ref()).unwrap();
    if workspace["status"].is_null() {
        workspace["status"] = json!({});
    }
    for (key, value) in sent["status"].as_object().into_iter().flatten() {
        workspace["status"][key] = value.clone();
    }
    workspace["metadata"]["resourceVersion"] = json!("8");
    workspace
}

fn calls(made: &[(String, Value)]) -> Vec<&str> {
    made.iter().map(|(call, _)| call.as_str()).collect()
}

#[tokio::test]
async fn the_first_reconcile_creates_the_pod_and_its_status_is_written_with_the_next_change() {
    let mut bench = bench(&fresh());
    let (made, ended) = bench.reconcile(vec![Answer::Made]).await;
    assert_eq!(calls(&made), ["POST pods"]);
    assert!(ended.unwrap().unwrap() <= Duration::from_millis(100));
    let mut pod = bench.cache.pods_of("a")[0].as_ref().clone();
    pod.resource_version = "9".to_owned();
    pod.node_name = Some("node-1".to_owned());
    bench.cache.put_pod(pod.clone());
    let (made, ended) = bench.reconcile(vec![Answer::Patched]).await;
    assert_eq!(calls(&made), ["PATCH a/status"]);
    assert_eq!(made[0].1["metadata"]["resourceVersion"], "7");
    assert_eq!(made[0].1["status"]["podStarts"], 1);
    assert_eq!(made[0].1["status"]["phase"], "Creating", "so that the node agent begins");
    assert_eq!(made[0].1["status"]["runtime"]["nodeName"], "node-1");
    assert!(ended.unwrap().unwrap() <= Duration::from_secs(2), "until it is worth an event");
    let (made, ended) = bench.reconcile(Vec::new()).await;
    assert!(made.is_empty() && ended.is_ok(), "the answer to the patch was taken, so nothing is done twice");
    pod.resource_version = "10".to_owned();
    pod.phase = PodPhase::Running;
    bench.cache.put_pod(pod);
    let (made, ended) = bench.reconcile(Vec::new()).await;
    assert!(made.is_empty(), "the node agent is at it, and may be done any moment");
    assert!(ended.unwrap().unwrap() <= Duration::from_millis(100));
}

#[tokio::test]
async fn a_status_without_another_change_is_written_after_the_debounce() {
    let mut bench = bench(&fresh());
    let (_, ended) = bench.reconcile(vec![Answer::Made]).await;
    tokio::time::sleep(ended.unwrap().unwrap()).await;
    let (made, _) = bench.reconcile(vec![Answer::Patched]).await;
    assert_eq!(calls(&made), ["PATCH a/status"]);
    assert_eq!(made[0].1["status"]["phase"], "Pending");
    assert_eq!(made[0].1["status"]["podStarts"], 1);
}

#[tokio::test]
async fn the_debounce_is_longer_when_reconciles_are_late() {
    let mut bench = bench(&fresh());
    bench.reconcile(vec![Answer::Made]).await.1.unwrap();
    let mut pod = bench.cache.pods_of("a")[0].as_ref().clone();
    pod.resource_version = "9".to_owned();
    pod.node_name = Some("node-1".to_owned());
    bench.cache.put_pod(pod.clone());
    let (made, ended) = bench.reconcile_late(Duration::from_secs(1), vec![Answer::Patched]).await;
    assert_eq!(calls(&made), ["PATCH a/status"], "the node agent waits for it");
    assert!(ended.unwrap().unwrap() > Duration::from_secs(4), "until it is worth an event");
    pod.resource_version = "10".to_owned();
    pod.phase = PodPhase::Running;
    bench.cache.put_pod(pod);
    let (made, ended) = bench.reconcile(Vec::new()).await;
    let wait = ended.unwrap().unwrap();
    assert!(made.is_empty() && wait > Duration::from_secs(4) && wait < Duration::from_secs(10), "{wait:?}");
}

#[tokio::test]
async fn a_stop_before_the_first_status_is_written_finds_the_pod() {
    let mut bench = bench(&fresh());
    bench.reconcile(vec![Answer::Made]).await.1.unwrap();
    let mut stopped = fresh().stop_asked().workspace;
    stopped.metadata.resource_version = Some("9".to_owned());
    stopped.metadata.labels = bench.cache.get("a").unwrap().metadata.labels.clone();
    bench.cache.put_workspace(stopped);
    let (made, _) = bench.reconcile(vec![Answer::Echo]).await;
    assert_eq!(calls(&made), ["DELETE pods/ws-a"], "the resource stays for it");
}

#[tokio::test]
async fn before_a_workspace_without_a_pod_is_released_the_apiserver_is_asked_for_one() {
    let of_pod = json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "ws-a", "uid": "pod-1",
        "resourceVersion": "9", "ownerReferences": [{ "apiVersion": "workspace.gitpod.io/v1", "name": "a",
        "kind": "Workspace", "uid": "uid-1", "controller": true }] } });
    let mut late = bench(&fresh().stop_asked().phase(Phase::Stopped));
    let (made, ended) = late.reconcile(vec![Answer::With(of_pod)]).await;
    assert_eq!(calls(&made), ["GET pods/ws-a"], "the answer to its creation was lost");
    assert_eq!((ended.unwrap(), late.cache.pods_of("a").len()), (Some(CONFLICT_WAIT), 1));
    let mut none = bench(&fresh().stop_asked().phase(Phase::Stopped));
    let answers = vec![Answer::Refuse(404, "NotFound"), Answer::Patched, Answer::Patched];
    let (made, _) = none.reconcile(answers).await;
    assert_eq!(calls(&made), ["GET pods/ws-a", "PATCH a", "DELETE a"]);
}

#[tokio::test]
async fn a_status_conflict_is_retried_and_creates_no_second_pod() {
    let mut bench = bench(&fresh());
    // This answer has no facts: the pod is not seen, and its creation is written at once.
    bench.reconcile(vec![Answer::Echo]).await.1.unwrap();
    let (made, ended) = bench.reconcile(vec![Answer::Refuse(409, "Conflict")]).await;
    assert_eq!(calls(&made), ["PATCH a/status"]);
    assert_eq!(ended.unwrap(), Some(CONFLICT_WAIT));
    let (made, _) = bench.reconcile(vec![Answer::Patched]).await;
    assert_eq!(calls(&made), ["PATCH a/status"]);
    assert_eq!(made[0].1["status"]["podStarts"], 1);
}

#[tokio::test]
async fn a_status_that_is_denied_is_shown_and_learned_until_it_is_written() {
    let mut bench = bench(&fresh());
    bench.reconcile(vec![Answer::Echo]).await.1.unwrap();
    let acceptance = Arc::clone(&bench.controller.parts.acceptance);
    // The first denial is also reported by an event.
    let denied = vec![Answer::Refuse(403, "Forbidden"), Answer::Echo];
    for (answers, is_denied) in [(denied, true), (vec![Answer::Patched], false)] {
        let once = Arc::clone(&bench.controller).run_once("a".into(), Instant::now());
        let answering = async {
            for answer in answers {
                answer_one(&mut bench.server, &bench.cache, answer).await;
            }
        };
        tokio::join!(answering, once);
        assert_eq!(acceptance.changes_fail(Change::Status).is_some(), is_denied);
    }
    let shown = bench.shown.0.lock();
    assert_eq!((shown.len(), shown[1].is_none()), (2, true));
    assert!(shown[0].as_ref().unwrap().contains("patch the status of Workspace a"), "{shown:?}");
}

#[tokio::test]
async fn a_taken_pod_name_is_reported_and_retried_unless_the_pod_is_owned() {
    let exists = || Answer::Refuse(409, "AlreadyExists");
    let pod = |uid: &str| {
        json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "ws-a", "uid": "pod-1",
            "resourceVersion": "9", "ownerReferences": [{ "apiVersion": "workspace.gitpod.io/v1", "name": "a",
            "kind": "Workspace", "uid": uid, "controller": true }] } })
    };
    let mut ours = bench(&fresh());
    let (made, ended) = ours.reconcile(vec![exists(), Answer::With(pod("uid-1"))]).await;
    assert_eq!(calls(&made), ["POST pods", "GET pods/ws-a"], "the answer to its creation was lost");
    assert_eq!((ended.unwrap(), ours.cache.pods_of("a").len()), (Some(CONFLICT_WAIT), 1));

    let mut of_another = bench(&fresh());
    let (made, ended) =
        of_another.reconcile(vec![exists(), Answer::With(pod("uid-0")), Answer::Patched]).await;
    assert_eq!(calls(&made), ["POST pods", "GET pods/ws-a", "PATCH a/status"]);
    let told = made[2].1["status"]["conditions"].to_string();
    assert!(told.contains("PodNotCreated") && told.contains("a pod ws-a is there"), "{told}");
    assert!(matches!(ended, Err(Error::PodRejected(_))));

    let mut gone = bench(&fresh());
    let (_, ended) = gone.reconcile(vec![exists(), Answer::Refuse(404, "NotFound")]).await;
    assert!(matches!(ended, Err(Error::NameTaken { pod }) if pod == "ws-a"));
}

#[tokio::test]
async fn a_pod_that_is_not_valid_fails_the_workspace() {
    let mut bench = bench(&fresh());
    let answers = vec![Answer::Refuse(422, "Invalid"), Answer::Patched, Answer::Echo, Answer::Echo];
    let (made, ended) = bench.reconcile(answers).await;
    assert_eq!(calls(&made), ["POST pods", "PATCH a/status", "POST events", "POST events"]);
    assert_eq!(made[1].1["status"]["phase"], "Stopped");
    assert_eq!(ended.unwrap(), Some(Duration::ZERO));
}

#[tokio::test]
async fn a_pod_that_is_rejected_for_now_shows_the_reason_and_is_retried() {
    let mut bench = bench(&fresh());
    let (made, ended) = bench.reconcile(vec![Answer::Refuse(403, "Forbidden"), Answer::Patched]).await;
    assert_eq!(calls(&made), ["POST pods", "PATCH a/status"]);
    assert!(matches!(ended, Err(Error::PodRejected(_))));
}

#[tokio::test]
async fn every_temporary_rejection_of_a_pod_is_reported_at_once_and_retried() {
    for (code, reason) in [
        (404, "NotFound"),
        (409, "Conflict"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
    ] {
        let mut bench = bench(&fresh());
        let (made, ended) = bench.reconcile(vec![Answer::Refuse(code, reason), Answer::Patched]).await;
        assert_eq!(calls(&made), ["POST pods", "PATCH a/status"], "{code}");
        let conditions = made[1].1["status"]["conditions"].as_array().unwrap();
        let told = conditions.iter().find(|one| one["type"] == "WorkspaceContainerRunning").unwrap();
        assert_eq!(told["reason"], "PodNotCreated");
        assert_eq!(told["message"], format!("the apiserver rejected it ({code} {reason})"));
        assert_eq!(made[1].1["status"]["podStarts"], 0, "a second try may be the first to make it");
        assert!(matches!(ended, Err(Error::PodRejected(_))), "{code}");
    }
}

#[tokio::test]
async fn a_failure_reports_the_last_event_of_its_pod_or_none_if_it_cannot_be_read() {
    let failed = running().container(terminated(1, "Error", ""), false);
    let event = json!({ "metadata": { "name": "e" }, "involvedObject": {}, "type": "Warning",
        "reason": "FailedPostStartHook", "message": "no such file" });
    let list = json!({ "apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": [event] });
    let told = "container workspace ran with an error: exit code 1";
    for (answer, told) in [
        (Answer::With(list), format!("{told} (last event of its pod: FailedPostStartHook: no such file)")),
        (Answer::Refuse(403, "Forbidden"), told.to_owned()),
    ] {
        let answers = vec![answer, Answer::Echo, Answer::Patched, Answer::Echo, Answer::Echo];
        let (made, ended) = bench(&failed).reconcile(answers).await;
        let expected = ["GET events", "DELETE pods/ws-a", "PATCH a/status", "POST events", "POST events"];
        assert_eq!(calls(&made), expected);
        let conditions = made[2].1["status"]["conditions"].as_array().unwrap();
        let failed = conditions.iter().find(|condition| condition["type"] == "Failed").unwrap();
        assert_eq!((&failed["message"], ended.is_ok()), (&json!(told), true));
    }
}

#[tokio::test]
async fn a_steady_workspace_costs_no_call() {
    let mut scene = running();
    scene.step();
    let (made, ended) = bench(&scene).reconcile(Vec::new()).await;
    assert!(made.is_empty());
    assert!(ended.unwrap().is_some(), "it looks again at the next limit of time");
}

#[tokio::test]
async fn a_stop_deletes_the_pod_once_and_an_event_that_fails_changes_nothing() {
    let mut bench = bench(&running().stop_asked());
    let (made, ended) = bench.reconcile(vec![Answer::Echo]).await;
    assert_eq!(calls(&made), ["DELETE pods/ws-a"]);
    assert_eq!(made[0].1["preconditions"]["uid"], "pod-1");
    assert_eq!(made[0].1["gracePeriodSeconds"], 30);
    tokio::time::sleep(ended.unwrap().unwrap()).await;
    let (made, ended) = bench.reconcile(vec![Answer::Patched, Answer::Refuse(500, "InternalError")]).await;
    assert_eq!(calls(&made), ["PATCH a/status", "POST events"], "its container takes its time to end");
    assert!(ended.is_ok());
    let (made, ended) = bench.reconcile(Vec::new()).await;
    assert!(made.is_empty());
    assert_eq!(ended.unwrap(), Some(REPEAT_AFTER), "a deletion that is not seen by then is asked for again");
}

#[tokio::test]
async fn a_refused_deletion_of_the_pod_is_written_to_the_status_at_once_and_retried() {
    let mut bench = bench(&running().stop_asked());
    let refused = || Answer::Refuse(403, "Forbidden");
    let (made, ended) = bench.reconcile(vec![refused(), Answer::Patched, Answer::Echo, Answer::Echo]).await;
    assert_eq!(calls(&made), ["DELETE pods/ws-a", "PATCH a/status", "POST events", "POST events"]);
    let conditions = made[1].1["status"]["conditions"].as_array().unwrap();
    let told = conditions.iter().find(|one| one["type"] == "WriteRefused").unwrap();
    let text = "the cluster refuses to delete its pod ws-a: the apiserver rejected it (403 Forbidden)";
    assert_eq!((&told["status"], &told["message"]), (&json!("True"), &json!(text)));
    assert!(matches!(ended, Err(Error::Denied(denied)) if denied == text));
    let (made, ended) = bench.reconcile(vec![refused()]).await;
    assert_eq!(calls(&made), ["DELETE pods/ws-a"], "it is told already");
    assert!(matches!(ended, Err(Error::Denied(_))));
    let (made, ended) = bench.reconcile(vec![Answer::Echo]).await;
    assert_eq!(calls(&made), ["DELETE pods/ws-a"]);
    tokio::time::sleep(ended.unwrap().unwrap()).await;
    let (made, ended) = bench.reconcile(vec![Answer::Patched]).await;
    assert_eq!(calls(&made), ["PATCH a/status"]);
    let conditions = made[0].1["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.iter().find(|one| one["type"] == "WriteRefused").unwrap()["status"], "False");
    assert!(ended.is_ok());
}

#[tokio::test]
async fn a_refused_status_is_told_by_an_event_once() {
    let mut bench = bench(&running().stop_asked());
    let refused = || Answer::Refuse(403, "Forbidden");
    let (_, ended) = bench.reconcile(vec![Answer::Echo]).await;
    tokio::time::sleep(ended.unwrap().unwrap()).await;
    let (made, ended) = bench.reconcile(vec![refused(), Answer::Echo]).await;
    assert_eq!(calls(&made), ["PATCH a/status", "POST events"]);
    assert_eq!(made[1].1["reason"], "StatusNotWritten");
    assert!(ended.is_err());
    bench.controller.backoff.failed("a");
    let (made, _) = bench.reconcile(vec![refused()]).await;
    assert_eq!(calls(&made), ["PATCH a/status"]);
}

#[tokio::test]
async fn a_finished_workspace_is_removed_with_two_calls() {
    let mut bench = bench(&made().phase(Phase::Stopped).no_pod());
    let (made, _) = bench.reconcile(vec![Answer::Patched, Answer::Patched]).await;
    assert_eq!(calls(&made), ["PATCH a", "DELETE a"]);
    assert_eq!(made[0].1["metadata"]["finalizers"], json!([]));
    let (made, _) = bench.reconcile(Vec::new()).await;
    assert!(made.is_empty(), "the watch has not told yet");
}

#[tokio::test]
async fn a_workspace_of_another_manager_is_not_touched() {
    let mut bench = bench(&fresh());
    let mut other = bench.cache.get("a").unwrap().as_ref().clone();
    other.metadata.labels = Some([(names::MANAGED_BY.to_owned(), "other".to_owned())].into_iter().collect());
    other.metadata.resource_version = Some("9".to_owned());
    bench.cache.put_workspace(other);
    let (made, ended) = bench.reconcile(Vec::new()).await;
    assert!(made.is_empty());
    assert_eq!(ended.unwrap(), None);
}

#[tokio::test]
async fn a_workspace_of_another_installation_is_not_touched() {
    let mut bench = bench(&fresh());
    let mut other = bench.cache.get("a").unwrap().as_ref().clone();
    let signs = other.metadata.annotations.get_or_insert_default();
    signs.insert(names::INSTALLATION.to_owned(), "there".to_owned());
    other.metadata.resource_version = Some("9".to_owned());
    bench.cache.put_workspace(other);
    let (made, ended) = bench.reconcile(Vec::new()).await;
    assert!(made.is_empty());
    assert_eq!(ended.unwrap(), None);
}

#[tokio::test]
async fn a_pod_whose_workspace_is_gone_is_released() {
    let mut scene = fresh();
    scene.pods = vec![Arc::new(new_pod("ws-a", "pod-1", "uid-1"))];
    scene = scene.deleting_pod();
    let mut bench = bench(&scene);
    bench.cache.begin_workspaces();
    bench.cache.end_workspaces();
    let (made, _) = bench.reconcile(vec![Answer::Echo]).await;
    assert_eq!(calls(&made), ["PATCH pods/ws-a"]);
}

#[test]
fn the_pod_of_the_mock_is_a_valid_kubernetes_pod() {
    let scene = fresh();
    let input = pod::PodInput::parse(&scene.workspace, &scene.settings).unwrap();
    let value = serde_json::to_value(pod::build(&input)).unwrap();
    assert!(serde_json::from_value::<Pod>(value).is_ok());
}

#[tokio::test(start_paused = true)]
async fn queued_workspaces_are_reconciled_until_the_shutdown() {
    let mut scene = running();
    scene.step();
    let bench = bench(&scene);
    let shutdown = CancellationToken::new();
    bench.controller.enqueue("a");
    assert!(bench.controller.queue.is_empty(), "not before it runs");
    let writer = bench.controller.parts.writer.load().as_ref().clone();
    let running = tokio::spawn(Arc::clone(&bench.controller).run(writer, shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(bench.controller.queue.len(), 1, "what the cache holds waits for its next limit of time");
    bench.controller.enqueue("gone");
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(bench.controller.queue.len(), 1, "nothing is kept of what is gone");
    shutdown.cancel();
    running.await.unwrap();
    assert!(bench.controller.queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_panics_is_repeated_after_a_backoff() {
    let bench = bench(&fresh());
    let Controller { queue, backoff, .. } = &*bench.controller;
    queue.open();
    queue.add("a");
    let (name, began) = queue.next().await;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = QueueGuard { queue, backoff, name: &name };
        panic!("a test's panic");
    }));
    assert!(panicked.is_err());
    let (again, due) = tokio::time::timeout(Duration::from_mins(1), queue.next()).await.unwrap();
    assert!(again == name && due > began);
}
