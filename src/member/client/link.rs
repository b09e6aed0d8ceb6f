//! Connections to one apiserver. Login and address can be replaced while calls run.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use tower::Service;

use super::credentials::Credentials;
use super::fault::Fault;
use super::limits::Limits;
use super::trust::{Explained, Trust};
use crate::error::{Error, Result, chain};
use domain::names::ClusterName;

type Http = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Body>;

/// A connection nobody uses is closed after this, well before load balancers forget it.
const IDLE: Duration = Duration::from_secs(30);
/// What was sent and not acknowledged for so long breaks the connection: a half-open one costs one call.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// The connections to one apiserver. Clones share them.
#[derive(Clone)]
pub struct Link {
    cluster: ClusterName,
    connect_timeout: Duration,
    transport: Arc<ArcSwap<Transport>>,
}

struct Transport {
    http: Http,
    base: Uri,
    authorization: Option<HeaderValue>,
    trust: Trust,
}

impl Link {
    /// Prepares connections; none is opened yet.
    pub fn new(cluster: &ClusterName, credentials: &Credentials, limits: &Limits) -> Result<Self> {
        let transport = transport(cluster, credentials, limits.connect_timeout)?;
        Ok(Self {
            cluster: cluster.clone(),
            connect_timeout: limits.connect_timeout,
            transport: Arc::new(ArcSwap::from_pointee(transport)),
        })
    }

    /// Makes calls from now on use another login or address. Calls and watches under way end as they began.
    pub fn replace(&self, credentials: &Credentials) -> Result<()> {
        let transport = transport(&self.cluster, credentials, self.connect_timeout)?;
        self.transport.store(Arc::new(transport));
        Ok(())
    }
}

fn transport(cluster: &ClusterName, credentials: &Credentials, connect: Duration) -> Result<Transport> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    connector.set_keepalive(Some(Duration::from_secs(10)));
    connector.set_keepalive_interval(Some(Duration::from_secs(5)));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let connector =
        credentials.config().rustls_https_connector_with_connector(connector).map_err(|error| {
            Error::Kubeconfig {
                cluster: cluster.clone(),
                field: "(certificates and key)".to_owned(),
                rule: format!("cannot be used: {}", chain(&error)),
            }
        })?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(64)
        .build(connector);
    Ok(Transport {
        http,
        base: credentials.base().clone(),
        authorization: credentials.authorization().cloned(),
        trust: credentials.trust(),
    })
}

impl Service<Request<Body>> for Link {
    type Response = Response<Incoming>;
    type Error = Fault;
    type Future = BoxFuture<'static, Result<Self::Response, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let transport = self.transport.load();
        if let Err(error) = address(request.uri_mut(), &transport.base) {
            return Box::pin(std::future::ready(Err(Fault::Connect(error.to_string()))));
        }
        if let Some(authorization) = &transport.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let (answer, trust) = (transport.http.request(request), transport.trust);
        Box::pin(async move {
            answer.await.map_err(|error| {
                match (trust.explain(&error), error.is_connect()) {
                    (Some(Explained::Untrusted(text)), true) => Fault::Untrusted(text),
                    (Some(explained), true) => Fault::Connect(explained.into_text()),
                    (None, true) => Fault::Connect(chain(&error)),
                    // A client certificate is refused after the handshake.
                    (Some(explained), false) => Fault::Broken(explained.into_text()),
                    (None, false) => Fault::Broken(chain(&error)),
                }
            })
        })
    }
}

/// Puts the apiserver's address before a request's path.
fn address(uri: &mut Uri, base: &Uri) -> Result<(), http::Error> {
    let asked = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = format!("{}{asked}", base.path().trim_end_matches('/'));
    let mut builder = Uri::builder().path_and_query(path);
    if let (Some(scheme), Some(authority)) = (base.scheme(), base.authority()) {
        builder = builder.scheme(scheme.clone()).authority(authority.clone());
    }
    *uri = builder.build()?;
    Ok(())
}
