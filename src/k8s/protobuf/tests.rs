use std::convert::Infallible;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod as K8sPod;
use kube::Api;
use kube::api::{ListParams, WatchEvent as Event, WatchParams};

use super::*;
use crate::resources::SeenPod;

/// A field of bytes, a text or a message; all here are shorter than 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    assert!(length < 128 && number < 16);
    [&[number << 3 | 2, length], bytes].concat()
}

fn object(kind: &str, raw: &[u8]) -> Vec<u8> {
    let types = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [MAGIC, &field(1, &types), &field(2, raw)].concat()
}

/// A pod with a name, a node and a phase, and with a volume, which nobody reads.
fn pod(name: &str) -> Vec<u8> {
    let meta = [field(1, name.as_bytes()), field(6, b"7")].concat();
    let spec = [field(1, b"\x0a\x01v"), field(10, b"node-1")].concat();
    [field(1, &meta), field(2, &spec), field(3, &field(1, b"Running"))].concat()
}

fn event(kind: &str, object: &[u8]) -> Vec<u8> {
    let event = [field(1, kind.as_bytes()), field(2, &field(1, object))].concat();
    [&u32::try_from(event.len()).unwrap().to_be_bytes()[..], &event].concat()
}

/// Status 410.
fn expired() -> Vec<u8> {
    let status = [field(2, b"Failure"), field(3, b"too old"), field(4, b"Expired"), vec![6 << 3, 0x9a, 3]];
    object("Status", &status.concat())
}

/// Pods of a cluster that answers every call so, a chunk after the other.
fn pods(status: u16, kind: &'static str, chunks: Vec<Vec<u8>>) -> Api<SeenPod> {
    let server = tower::service_fn(move |request: Request<Body>| {
        assert!(request.headers()[ACCEPT].to_str().unwrap().starts_with(PROTOBUF));
        let frames = chunks.clone().into_iter().map(|chunk| Ok::<_, Infallible>(Frame::data(chunk.into())));
        let answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
        let answer = answer.body(StreamBody::new(stream::iter(frames))).unwrap();
        async move { Ok::<_, Infallible>(answer) }
    });
    Api::namespaced(of_pods(kube::Client::new(server, "default")), "ws")
}

/// Names of the pods of events, or what they say otherwise.
async fn watched(chunks: Vec<Vec<u8>>) -> kube::Result<Vec<String>> {
    let pods = pods(200, "application/vnd.kubernetes.protobuf;stream=watch", chunks);
    let events = pods.watch(&WatchParams::default(), "1").await?;
    let told = events.map_ok(|event| match event {
        Event::Added(pod) | Event::Modified(pod) | Event::Deleted(pod) => {
            assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"));
            pod.metadata.name.unwrap()
        }
        Event::Bookmark(bookmark) => format!("bookmark {}", bookmark.metadata.resource_version),
        Event::Error(status) => format!("{} {}", status.code, status.reason),
    });
    told.try_collect().await
}

#[tokio::test]
async fn a_list_in_protobuf_is_read_with_its_version_and_its_next_page() {
    let meta = [field(2, b"9"), field(3, b"more")].concat();
    let list = [field(1, &meta), field(2, &pod("a")), field(2, &pod("b"))].concat();
    let list =
        pods(200, PROTOBUF, vec![object("PodList", &list)]).list(&ListParams::default()).await.unwrap();
    assert_eq!(list.metadata.resource_version.as_deref(), Some("9"));
    assert_eq!(list.metadata.continue_.as_deref(), Some("more"));
    let names: Vec<_> = list.items.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(list.items[0].spec.as_ref().unwrap().node_name.as_deref(), Some("node-1"));
}

#[tokio::test]
async fn events_are_read_however_they_are_cut() {
    let all = [
        event("ADDED", &object("Pod", &pod("a"))),
        event("MODIFIED", &object("Pod", &pod("b"))),
        event("BOOKMARK", &object("Pod", &pod(""))),
        event("ERROR", &expired()),
    ]
    .concat();
    for length in [1, 3, 50, all.len()] {
        let chunks = all.chunks(length).map(<[u8]>::to_vec).collect();
        assert_eq!(watched(chunks).await.unwrap(), ["a", "b", "bookmark 7", "410 Expired"]);
    }
}

#[tokio::test]
async fn a_refusal_in_protobuf_is_told_as_the_apiserver_said_it() {
    let kube::Error::Api(status) = pods(410, PROTOBUF, vec![expired()]).get("a").await.unwrap_err() else {
        panic!("no answer of the apiserver")
    };
    assert_eq!((status.code, status.reason.as_str(), status.message.as_str()), (410, "Expired", "too old"));
}

#[tokio::test]
async fn an_answer_in_json_is_passed_on() {
    let text = serde_json::to_vec(&K8sPod::default()).unwrap();
    let pod = pods(200, "application/json", vec![text]).get("a").await.unwrap();
    assert_eq!(pod.metadata.name, None);
}

#[tokio::test]
async fn what_is_no_protobuf_of_kubernetes_ends_the_watch_with_a_reason() {
    let cut = event("ADDED", &object("Pod", &pod("a")));
    let failures = [
        (vec![cut[..20].to_vec()], "ends within an event"),
        (vec![u32::MAX.to_be_bytes().to_vec()], "4294967295 bytes long"),
        (vec![event("ADDED", b"{}")], "does not begin"),
        (vec![event("ADDED", &object("Node", b""))], "holds a Node"),
    ];
    for (chunks, reason) in failures {
        let error = watched(chunks).await.unwrap_err();
        let told = domain::causes::all(&error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn any_bytes_are_objects_and_events_or_refused() {
    let (whole, refused) = (object("Pod", &pod("ws-1")), expired());
    let list = object("PodList", &[field(1, b"\x12\x017"), field(2, &pod("ws-1"))].concat());
    let events = [event("ADDED", &whole), event("ERROR", &refused)].concat();
    fuzz::target("protobuf", &[&whole, &list, &refused, &events], |input| {
        if let Ok(json) = json(input) {
            serde_json::from_slice::<serde_json::Value>(&json).unwrap();
        }
        let mut received = BytesMut::from(input);
        while let Ok(lines) = take_lines(&mut received) {
            if lines.is_empty() {
                break;
            }
        }
    });
}
