//! Faults of single calls: the proxy as an HTTP server in front of the apiserver.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::flood::Flood;
use crate::harness::pki::Identity;

pub(super) type Body = BoxBody<Bytes, hyper::Error>;
type Upstream = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Body of a call, as an extension of the request that rules can read.
#[derive(Clone, Debug)]
pub struct Carried(pub Bytes);

/// What the proxy does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Does not forward it; answers with this status.
    Status(u16),
    /// Does not forward it; answers 429 with this Retry-After in seconds.
    Throttle(u16),
    /// Forwards it once the rule is removed.
    Hold,
    /// Forwards it, then resets the connection instead of responding.
    Lose,
    /// Forwards it, and never responds.
    Mute,
    /// Forwards it, and sends only the headers of the response: a watch without events.
    Quiet,
    /// Does not forward it; responds without end.
    Flood(Flood),
    /// Never responds, and forwards it at [`let_late_go`](super::Proxy::let_late_go), when the caller may be gone.
    Late,
}

/// Which calls, and what happens to them.
#[derive(Clone)]
pub struct Rule {
    calls: Arc<dyn Fn(&Parts) -> bool + Send + Sync>,
    answer: Answer,
}

impl Rule {
    /// For calls that match `calls`.
    pub fn new(calls: impl Fn(&Parts) -> bool + Send + Sync + 'static, answer: Answer) -> Self {
        Self { calls: Arc::new(calls), answer }
    }

    /// Records a name when the rule matches a call.
    #[must_use]
    pub fn noting(self, name: &str, reached: &Arc<Mutex<BTreeSet<String>>>) -> Self {
        let Self { calls, answer } = self;
        let (name, reached) = (name.to_owned(), Arc::clone(reached));
        let noted = move |call: &Parts| {
            let is_it = calls(call);
            if is_it {
                reached.lock().insert(name.clone());
            }
            is_it
        };
        Self::new(noted, answer)
    }

    /// For every call, including probes and watches; open watches continue.
    pub fn all(answer: Answer) -> Self {
        Self::new(|_| true, answer)
    }

    /// For calls of a method whose path ends with `end`.
    pub fn of(method: http::Method, end: &'static str, answer: Answer) -> Self {
        Self::new(move |call| call.method == method && call.uri.path().ends_with(end), answer)
    }

    /// For everything but reads.
    pub fn writes(answer: Answer) -> Self {
        Self::new(|call| call.method != http::Method::GET, answer)
    }
}

pub(super) struct Calls {
    tls: TlsAcceptor,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Upstream,
    address: SocketAddr,
    rules: watch::Sender<Vec<Rule>>,
    held: watch::Sender<usize>,
    injected: watch::Sender<usize>,
    /// Whether late calls may be forwarded.
    late_go: watch::Sender<bool>,
    late: watch::Sender<Late>,
}

/// Calls that are forwarded late.
#[derive(Default)]
struct Late {
    kept: usize,
    /// Status codes of the forwarded ones.
    codes: Vec<u16>,
}

impl Calls {
    pub(super) fn new(identity: &Identity, ca_pem: &str, address: SocketAddr) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).context("no authority")?)?;
        let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(client).https_only().enable_http1().build();
        let chain =
            vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).context("no certificate")?];
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).context("no key")?;
        let mut server =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let shared = Arc::new(Shared {
            upstream: Client::builder(TokioExecutor::new()).build(connector),
            address,
            rules: watch::Sender::new(Vec::new()),
            held: watch::Sender::new(0),
            injected: watch::Sender::new(0),
            late_go: watch::Sender::new(false),
            late: watch::Sender::default(),
        });
        Ok(Self { tls: TlsAcceptor::from(Arc::new(server)), shared })
    }

    pub(super) fn rules(&self, rules: Vec<Rule>) {
        self.shared.rules.send_replace(rules);
    }

    pub(super) fn held(&self) -> watch::Receiver<usize> {
        self.shared.held.subscribe()
    }

    pub(super) fn injected(&self) -> watch::Receiver<usize> {
        self.shared.injected.subscribe()
    }

    pub(super) async fn let_late_go(&self) -> Result<Vec<u16>> {
        self.shared.late_go.send_replace(true);
        let mut late = self.shared.late.subscribe();
        let all = late.wait_for(|late| late.codes.len() == late.kept).await?;
        Ok(all.codes.clone())
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(&self, connection: DuplexStream) {
        let Ok(tls) = self.tls.accept(connection).await else { return };
        let service = service_fn(|request| {
            let shared = Arc::clone(&self.shared);
            async move { shared.call(request).await }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    }
}

impl Shared {
    async fn call(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        parts.extensions.insert(Carried(body.clone()));
        let answer = self.rules.borrow().iter().find(|rule| (rule.calls)(&parts)).map(|rule| rule.answer);
        if let Some(answer) = answer {
            self.injected.send_modify(|injected| *injected += 1);
            match answer {
                Answer::Status(code) => return refusal(code, None),
                Answer::Flood(flood) => return flood.answer(&parts),
                Answer::Throttle(seconds) => return refusal(429, Some(seconds)),
                Answer::Hold => self.hold(&parts).await,
                Answer::Lose | Answer::Mute => {
                    let taken = self.pass_on(parts, body).await?;
                    let _ = taken.into_body().collect().await;
                    if answer == Answer::Mute {
                        return std::future::pending().await;
                    }
                    return Err(io::Error::from(io::ErrorKind::ConnectionReset));
                }
                Answer::Quiet => {
                    let (head, _) = self.pass_on(parts, body).await?.into_parts();
                    let nothing =
                        StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, hyper::Error>>());
                    return Ok(Response::from_parts(head, BodyExt::boxed(nothing)));
                }
                Answer::Late => {
                    self.late.send_modify(|late| late.kept += 1);
                    tokio::spawn(self.pass_on_late(parts, body));
                    return std::future::pending().await;
                }
            }
        }
        self.pass_on(parts, body).await
    }

    /// Outlives the connection of the call.
    async fn pass_on_late(self: Arc<Self>, parts: Parts, body: Bytes) {
        if self.late_go.subscribe().wait_for(|go| *go).await.is_err() {
            return;
        }
        let answer = self.pass_on(parts, body).await;
        // 0 is no HTTP status: there was no response.
        let code = answer.map_or(0, |answer| answer.status().as_u16());
        self.late.send_modify(|late| late.codes.push(code));
    }

    async fn pass_on(&self, mut parts: Parts, body: Bytes) -> io::Result<Response<Body>> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("https://{}{path}", self.address).parse::<Uri>().map_err(io::Error::other)?;
        parts.headers.remove(header::HOST);
        let answer = self.upstream.request(Request::from_parts(parts, Full::new(body))).await;
        Ok(answer.map_err(io::Error::other)?.map(http_body_util::BodyExt::boxed))
    }

    /// Waits until no rule holds the call.
    async fn hold(&self, parts: &Parts) {
        let _held = Held::count(&self.held);
        let mut rules = self.rules.subscribe();
        let free = |rules: &Vec<Rule>| {
            let first = rules.iter().find(|rule| (rule.calls)(parts));
            first.is_none_or(|rule| rule.answer != Answer::Hold)
        };
        let _ = rules.wait_for(free).await;
    }
}

struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn count(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

/// An error in the format of an apiserver.
fn refusal(code: u16, retry_after: Option<u16>) -> io::Result<Response<Body>> {
    let reason = match code {
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "injected by the proxy", "reason": reason, "code": code,
    });
    let mut answer = Response::builder()
        .status(StatusCode::from_u16(code).map_err(io::Error::other)?)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never: Infallible| match never {}).boxed();
    answer.body(body).map_err(io::Error::other)
}
