//! Small HTTP servers of the harness: a log of requests, a password, and failures on request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

mod files;
mod git;
pub mod image;
mod registry;

pub use files::HttpFiles;
pub use git::GitServer;
pub use registry::Registry;

/// What goes wrong with every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// This status, such as 401 or 500, and nothing is done.
    Status(u16),
    /// No answer, until the client gives up or the server is dropped.
    Hang,
    /// The connection breaks after so many bytes of a successful response's body.
    Cut(usize),
}

/// A request that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// User of the basic authentication, valid or not.
    pub user: Option<String>,
    /// Status of the response; `None` while there is none.
    pub status: Option<u16>,
}

/// A server. Dropping it ends it.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    _end: DropGuard,
}

#[derive(Default)]
struct Shared {
    credentials: Option<(String, String)>,
    trouble: Mutex<Trouble>,
    seen: Mutex<Vec<Seen>>,
    end: CancellationToken,
}

impl Server {
    /// Serves at a free port of an address of this machine. With credentials, other requests are answered with 401.
    pub async fn start<F>(
        ip: IpAddr,
        credentials: Option<(&str, &str)>,
        handler: impl Fn(Request) -> F + Clone + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let listener = TcpListener::bind((ip, 0)).await.with_context(|| format!("cannot listen at {ip}"))?;
        let address = listener.local_addr()?;
        let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let shared = Arc::new(Shared { credentials, ..Shared::default() });
        let serving = Arc::clone(&shared);
        let router = axum::Router::new().fallback(move |request: Request| {
            let (shared, handler) = (Arc::clone(&serving), handler.clone());
            async move { shared.answer(request, handler).await }
        });
        let end = shared.end.clone();
        let ended = end.clone();
        tokio::spawn(async move {
            let serve = axum::serve(listener, router).with_graceful_shutdown(ended.cancelled_owned());
            if let Err(error) = serve.await {
                eprintln!("HTTP server at {address}: {error}");
            }
        });
        Ok(Self { address, shared, _end: end.drop_guard() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ip:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on; requests in progress go on as they began.
    pub fn set(&self, trouble: Trouble) {
        *self.shared.trouble.lock() = trouble;
    }

    /// Requests so far, in the order of their arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }
}

impl Shared {
    async fn answer<F>(&self, request: Request, handler: impl Fn(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        let given = credentials(&request);
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let place = {
            let mut seen = self.seen.lock();
            let user = given.as_ref().map(|(user, _)| user.clone());
            seen.push(Seen { method: request.method().to_string(), target, user, status: None });
            seen.len() - 1
        };
        let trouble = *self.trouble.lock();
        let mut response = match trouble {
            Trouble::Hang => {
                self.end.cancelled().await;
                status(StatusCode::SERVICE_UNAVAILABLE)
            }
            Trouble::Status(code) => status(StatusCode::from_u16(code).unwrap_or_default()),
            _ if self.credentials.is_some() && given != self.credentials => status(StatusCode::UNAUTHORIZED),
            _ => handler(request).await,
        };
        if let Some(seen) = self.seen.lock().get_mut(place) {
            seen.status = Some(response.status().as_u16());
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            let ask = HeaderValue::from_static("Basic realm=\"e2e\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
        }
        match trouble {
            Trouble::Cut(after) if response.status().is_success() => response.map(|body| cut(body, after)),
            _ => response,
        }
    }
}

/// An empty response.
fn status(code: StatusCode) -> Response {
    code.into_response()
}

/// User and password of basic authentication.
fn credentials(request: &Request) -> Option<(String, String)> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let encoded = value.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// The first bytes of a body, then an error, which closes the connection.
fn cut(body: Body, after: usize) -> Body {
    let chunks = stream::unfold((body.into_data_stream(), Some(after)), async |(mut body, left)| {
        let broken = async || {
            // What was written before the error reaches the client first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            std::io::Error::from(std::io::ErrorKind::ConnectionReset)
        };
        match left {
            None => None,
            Some(0) => Some((Err(broken().await), (body, None))),
            Some(left) => match body.next().await {
                Some(Ok(mut chunk)) => {
                    chunk.truncate(left);
                    let left = left - chunk.len();
                    Some((Ok(chunk), (body, Some(left))))
                }
                // Whatever its length, it does not arrive whole.
                Some(Err(_)) | None => Some((Err(broken().await), (body, None))),
            },
        }
    });
    Body::from_stream(chunks)
}
