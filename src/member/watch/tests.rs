use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_test::mock;

use super::*;
use k8s::resources::Workspace as Ours;

type Server = mock::Handle<Request<Body>, Response<Body>>;

fn object(name: &str, version: u64, manager: &str) -> Value {
    json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
        "metadata": {"name": name, "namespace": "ws", "resourceVersion": version.to_string(),
            "labels": {"gitpod.io/managed-by": manager}},
        "spec": {
            "ownership": {"owner": "jane", "workspaceID": "meta"}, "type": "Regular", "class": "c",
            "image": {"workspace": {"ref": "img"}, "ide": {"web": "w", "supervisor": "s"}},
            "initializer": "", "workspaceLocation": "", "admission": {"level": "Owner"}, "ports": []}
    })
}

fn list(version: u64, items: &[Value]) -> Value {
    json!({"apiVersion": "workspace.gitpod.io/v1", "kind": "WorkspaceList",
        "metadata": {"resourceVersion": version.to_string()}, "items": items})
}

/// Takes the next call; returns its query.
async fn call(server: &mut Server, response: Response<Body>) -> String {
    let (request, send) = pin!(server).next_request().await.unwrap();
    send.send_response(response);
    request.uri().query().unwrap_or_default().to_owned()
}

fn answer(body: &Value) -> Response<Body> {
    Response::new(Body::from(serde_json::to_vec(body).unwrap()))
}

/// A watch that gives what is sent and stays open until the sender is dropped.
async fn open() -> (mpsc::UnboundedSender<Value>, Response<Body>) {
    let (sender, receiver) = mpsc::unbounded_channel::<Value>();
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        // The type first, as apiservers write it.
        let line = format!("{{\"type\":{},\"object\":{}}}\n", event["type"], event["object"]);
        Some((Ok::<_, std::convert::Infallible>(Frame::data(line.into())), receiver))
    });
    let body = StreamBody::new(frames.boxed()).boxed_unsync();
    (sender, Response::new(wrap(body).await))
}

/// The client's body type can only be made of bytes or by a client, so one is asked to carry it.
async fn wrap<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = bytes::Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    let body = parking_lot::Mutex::new(Some(body));
    let carrier = tower::service_fn(move |_: Request<Body>| {
        let body = body.lock().take().unwrap();
        async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
    });
    let client = kube::Client::new(carrier, "default");
    client.send(Request::new(Body::empty())).await.unwrap().into_body()
}

struct Setting {
    cache: Arc<NamespaceCache>,
    pulse: Arc<Pulse>,
    server: Server,
    relist: watch::Sender<()>,
    shutdown: CancellationToken,
}

fn setting() -> Setting {
    setting_of(1 << 30)
}

/// With so many bytes for objects.
fn setting_of(most: u64) -> Setting {
    let (service, server) = mock::pair::<Request<Body>, Response<Body>>();
    let client = kube::Client::new(service, "default");
    let cache = Arc::new(NamespaceCache::new("ws".parse().unwrap(), Vec::new()));
    let pulse = Arc::new(Pulse::new("workspaces in ws".to_owned()));
    let (relist, shutdown) = (watch::Sender::default(), CancellationToken::new());
    let api: Api<LazyObject<Ours>> = Api::namespaced(tapped(&client, &pulse), "ws");
    let of =
        Followed { cluster: "eu-1".parse().unwrap(), pulse: Arc::clone(&pulse), stock: Stock::new(most) };
    tokio::spawn(follow(
        of,
        api,
        config(),
        sinks::Workspaces::new(Arc::clone(&cache), Arc::default()),
        relist.subscribe(),
        shutdown.clone(),
    ));
    Setting { cache, pulse, server, relist, shutdown }
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came about");
}

#[tokio::test(start_paused = true)]
async fn one_object_that_cannot_be_read_is_left_out_and_those_of_others_are_too() {
    let Setting { cache, pulse, mut server, shutdown, .. } = setting();
    let mut invalid = object("bad", 3, "spaceport");
    invalid["spec"]["ports"] = json!("none");
    let items = [object("a", 1, "spaceport"), object("theirs", 2, "ws-manager-mk2"), invalid];
    call(&mut server, answer(&list(5, &items))).await;
    let (events, watch) = open().await;
    call(&mut server, watch).await;
    until(|| cache.names() == ["a"]).await;
    until(|| pulse.report().unreadable == ["bad"]).await;
    events.send(json!({"type": "MODIFIED", "object": object("bad", 6, "spaceport")})).unwrap();
    until(|| cache.names() == ["a", "bad"]).await;
    assert!(pulse.report().unreadable.is_empty());
    events.send(json!({"type": "MODIFIED", "object": object("a", 7, "ws-manager-mk2")})).unwrap();
    until(|| cache.names() == ["bad"]).await;
    assert!(!cache.was_deleted("a"), "it has another manager");
    events.send(json!({"type": "DELETED", "object": object("bad", 8, "spaceport")})).unwrap();
    until(|| cache.was_deleted("bad")).await;
    assert!(cache.names().is_empty());
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_goes_on_where_it_was_and_after_410_lists_again() {
    let Setting { cache, pulse, mut server, shutdown, .. } = setting();
    call(&mut server, answer(&list(5, &[object("a", 1, "spaceport"), object("b", 2, "spaceport")]))).await;
    let (events, watch) = open().await;
    call(&mut server, watch).await;
    let bookmark = json!({"type": "BOOKMARK", "object": {"apiVersion": "workspace.gitpod.io/v1",
        "kind": "Workspace", "metadata": {"resourceVersion": "40"}}});
    let before = pulse.report().last_heard;
    tokio::time::sleep(Duration::from_mins(1)).await;
    events.send(bookmark).unwrap();
    until(|| pulse.report().last_heard.is_some_and(|ago| ago < Duration::from_secs(1))).await;
    assert!(before.is_some());
    drop(events);

    let (events, watch) = open().await;
    let query = call(&mut server, watch).await;
    assert!(query.contains("resourceVersion=40"), "{query}");
    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old resource version"}});
    events.send(gone).unwrap();
    drop(events);
    call(&mut server, answer(&list(90, &[object("b", 2, "spaceport")]))).await;
    let (_events, watch) = open().await;
    call(&mut server, watch).await;
    assert_eq!(cache.names(), ["b"], "what vanished meanwhile is gone");
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_position_that_the_apiserver_does_not_know_is_given_up() {
    let Setting { cache, mut server, shutdown, .. } = setting();
    call(&mut server, answer(&list(500, &[object("a", 400, "spaceport")]))).await;
    let refused = json!({"kind": "Status", "status": "Failure", "code": 504, "reason": "Timeout",
        "message": "Too large resource version: 500, current: 20"});
    let mut response = answer(&refused);
    *response.status_mut() = http::StatusCode::GATEWAY_TIMEOUT;
    call(&mut server, response).await;
    let query = call(&mut server, answer(&list(20, &[object("a", 10, "spaceport")]))).await;
    assert!(!query.contains("watch=true"), "{query}");
    let (_events, watch) = open().await;
    call(&mut server, watch).await;
    assert_eq!(cache.get("a").unwrap().metadata.resource_version.as_deref(), Some("10"));
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_always_ends_at_once_is_begun_at_most_once_a_second() {
    let Setting { mut server, shutdown, .. } = setting();
    call(&mut server, answer(&list(5, &[]))).await;
    let begun = Arc::new(AtomicUsize::new(0));
    let counting = async {
        loop {
            let (sender, watch) = open().await;
            drop(sender);
            call(&mut server, watch).await;
            begun.fetch_add(1, Ordering::Relaxed);
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), counting).await;
    assert!((5..=11).contains(&begun.load(Ordering::Relaxed)), "{begun:?}");
    shutdown.cancel();
}

#[tokio::test]
async fn everything_is_listed_again_on_request() {
    let mut setting = setting();
    call(&mut setting.server, answer(&list(90, &[object("a", 90, "spaceport")]))).await;
    let (_events, response) = open().await;
    call(&mut setting.server, response).await;
    until(|| !setting.cache.is_empty()).await;
    // The watch stands at a version that the cluster will not reach for long.
    setting.relist.send_replace(());
    let query = call(&mut setting.server, answer(&list(50, &[object("b", 50, "spaceport")]))).await;
    assert!(!query.contains("watch="), "{query}");
    until(|| setting.cache.names() == ["b"]).await;
    setting.shutdown.cancel();
}

/// Refuses the next call as the client does whose answer was too long; returns its query.
async fn too_long(server: &mut Server) -> String {
    let (request, send) = pin!(server).next_request().await.unwrap();
    send.send_error(crate::client::Fault::TooLong { what: "answer", most: 16 << 20 });
    request.uri().query().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_too_long_is_asked_for_with_fewer_objects() {
    let Setting { cache, mut server, shutdown, .. } = setting();
    for page in [500, 50, 5] {
        let query = too_long(&mut server).await;
        assert!(query.split('&').any(|part| part == format!("limit={page}")), "{query}");
    }
    let query = call(&mut server, answer(&list(5, &[object("a", 1, "spaceport")]))).await;
    assert!(query.split('&').any(|part| part == "limit=1"), "{query}");
    until(|| cache.names() == ["a"]).await;
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_list_of_more_objects_than_are_kept_is_said_to_be_so_and_is_taken_once_it_is_shorter() {
    let Setting { cache, pulse, mut server, shutdown, .. } = setting_of(4 * 1024);
    let many: Vec<Value> = (0..20).map(|n| object(&format!("flood-{n}"), n, "spaceport")).collect();
    call(&mut server, answer(&list(25, &many))).await;
    until(|| pulse.report().error.is_some_and(|error| error.contains("federation.objectMebibytes"))).await;
    assert!(!cache.is_synced() && cache.names().len() < 5, "{:?}", cache.names());
    // The next list is complete, and leaves out what it did not know; so there is another.
    call(&mut server, answer(&list(30, &[object("a", 26, "spaceport")]))).await;
    call(&mut server, answer(&list(30, &[object("a", 26, "spaceport")]))).await;
    until(|| cache.names() == ["a"]).await;
    let (_events, watch) = open().await;
    call(&mut server, watch).await;
    until(|| pulse.report().error.is_none()).await;
    shutdown.cancel();
}
