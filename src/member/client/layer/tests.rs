use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full, StreamBody};
use parking_lot::Mutex;
use tower::ServiceExt as _;

use super::*;
use crate::apply::Writer;
use crate::client::FENCE_EXTRA;
use crate::error::Error;
use domain::epoch::Epoch;
use k8s::resources::{Workspace, WorkspaceSpec};

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Signals for Heard {
    fn answered(&self) {
        self.0.lock().push("answered".to_owned());
    }

    fn missed(&self, reason: &str) {
        self.0.lock().push(reason.to_owned());
    }
}

fn limits() -> Limits {
    Limits {
        request_timeout: Duration::from_secs(10),
        watch_silence: Duration::from_secs(100),
        ..Limits::default()
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn probe() -> Request<Body> {
    Request::get("/readyz").extension(Probe).body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_the_deadline_and_is_told() {
    let heard = Arc::new(Heard::default());
    let hung =
        tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Full<Bytes>>, Fault>>());
    let service = Guarded::new(hung, &limits(), heard.clone());
    let fault = service.oneshot(get("/version")).await.err().unwrap();
    assert_eq!(fault, Fault::Timeout(Duration::from_secs(10)));
    assert!(!fault.is_unsent());
    assert_eq!(*heard.0.lock(), ["no answer within 10s"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_its_whole_deadline_after_its_turn_and_a_probe_takes_none() {
    let hung =
        tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Full<Bytes>>, Fault>>());
    let limits = Limits { in_flight: 1, request_timeout: Duration::from_secs(5), ..limits() };
    let service = Guarded::new(hung, &limits, Arc::new(Heard::default()));
    let first = tokio::spawn(service.clone().oneshot(get("/a")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let probe = service.clone().oneshot(probe());
    let second = async {
        let fault = service.oneshot(get("/b")).await.err();
        (fault, Instant::now())
    };
    // The first call ends at 5 s and gives its turn to the second, which waited for 4 s.
    let begun = Instant::now();
    let (first, (second, ended), probe) = tokio::join!(first, second, probe);
    let late = Some(Fault::Timeout(Duration::from_secs(5)));
    assert_eq!((first.unwrap().err(), second, probe.err()), (late.clone(), late.clone(), late));
    assert_eq!(ended - begun, Duration::from_secs(9));
}

#[tokio::test]
async fn the_epoch_is_stamped_on_the_calls_of_its_leadership_and_on_no_others() {
    let echo = tower::service_fn(|request: Request<Body>| async move {
        let headers = request.headers();
        let text = format!("{:?} {:?}", headers.get("impersonate-user"), headers.get(FENCE_EXTRA));
        Ok::<_, Fault>(Response::new(Full::new(Bytes::from(text))))
    });
    let service = Guarded::new(echo, &limits(), Arc::new(Heard::default()));
    let body = async |identity| {
        let answer = service.clone().identified(identity).oneshot(get("/a")).await.unwrap();
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    let epoch = Epoch { installation: uuid::Uuid::nil(), incarnation: 2, revision: 42 };
    assert_eq!(body(Identity::Login).await, "None None");
    assert_eq!(body(Identity::Reader).await, "Some(\"spaceport\") None");
    assert_eq!(body(Identity::Leader(epoch)).await, format!("Some(\"spaceport\") Some(\"{epoch}\")"));
}

#[tokio::test]
async fn an_answer_is_a_sign_of_life_unless_the_server_fails_or_refuses_the_login() {
    let heard = Arc::new(Heard::default());
    let echo = tower::service_fn(|request: Request<Body>| async move {
        let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
        Ok::<_, Fault>(Response::builder().status(status).body(Full::new(Bytes::new())).unwrap())
    });
    let service = Guarded::new(echo, &limits(), heard.clone());
    for status in [200, 404, 409, 429, 401, 500] {
        service.clone().oneshot(get(&format!("/{status}"))).await.unwrap();
    }
    let told = heard.0.lock().clone();
    assert_eq!(told[..4], ["answered"; 4]);
    assert_eq!(told[4..], ["the login is refused (401)", "the apiserver answers 500 Internal Server Error"]);
}

/// A body that gives a frame at each of some seconds, then hangs.
fn slow(seconds: Vec<u64>) -> impl HttpBody<Data = Bytes, Error = Infallible> + Send {
    let frames = futures::stream::unfold(seconds.into_iter(), |mut left| async move {
        match left.next() {
            Some(wait) => tokio::time::sleep(Duration::from_secs(wait)).await,
            None => std::future::pending().await,
        }
        Some((Ok(Frame::data(Bytes::from_static(b"{}"))), left))
    });
    StreamBody::new(frames)
}

async fn frames_of(path: &str, seconds: Vec<u64>) -> (usize, Option<Fault>) {
    frames_of_call(get(path), seconds).await
}

async fn frames_of_call(call: Request<Body>, seconds: Vec<u64>) -> (usize, Option<Fault>) {
    let server = tower::service_fn(move |_: Request<Body>| {
        let body = slow(seconds.clone());
        async move { Ok::<_, Fault>(Response::new(Box::pin(body))) }
    });
    let service = Guarded::new(server, &limits(), Arc::new(Heard::default()));
    let mut body = service.oneshot(call).await.unwrap().into_body();
    let mut frames = 0;
    loop {
        match body.frame().await {
            Some(Ok(_)) => frames += 1,
            Some(Err(fault)) => return (frames, Some(fault)),
            None => return (frames, None),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dripping_answer_ends_at_the_deadline_and_a_watch_only_after_silence() {
    let dripping = frames_of("/a?limit=500", vec![3; 10]).await;
    assert_eq!(dripping, (3, Some(Fault::Timeout(Duration::from_secs(10)))));
    let watch = frames_of("/a?watch=true&x=y", vec![60; 10]).await;
    assert_eq!(watch, (10, None));
}

fn lasting(lasting: Lasting) -> Request<Body> {
    let mut call = get("/api/v1/namespaces/a/pods/b/log");
    call.extensions_mut().insert(lasting);
    call
}

#[tokio::test(start_paused = true)]
async fn a_log_is_read_for_as_long_as_it_takes_once_its_answer_has_begun() {
    let reading =
        tokio::time::timeout(Duration::from_hours(1), frames_of_call(lasting(Lasting::Answer), vec![60; 10]));
    assert!(reading.await.is_err(), "it was cut off");
    let hung =
        tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Full<Bytes>>, Fault>>());
    let service = Guarded::new(hung, &limits(), Arc::new(Heard::default()));
    let fault = service.oneshot(lasting(Lasting::Answer)).await.err();
    assert_eq!(fault, Some(Fault::Timeout(Duration::from_secs(10))));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_followed_is_waited_for_without_taking_the_turn_of_others() {
    let server = tower::service_fn(|request: Request<Body>| async move {
        if request.extensions().get::<Lasting>().is_some() {
            tokio::time::sleep(Duration::from_hours(5)).await;
        }
        Ok::<_, Fault>(Response::new(Full::new(Bytes::from_static(b"line"))))
    });
    let limits = Limits { in_flight: 1, ..limits() };
    let service = Guarded::new(server, &limits, Arc::new(Heard::default()));
    let follows = tokio::spawn(service.clone().oneshot(lasting(Lasting::All)));
    tokio::time::sleep(Duration::from_mins(1)).await;
    service.oneshot(get("/version")).await.unwrap();
    let line = follows.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(line, "line");
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_that_asks_to_be_left_alone_is_and_probes_go_on() {
    let throttles = tower::service_fn(|request: Request<Body>| async move {
        let answer = Response::builder().header(http::header::RETRY_AFTER, "3");
        let (code, kind) = match request.uri().path() {
            "/busy" => (429, "text/plain; charset=utf-8"),
            "/denied" => (429, "application/json"),
            _ => (200, "application/json"),
        };
        let answer = answer.status(code).header(http::header::CONTENT_TYPE, kind);
        Ok::<_, Fault>(answer.body(Full::new(Bytes::new())).unwrap())
    });
    let service = Guarded::new(throttles, &limits(), Arc::new(Heard::default()));
    let begun = Instant::now();
    service.clone().oneshot(get("/denied")).await.unwrap();
    service.clone().oneshot(get("/idle")).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0, "one object was denied, by a webhook");
    service.clone().oneshot(get("/busy")).await.unwrap();
    service.clone().oneshot(probe()).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
    service.oneshot(get("/idle")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_writer_whose_call_gets_no_turn_in_time_says_that_it_was_not_sent() {
    let answers = tower::service_fn(|_: Request<Body>| async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        Ok::<_, Fault>(Response::new(Body::from(
            br#"{"apiVersion":"workspace.gitpod.io/v1","kind":"Workspace"}"#.to_vec(),
        )))
    });
    let limits = Limits { in_flight: 1, request_timeout: Duration::from_secs(20), ..limits() };
    let service = Guarded::new(answers, &limits, Arc::new(Heard::default()));
    let client = kube::Client::new(service, "default");
    let writer = Writer::new(
        "eu-1".parse().unwrap(),
        "ws".parse().unwrap(),
        client,
        Duration::from_secs(20),
        "maintenance".to_owned(),
        Arc::new(|| true),
    );
    let workspace = Workspace::new("a", WorkspaceSpec::default());
    let first = writer.try_workspace(&workspace);
    let impatient = writer.within(Duration::from_secs(3));
    let second = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        impatient.try_workspace(&workspace).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, Ok(()));
    assert!(matches!(second, Err(Error::Queued { .. })), "{second:?}");
    let alone = writer.within(Duration::from_secs(3)).try_workspace(&workspace).await;
    assert!(matches!(alone, Err(Error::Ambiguous { .. })), "{alone:?}");
}
