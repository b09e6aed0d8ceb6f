//! A proxy in front of an S3 server without TLS, which logs requests, answers single ones with an error, holds them, or cuts
//! them off.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

type Body = BoxBody<Bytes, std::io::Error>;
type Choose = Arc<dyn Fn(&Parts) -> Option<S3Answer> + Send + Sync>;
type After = Arc<dyn Fn(&S3Request) + Send + Sync>;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Answer {
    /// It is not forwarded, and answered with this status and error code.
    Error(u16, &'static str),
    /// It is forwarded, and its response is dropped with the connection.
    Lose,
    /// The response's body ends after this many bytes, with the connection.
    Cut(usize),
    /// The response's body lacks its last bytes, as does its length: a store that serves less than it should.
    Shorten(usize),
    /// It is not forwarded, and there is no answer until the client or the proxy ends.
    Hold,
    /// It is forwarded, and there is no answer until the client or the proxy ends.
    HoldAnswer,
    /// It is forwarded after a while.
    Delay(Duration),
}

/// A request that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Request {
    pub method: Method,
    /// Path without the bucket, such as `/jane/workspaces/meta-ws/heads/1`.
    pub key: String,
    pub query: String,
    /// Of the response; `None` while there is none.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body.
    pub sent: usize,
    /// Bytes of the response's body, as its headers say.
    pub received: u64,
}

/// A proxy. Dropping it ends it.
pub struct S3Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _ends: DropGuard,
}

impl S3Proxy {
    /// Starts a proxy of the server at `upstream`, without faults.
    pub async fn start(upstream: &str) -> Result<Self> {
        Self::at(Ipv4Addr::LOCALHOST.into(), upstream).await
    }

    /// The same, at another address of this machine, for clients in another network.
    pub async fn at(ip: IpAddr, upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let end = CancellationToken::new();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            choose: Mutex::new(Arc::new(|_| None)),
            after: Mutex::new(Arc::new(|_| ())),
            failed: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        tokio::spawn(end.clone().run_until_cancelled_owned(accept(listener, Arc::clone(&shared))));
        Ok(Self { address, shared, _ends: end.drop_guard() })
    }

    /// Its address.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Chooses what happens to each request from now on.
    pub fn choose(&self, choose: impl Fn(&Parts) -> Option<S3Answer> + Send + Sync + 'static) {
        *self.shared.choose.lock() = Arc::new(choose);
    }

    /// What happens from now on after the server has answered a request, and before the client knows.
    pub fn after(&self, after: impl Fn(&S3Request) + Send + Sync + 'static) {
        *self.shared.after.lock() = Arc::new(after);
    }

    /// No faults from now on. Requests that are held stay so.
    pub fn heal(&self) {
        self.choose(|_| None);
        self.after(|_| ());
    }

    /// Number of requests that were made to fail.
    pub fn failed(&self) -> usize {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<S3Request> {
        self.shared.seen.lock().clone()
    }
}

struct Shared {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    choose: Mutex<Choose>,
    after: Mutex<After>,
    failed: AtomicUsize,
    seen: Mutex<Vec<S3Request>>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, Arc::clone(&shared)));
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(request).await }
    });
    // An error is a connection that was cut on purpose, or by the client.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Shared {
    /// An error drops the connection.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let (number, choose) = (self.note(&parts, body.len()), Arc::clone(&self.choose.lock()));
        let answer = choose(&parts);
        if answer.is_some() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        match answer {
            Some(S3Answer::Hold) => std::future::pending().await,
            Some(S3Answer::Delay(by)) => tokio::time::sleep(by).await,
            _ => {}
        }
        let response = match answer {
            Some(S3Answer::Error(status, code)) => {
                let text = format!(
                    "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>"
                );
                whole(StatusCode::from_u16(status).unwrap_or_default(), text.into())
            }
            _ => self.forward(parts, body).await?,
        };
        self.answered(number, &response);
        spoil(response, answer).await
    }

    /// Adds a request to the log; returns its number.
    fn note(&self, parts: &Parts, sent: usize) -> usize {
        let path = parts.uri.path().trim_start_matches('/');
        let key = path.split_once('/').map_or("/", |(_, key)| key);
        let mut seen = self.seen.lock();
        seen.push(S3Request {
            method: parts.method.clone(),
            key: format!("/{}", key.trim_start_matches('/')),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            status: None,
            sent,
            received: 0,
        });
        seen.len() - 1
    }

    fn answered(&self, number: usize, response: &Response<Body>) {
        let request = self.seen.lock().get_mut(number).map(|request| {
            request.status = Some(response.status());
            // A HEAD has the length of what it does not send.
            if request.method == Method::GET {
                request.received = response.body().size_hint().lower();
            }
            request.clone()
        });
        let after = Arc::clone(&self.after.lock());
        if let Some(request) = request {
            after(&request);
        }
    }

    async fn forward(&self, mut parts: Parts, body: Bytes) -> Result<Response<Body>, std::io::Error> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        // The Host header stays the client's, which is signed.
        parts.uri =
            format!("http://{}{path}", self.upstream).parse::<Uri>().map_err(std::io::Error::other)?;
        let response = self.client.request(Request::from_parts(parts, Full::new(body))).await;
        let response = response.map_err(std::io::Error::other)?;
        Ok(response.map(|body| body.map_err(std::io::Error::other).boxed()))
    }
}

/// What the client gets of a response.
async fn spoil(response: Response<Body>, answer: Option<S3Answer>) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = response.into_parts();
    match answer {
        Some(S3Answer::HoldAnswer) => std::future::pending().await,
        Some(S3Answer::Lose) => Err(std::io::ErrorKind::ConnectionReset.into()),
        Some(S3Answer::Cut(at)) => {
            Ok(Response::from_parts(parts, cut(&body.collect().await?.to_bytes(), at)))
        }
        Some(S3Answer::Shorten(by)) => Ok(shortened(parts, &body.collect().await?.to_bytes(), by)),
        _ => Ok(Response::from_parts(parts, body)),
    }
}

fn whole(status: StatusCode, text: Bytes) -> Response<Body> {
    let never: fn(Infallible) -> std::io::Error = |never| match never {};
    let mut response = Response::new(Full::new(text).map_err(never).boxed());
    *response.status_mut() = status;
    response
}

/// A body that breaks off.
fn cut(bytes: &Bytes, at: usize) -> Body {
    let begin = bytes.slice(..at.min(bytes.len()));
    let frames = [Ok(Frame::data(begin)), Err(std::io::ErrorKind::ConnectionReset.into())];
    StreamBody::new(futures::stream::iter(frames)).boxed()
}

fn shortened(mut parts: http::response::Parts, bytes: &Bytes, by: usize) -> Response<Body> {
    let rest = bytes.slice(..bytes.len().saturating_sub(by));
    parts.headers.insert(http::header::CONTENT_LENGTH, rest.len().into());
    let never: fn(Infallible) -> std::io::Error = |never| match never {};
    Response::from_parts(parts, Full::new(rest).map_err(never).boxed())
}
