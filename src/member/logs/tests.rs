use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;

use super::*;

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

const PATIENCE: Duration = Duration::from_secs(10);

/// Every call that came, with how its deadline holds.
type Call = (String, Option<Lasting>);

#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Call>>>);

fn logs(calls: &Calls, answer: impl Fn(&str) -> Answer + Clone + Send + 'static) -> Logs {
    let calls = calls.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        calls.0.lock().push((uri.clone(), request.extensions().get::<Lasting>().copied()));
        let response = answer(&uri);
        async move { Ok::<_, tower::BoxError>(response) }
    });
    Logs::new("eu".parse().unwrap(), kube::Client::new(service, "default"), PATIENCE)
}

async fn open(logs: &Logs, options: LogOptions) -> Result<Log> {
    logs.open(&"workspaces".parse().unwrap(), "ws-a", "workspace", &options).await
}

fn whole(content: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(content.into()).map_err(|never| match never {}).boxed_unsync())
}

fn refusal(code: u16, message: &str) -> Answer {
    let status = serde_json::json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "BadRequest", "code": code });
    let mut answer = whole(status.to_string());
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
    answer
}

/// A body that gives what is sent, until the sender goes.
fn dripping() -> (futures::channel::mpsc::UnboundedSender<Bytes>, Answer) {
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Bytes>();
    let frames = receiver.map(|bytes| Ok::<_, std::io::Error>(hyper::body::Frame::data(bytes)));
    (sender, Response::new(StreamBody::new(frames).boxed_unsync()))
}

#[tokio::test]
async fn a_log_is_asked_for_as_it_is_wanted_and_comes_in_bounded_pieces() {
    let calls = Calls::default();
    let long = vec![b'x'; 3 * PIECE + 1];
    let content = long.clone();
    let logs = logs(&calls, move |_| whole(content.clone()));
    let since = Some(Duration::from_mins(5));
    let options = LogOptions { tail: Some(7), since, previous: true, ..LogOptions::default() };
    let pieces: Vec<Piece> = open(&logs, options).await.unwrap().try_collect().await.unwrap();
    let pieces: Vec<Bytes> = pieces.into_iter().map(|piece| piece.content).collect();
    assert!(pieces.iter().all(|piece| piece.len() <= PIECE), "{pieces:?}");
    assert_eq!(pieces.concat(), long);
    let asked = "/api/v1/namespaces/workspaces/pods/ws-a/log?&container=workspace&previous=true&sinceSeconds=300&tailLines=7";
    assert_eq!(*calls.0.lock(), [(asked.to_owned(), Some(Lasting::Answer))]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_followed_is_asked_for_first_and_may_be_silent_for_hours() {
    let calls = Calls::default();
    let (sender, body) = dripping();
    let body = Arc::new(Mutex::new(Some(body)));
    let logs = logs(&calls, move |uri| {
        if uri.contains("follow=true") { body.lock().take().unwrap() } else { whole(Bytes::new()) }
    });
    let mut log = open(&logs, LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
    let first = "/api/v1/namespaces/workspaces/pods/ws-a/log?&container=workspace&tailLines=0";
    assert_eq!(*calls.0.lock(), [(first.to_owned(), Some(Lasting::Answer))]);
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_hours(5)).await;
        let line = b"2026-11-24T12:00:00.000000001Z line\n";
        sender.unbounded_send(Bytes::from_static(line)).unwrap();
    });
    let piece = log.next().await.unwrap().unwrap();
    assert_eq!(piece.content, "line\n");
    assert_eq!(piece.end.unwrap().to_string(), "2026-11-24T12:00:00.000000001Z/1/0");
    late.await.unwrap();
    assert!(log.next().await.is_none(), "it ends with the container");
    assert_eq!(calls.0.lock()[1].1, Some(Lasting::All));
    assert!(calls.0.lock()[1].0.contains("timestamps=true"));
}

#[tokio::test]
async fn a_log_is_gone_on_with_after_the_line_where_it_broke_off_elsewhere() {
    let calls = Calls::default();
    let logs = logs(&calls, |_| {
        whole("2026-11-24T12:00:00.6Z one\n2026-11-24T12:00:00.7Z two\n2026-11-24T12:00:00.7Z three\n")
    });
    let after = Some("2026-11-24T12:00:00.7Z/0/2".parse().unwrap());
    let options = LogOptions { follow: true, tail: Some(1), after, ..LogOptions::default() };
    let pieces: Vec<Piece> = open(&logs, options).await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces[0].content, "o\nthree\n");
    let asked = calls.0.lock()[1].0.clone();
    assert!(asked.contains("sinceTime=2026-11-24T12%3A00%3A00Z") && !asked.contains("tailLines"), "{asked}");
}

#[tokio::test]
async fn a_refusal_is_told_before_anything_is_read() {
    let calls = Calls::default();
    let logs = logs(&calls, |_| refusal(400, "container \"workspace\" is waiting to start"));
    for follow in [false, true] {
        let error = open(&logs, LogOptions { follow, ..LogOptions::default() }).await.err().unwrap();
        assert_eq!(error.code(), Some(400));
        assert!(error.to_string().contains("waiting to start"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_followed_is_given_up_when_nothing_comes() {
    let (sender, body) = dripping();
    let body = Arc::new(Mutex::new(Some(body)));
    let logs = logs(&Calls::default(), move |_| body.lock().take().unwrap());
    let mut log = open(&logs, LogOptions::default()).await.unwrap();
    sender.unbounded_send(Bytes::from_static(b"a")).unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().content, "a");
    // However long the caller takes.
    tokio::time::sleep(Duration::from_hours(1)).await;
    sender.unbounded_send(Bytes::from_static(b"b")).unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().content, "b");
    let error = log.next().await.unwrap().unwrap_err();
    assert_eq!(error.cause(), "no more of it within 10s");
    assert!(log.next().await.is_none());
}

#[tokio::test]
async fn only_so_many_are_read_at_once_and_one_that_is_dropped_gives_its_place_away() {
    let logs = logs(&Calls::default(), |_| whole("a"));
    let mut open_ones = Vec::new();
    for _ in 0..AT_ONCE {
        open_ones.push(open(&logs, LogOptions::default()).await.unwrap());
    }
    let error = open(&logs, LogOptions::default()).await.err().unwrap();
    assert_eq!(error.cause(), "64 logs are read there already");
    open_ones.pop();
    open_ones.push(open(&logs, LogOptions::default()).await.unwrap());
}
