//! Admin HTTP server: `/livez`, `/readyz`, `/metrics` and `/log-level`.
//!
//! | path | response |
//! |---|---|
//! | `GET /livez`, `GET /healthz` | 200 while the process can respond at all |
//! | `GET /readyz` | the [`Report`](super::readiness::Report) as JSON; 200 when ready, otherwise 503 |
//! | `GET /metrics` | Prometheus text |
//! | `GET /log-level`, `PUT /log-level` | reads or replaces the log filter; from loopback only |
//!
//! Ports are bound before anything is spawned, so that a taken port fails the start.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connections::{Caps, Closed, ConnectionMeters, Origin, ServerKind, Slot, Slots, Yields};
use super::readiness::Readiness;
use super::telemetry::LogFilter;

#[cfg(test)]
mod tests;

/// For the headers of a request.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// For a request, including a slowly sent body.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Scrapers reuse connections; a client that never reads must not hold one forever.
const CONNECTION_DEADLINE: Duration = Duration::from_mins(10);
/// Connections of each listener. A new connection always gets a slot: the oldest connection of the busiest address is closed, so
/// that probes are answered whatever clients hold open.
const CAPS: Caps = Caps { total: 128, per_address: 32 };
/// Bytes of a new log filter.
const MAX_BODY: usize = 4 * 1024;

/// Why the admin HTTP server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is in use or not of this machine.
    #[error("failed to listen on {address} for admin HTTP")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// State behind the paths.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Behind `/readyz`.
    pub readiness: Readiness,
    /// Behind `/metrics`.
    pub registry: Registry,
    /// Behind `/log-level`.
    pub log_filter: LogFilter,
    /// Counts connections.
    pub meters: ConnectionMeters,
}

/// Bound listeners with their handlers.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(TcpListener, Router)>,
    meters: ConnectionMeters,
}

impl Admin {
    /// Binds `health` and, when given, `prometheus`; one listener when they are equal.
    pub async fn bind(self, health: SocketAddr, prometheus: Option<SocketAddr>) -> Result<Server, Error> {
        let health_paths = Self::health_paths(&self);
        let metrics_paths = Router::new().route("/metrics", get(metrics)).with_state(self.registry);
        let listeners = match prometheus {
            Some(address) if address == health => {
                vec![listen(health, health_paths.merge(metrics_paths)).await?]
            }
            Some(address) => vec![listen(health, health_paths).await?, listen(address, metrics_paths).await?],
            None => vec![listen(health, health_paths).await?],
        };
        Ok(Server { listeners, meters: self.meters })
    }

    fn health_paths(&self) -> Router {
        let log_level = Router::new()
            .route("/log-level", get(log_level).put(set_log_level))
            .with_state(self.log_filter.clone());
        Router::new()
            .route("/livez", get(alive))
            .route("/healthz", get(alive))
            .route("/readyz", get(ready).with_state(self.readiness.clone()))
            .merge(log_level)
    }
}

async fn listen(address: SocketAddr, paths: Router) -> Result<(TcpListener, Router), Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
    Ok((listener, paths))
}

impl Server {
    /// The bound addresses: health first, then metrics if it has its own.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect()
    }

    /// Serves until cancelled. Cancel it last: probes use it during the shutdown.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        info!(addresses = ?self.addresses(), "admin HTTP is listening");
        let meters = &self.meters;
        let accepting = self.listeners.into_iter().map(|(listener, paths)| accept(listener, paths, meters));
        shutdown.run_until_cancelled_owned(futures::future::join_all(accepting)).await;
        Ok(())
    }
}

async fn accept(listener: TcpListener, paths: Router, meters: &ConnectionMeters) {
    let slots = Slots::new(CAPS, Yields::Oldest);
    // Dropped with this future, which closes the connections.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => match slots.take(Origin::from(peer)) {
                Ok(slot) => {
                    connections.spawn(serve_connection(stream, peer, paths.clone(), slot, meters.clone()));
                }
                Err(full) => meters.closed(ServerKind::Admin, full.into()),
            },
            Err(error) => {
                warn!(%error, "failed to accept an admin connection");
                // Usually out of file descriptors: an immediate retry would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    paths: Router,
    slot: Slot,
    meters: ConnectionMeters,
) {
    let _open = meters.opened(ServerKind::Admin);
    let service = TowerToHyperService::new(paths.layer(Extension(ConnectInfo(peer))));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = tokio::time::timeout(CONNECTION_DEADLINE, connection) => match served {
            Ok(Err(error)) => debug!(%peer, %error, "admin connection failed"),
            Err(_) => debug!(%peer, "admin connection reached its deadline"),
            Ok(Ok(())) => {}
        },
        () = slot.displaced().cancelled() => meters.closed(ServerKind::Admin, Closed::Displaced),
    }
}

async fn alive() -> &'static str {
    "ok"
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let report = readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_string(&report) {
        Ok(json) => (status, [(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn metrics(State(registry): State<Registry>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn log_level(State(filter): State<LogFilter>) -> Response {
    match filter.current() {
        Ok(current) => current.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// More logs can fill a disk or reveal details, so only clients on this machine may change the filter.
async fn set_log_level(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    State(filter): State<LogFilter>,
    request: axum::extract::Request,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "only from loopback").into_response();
    }
    let body = axum::body::to_bytes(request.into_body(), MAX_BODY);
    let Ok(Ok(body)) = tokio::time::timeout(REQUEST_DEADLINE, body).await else {
        return (StatusCode::BAD_REQUEST, "the body was too long or too slow").into_response();
    };
    match filter.set(&String::from_utf8_lossy(&body)) {
        Ok(()) => {
            info!(filter = %String::from_utf8_lossy(&body).trim(), "log filter changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}
