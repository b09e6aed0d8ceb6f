//! A proxy in front of an S3 server without TLS, which answers single requests with an error, or cuts them off.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
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
}

/// A proxy. Dropping it ends it.
pub struct S3Proxy {
    address: SocketAddr,
    choose: Arc<Mutex<Choose>>,
    failed: Arc<AtomicUsize>,
    _ends: DropGuard,
}

impl S3Proxy {
    /// Starts a proxy of the server at `upstream`, without faults.
    pub async fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let address = listener.local_addr()?;
        let choose: Arc<Mutex<Choose>> = Arc::new(Mutex::new(Arc::new(|_| None)));
        let (failed, end) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            choose: Arc::clone(&choose),
            failed: Arc::clone(&failed),
        });
        tokio::spawn(end.clone().run_until_cancelled_owned(accept(listener, shared)));
        Ok(Self { address, choose, failed, _ends: end.drop_guard() })
    }

    /// Its address.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Chooses what happens to each request from now on.
    pub fn choose(&self, choose: impl Fn(&Parts) -> Option<S3Answer> + Send + Sync + 'static) {
        *self.choose.lock() = Arc::new(choose);
    }

    /// Number of requests that were made to fail.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }
}

struct Shared {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    choose: Arc<Mutex<Choose>>,
    failed: Arc<AtomicUsize>,
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
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let choose = Arc::clone(&self.choose.lock());
        let answer = choose(&parts);
        if answer.is_some() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(S3Answer::Error(status, code)) = answer {
            let text = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>"
            );
            return Ok(whole(StatusCode::from_u16(status).unwrap_or_default(), text.into()));
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        // The Host header stays the client's, which is signed.
        parts.uri =
            format!("http://{}{path}", self.upstream).parse::<Uri>().map_err(std::io::Error::other)?;
        let response = self.client.request(Request::from_parts(parts, Full::new(body))).await;
        let (parts, body) = response.map_err(std::io::Error::other)?.into_parts();
        if answer == Some(S3Answer::Lose) {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let body = match answer {
            Some(S3Answer::Cut(at)) => {
                cut(&body.collect().await.map_err(std::io::Error::other)?.to_bytes(), at)
            }
            Some(S3Answer::Shorten(by)) => {
                let bytes = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                return Ok(shortened(parts, &bytes, by));
            }
            _ => body.map_err(std::io::Error::other).boxed(),
        };
        Ok(Response::from_parts(parts, body))
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
