use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::*;

const START: &str = "/wsman.WorkspaceManager/StartWorkspace";
const SUBSCRIBE: &str = "/wsman.WorkspaceManager/Subscribe";

type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, tonic::Status>>;

fn trailers(code: Code) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", (code as i32).into());
    trailers
}

/// A streamed response whose frames the test sends.
fn streamed() -> (Frames, Response<Body>) {
    let (frames, receiver) = mpsc::unbounded_channel();
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        let frame = receiver.recv().await?;
        Some((frame, receiver))
    });
    (frames, Response::new(Body::new(StreamBody::new(stream))))
}

async fn call(calls: &Calls, path: &str, answer: Response<Body>) -> Response<Body> {
    let answer = parking_lot::Mutex::new(Some(answer));
    let service = tower::service_fn(move |_: Request<Body>| {
        let answer = answer.lock().take().unwrap();
        async { Ok::<_, Infallible>(answer) }
    });
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    calls.layer(service).oneshot(request).await.unwrap()
}

fn handled(calls: &Calls, path: &str, code: &str) -> u64 {
    let [kind, service, method] = calls.labels(path);
    calls.0.handled.with_label_values(&[kind, service, method, code]).get()
}

fn started(calls: &Calls, path: &str) -> u64 {
    calls.0.started.with_label_values(&calls.labels(path)).get()
}

#[tokio::test]
async fn a_stream_is_counted_at_its_end_by_its_trailers() {
    let calls = Calls::new().unwrap();
    let (frames, answer) = streamed();
    let mut answer = call(&calls, SUBSCRIBE, answer).await;
    frames.send(Ok(Frame::data(Bytes::from_static(b"x")))).unwrap();
    assert!(answer.body_mut().frame().await.unwrap().unwrap().is_data());
    assert_eq!((started(&calls, SUBSCRIBE), handled(&calls, SUBSCRIBE, "OK")), (1, 0), "it goes on");
    frames.send(Ok(Frame::trailers(trailers(Code::ResourceExhausted)))).unwrap();
    drop(frames);
    answer.body_mut().collect().await.unwrap();
    drop(answer);
    assert_eq!(handled(&calls, SUBSCRIBE, "ResourceExhausted"), 1);
    assert_eq!(handled(&calls, SUBSCRIBE, "Canceled"), 0);
    let seconds = calls.0.seconds.with_label_values(&calls.labels(SUBSCRIBE));
    assert_eq!(seconds.get_sample_count(), 1);
    assert_eq!(calls.labels(SUBSCRIBE), ["server_stream", "wsman.WorkspaceManager", "Subscribe"]);
}

#[tokio::test]
async fn a_call_whose_caller_went_is_cancelled() {
    let calls = Calls::new().unwrap();
    let (_frames, answer) = streamed();
    drop(call(&calls, SUBSCRIBE, answer).await);
    assert_eq!(handled(&calls, SUBSCRIBE, "Canceled"), 1);
    let never =
        tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
    let request = Request::builder().uri(START).body(Body::empty()).unwrap();
    let mut waiting = Box::pin(calls.layer(never).oneshot(request));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(waiting);
    assert_eq!((started(&calls, START), handled(&calls, START, "Canceled")), (1, 1));
}

#[tokio::test]
async fn a_refusal_is_counted_by_the_status_in_its_head_and_what_was_passed_on_is_not() {
    let calls = Calls::new().unwrap();
    let refusal = tonic::Status::not_found("no such workspace").into_http();
    call(&calls, START, refusal).await;
    assert_eq!(handled(&calls, START, "NotFound"), 1);
    let mut elsewhere = tonic::Status::not_found("no such workspace").into_http();
    elsewhere.extensions_mut().insert(PassedOn);
    call(&calls, START, elsewhere).await;
    assert_eq!((started(&calls, START), handled(&calls, START, "NotFound")), (1, 1));
}

#[tokio::test]
async fn methods_that_are_not_served_are_counted_as_one() {
    let calls = Calls::new().unwrap();
    for path in ["/a.B/C", "/d", "/wsman.WorkspaceManager/Nonsense"] {
        call(&calls, path, tonic::Status::unimplemented("").into_http()).await;
    }
    assert_eq!(calls.labels("/a.B/C"), ["unary", "unknown", "unknown"]);
    assert_eq!(handled(&calls, "/d", "Unimplemented"), 3);
    assert_eq!(calls.labels("/grpc.health.v1.Health/Watch")[0], "server_stream");
}

#[tokio::test]
async fn a_call_that_panics_is_answered_and_counted() {
    let calls = Calls::new().unwrap();
    let panics = tower::service_fn(|request: Request<Body>| async move {
        assert!(request.uri().path().is_empty(), "on purpose");
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let request = Request::builder().uri(START).body(Body::empty()).unwrap();
    let answer = calls.layer(panics).oneshot(request).await.unwrap();
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("on purpose"), "{}", status.message());
    assert_eq!((started(&calls, START), handled(&calls, START, "Internal")), (1, 1));
}
