use std::convert::Infallible;
use std::net::SocketAddr;

use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tonic::Code;
use tower::{Layer as _, ServiceExt as _};

use super::*;
use runtime::tls::ConnectInfo;

const SUBSCRIBE: &str = "/wsman.WorkspaceManager/Subscribe";
const LIST: &str = "/wsman.WorkspaceManager/GetWorkspaces";
const MIB: usize = 1024 * 1024;

fn load() -> Arc<Load> {
    let long = Duration::from_hours(1);
    let sessions = SessionCaps { total: 2, per_caller: 1, idle: long, longest: long };
    Load::new(StreamCaps { total: 3, per_caller: 2 }, &sessions, Refusals::new().unwrap()).unwrap()
}

fn request(path: &str, from: u8, body: Body) -> Request<Body> {
    let remote_addr = Some(SocketAddr::from(([127, 0, 0, from], 1)));
    let mut request = Request::builder().uri(path).body(body).unwrap();
    request.extensions_mut().insert(ConnectInfo {
        remote_addr,
        encrypted: false,
        peer: None,
        lifetime: runtime::tls::Lifetime::default(),
    });
    request
}

fn empty() -> Body {
    Body::empty()
}

/// A body of these pieces that never ends.
fn unending(pieces: Vec<Bytes>) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    for piece in pieces {
        sender.send(piece).unwrap();
    }
    let stream = futures::stream::unfold((sender, receiver), |(sender, mut receiver)| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Status>(Frame::data(piece)), (sender, receiver)))
    });
    Body::new(StreamBody::new(stream))
}

/// Answers every call with a body of this many bytes.
async fn call(load: &Arc<Load>, request: Request<Body>, answer: usize) -> Response<Body> {
    let service = tower::service_fn(move |_: Request<Body>| async move {
        Ok::<_, Infallible>(Response::new(Body::new(Whole::new(Bytes::from(vec![0; answer])))))
    });
    LoadLayer(Arc::clone(load)).layer(service).oneshot(request).await.unwrap()
}

/// The status in the headers of a response.
fn refusal(answer: &Response<Body>) -> Option<(Code, String)> {
    let status = Status::from_header_map(answer.headers())?;
    Some((status.code(), status.message().to_owned()))
}

fn counted(load: &Load, reason: &str) -> u64 {
    load.refusals.0.with_label_values(&[reason]).get()
}

#[tokio::test]
async fn a_caller_has_so_many_streams_and_all_callers_together_so_many_more() {
    let load = load();
    let subscribe = async |from| call(&load, request(SUBSCRIBE, from, empty()), 1).await;
    let (first, second) = (subscribe(1).await, subscribe(1).await);
    assert_eq!((refusal(&first), refusal(&second)), (None, None));
    let (code, text) = refusal(&subscribe(1).await).unwrap();
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(text, "this caller has 2 streams open, as many as one may have");
    let other = subscribe(2).await;
    assert_eq!(refusal(&other), None);
    assert_eq!(refusal(&subscribe(3).await).unwrap().1, "3 streams are open, as many as there may be in all");
    assert_eq!(refusal(&call(&load, request(LIST, 1, empty()), 1).await), None, "no stream");
    drop(first);
    assert_eq!(refusal(&subscribe(1).await), None);
    assert_eq!((counted(&load, "caller_streams"), counted(&load, "streams")), (1, 1));
}

#[tokio::test]
async fn bytes_of_requests_in_flight_are_bounded_for_a_caller_and_others_get_through() {
    let load = load();
    let hanging = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<_, Infallible>>());
    let service = LoadLayer(Arc::clone(&load)).layer(hanging);
    let large = || Body::new(Whole::new(Bytes::from(vec![0; 8 * MIB])));
    let mut hung = Vec::new();
    for _ in 0..15 {
        hung.push(tokio::spawn(service.clone().oneshot(request(LIST, 1, large()))));
        tokio::time::timeout(std::time::Duration::from_mins(1), async {
            while load.requests.sum() < 8 * MIB as u64 * hung.len() as u64 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
    let refused = call(&load, request(LIST, 1, large()), 1).await;
    assert_eq!(refusal(&refused).unwrap().0, Code::ResourceExhausted);
    assert_eq!(counted(&load, "caller_request_bytes"), 1);
    assert_eq!(refusal(&call(&load, request(LIST, 2, large()), 1).await), None);
    for call in hung {
        call.abort();
        drop(call.await);
    }
    assert_eq!(load.requests.sum(), 0, "cancelled calls give back what they held");
}

#[tokio::test]
async fn an_answer_counts_until_its_client_has_read_it() {
    let load = load();
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut answer = call(&load, request(LIST, 1, empty()), 16 * MIB).await;
        assert!(answer.body_mut().frame().await.unwrap().unwrap().is_data());
        unread.push(answer);
    }
    let mut refused = call(&load, request(LIST, 1, empty()), 16 * MIB).await;
    let trailers = refused.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap();
    let status = Status::from_header_map(&trailers).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("leaves too many bytes of answers unread"), "{status:?}");
    assert!(refused.body_mut().frame().await.is_none());
    let mut other = call(&load, request(LIST, 2, empty()), 16 * MIB).await;
    assert!(other.body_mut().frame().await.unwrap().unwrap().is_data());
    drop(other);
    // The next piece is asked for when the one before was taken.
    assert!(unread[0].body_mut().frame().await.is_none());
    let mut next = call(&load, request(LIST, 1, empty()), 16 * MIB).await;
    assert!(next.body_mut().frame().await.unwrap().unwrap().is_data());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_arrive_in_time_ends_and_gives_back_what_it_held() {
    let load = load();
    let slow = request(LIST, 1, unending(vec![Bytes::from_static(b"\0\0\0\0\x09")]));
    let answer = call(&load, slow, 1).await;
    assert_eq!(
        refusal(&answer),
        Some((Code::DeadlineExceeded, "the request did not arrive within 30s".to_owned()))
    );
    assert_eq!((load.requests.sum(), counted(&load, "request_timeout")), (0, 1));
}

#[tokio::test]
async fn a_request_larger_than_a_message_may_be_is_refused() {
    let load = load();
    let pieces = vec![Bytes::from(vec![0; MIB]); 17];
    let (code, text) = refusal(&call(&load, request(LIST, 1, unending(pieces)), 1).await).unwrap();
    assert_eq!((code, text.as_str()), (Code::ResourceExhausted, "the request is larger than 16 MiB"));
}

#[tokio::test]
async fn a_request_in_pieces_reaches_the_service_whole() {
    let load = load();
    let echo = tower::service_fn(|request: Request<Body>| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Body::new(Whole::new(body))))
    });
    let pieces =
        [&b"ab"[..], b"c", b"def"].map(|piece| Ok::<_, Status>(Frame::data(Bytes::from_static(piece))));
    let body = Body::new(StreamBody::new(futures::stream::iter(pieces)));
    let answer = LoadLayer(load).layer(echo).oneshot(request(LIST, 1, body)).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "abcdef");
}
