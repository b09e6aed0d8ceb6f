//! Connections to other replicas, for forwarding writes to the leader.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, ServiceExt, service_fn};
use url::{Host, Url};

use super::error_trim;
use federation::workspaces::snapshots;
use runtime::files;
use runtime::tls::{PeerTls, Transport, is_loopback};

/// Largest message of existing clients.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// Timeout of connecting to the leader.
const CONNECT: Duration = Duration::from_secs(2);
/// Cancelled calls whose responses may still arrive.
const CANCELLED: usize = 4096;
/// Frames of such late responses, over the life of a connection.
const LATE_FRAMES: usize = 65_536;
/// Header with a call's deadline.
const TIMEOUT: &str = "grpc-timeout";
/// Time for a whole request to arrive.
const ARRIVAL: Duration = Duration::from_mins(1);
/// Timeout of a forwarded call whose caller sets no deadline: as long as the leader may wait for another call about the
/// same cluster, plus its own work.
const CALL: Duration = Duration::from_mins(2);

/// Connections by address.
#[derive(Debug)]
pub struct Peers {
    transport: Option<Transport>,
    channels: Mutex<HashMap<String, Channel>>,
}

/// Why a call got no response.
#[derive(Debug)]
pub enum Failed {
    /// Nothing was sent, and why: the call may be retried.
    Unsent(Box<Held>, String),
    /// The call may have been served.
    Ambiguous(String),
    /// This address can never be used; nothing was sent.
    Unusable(String),
}

/// Why there is no connection.
enum Unconnected {
    /// The address can never be used.
    Unusable(String),
    /// May succeed later.
    Later(String),
}

/// When the caller's deadline passes, counted from now; `None` if it sets none.
pub fn due(headers: &HeaderMap) -> Option<Instant> {
    deadline(headers).and_then(|within| Instant::now().checked_add(within))
}

pub fn remaining(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now())
}

/// A buffered unary request, which can be sent more than once.
#[derive(Debug)]
pub struct Held {
    parts: http::request::Parts,
    body: Bytes,
    header: &'static str,
    /// When the caller's deadline passes.
    due: Option<Instant>,
}

impl Held {
    /// Buffers a request and marks it as forwarded. Its deadline counts from now.
    pub async fn of(
        request: Request<Body>,
        roles: HeaderValue,
        header: &'static str,
    ) -> Result<Self, Status> {
        let (mut parts, body) = request.into_parts();
        let due = due(&parts.headers);
        parts.headers.insert(header, roles);
        // The message, and the five bytes before it.
        let body = Limited::new(body, MESSAGE_MAX + 5).collect();
        let late = |_| Status::deadline_exceeded(format!("the request did not arrive within {ARRIVAL:?}"));
        let body = timeout(ARRIVAL, body).await.map_err(late)?;
        let body = body.map_err(|error| Status::resource_exhausted(error.to_string()))?.to_bytes();
        Ok(Self { parts, body, header, due })
    }

    /// What remains of the caller's time, if it sets a deadline.
    fn remaining(&self) -> Option<Duration> {
        self.due.map(remaining)
    }

    /// How long to wait for the response.
    fn limit(&self) -> Duration {
        // The response comes at the end of an upload.
        let is_snapshot = self.parts.uri.path() == "/wsman.WorkspaceManager/TakeSnapshot";
        self.remaining().unwrap_or(if is_snapshot { snapshots::LONGEST } else { CALL })
    }

    /// The request to send now: waiting for a leader has used a part of the caller's time.
    fn request(&self) -> Request<Body> {
        let mut parts = self.parts.clone();
        if let Some(remaining) = self.remaining() {
            parts.headers.insert(TIMEOUT, timeout_header(remaining));
        }
        Request::from_parts(parts, Body::new(Full::new(self.body.clone())))
    }

    /// The original request, to serve it here.
    pub fn into_own(mut self) -> Request<Body> {
        self.parts.headers.remove(self.header);
        Request::from_parts(self.parts, Body::new(Full::new(self.body)))
    }
}

impl Peers {
    /// `transport`: how other replicas are connected to; `None` if there is no authority to verify them by.
    pub fn new(transport: Option<Transport>) -> Self {
        Self { transport, channels: Mutex::default() }
    }

    /// Sends a request to the replica at `address`.
    pub async fn send(&self, address: &str, held: Held) -> Result<Response<Body>, Failed> {
        let mut channel = match self.channel(address).await {
            Ok(channel) => channel,
            Err(Unconnected::Unusable(reason)) => return Err(Failed::Unusable(reason)),
            Err(Unconnected::Later(reason)) => return Err(Failed::Unsent(Box::new(held), reason)),
        };
        let limit = held.limit();
        let call = async {
            match timeout(CONNECT, channel.ready()).await {
                Ok(Ok(channel)) => Ok(channel.call(held.request()).await),
                Ok(Err(error)) => Err(root_cause(&error)),
                Err(_) => Err(format!("no connection within {CONNECT:?}")),
            }
        };
        match timeout(limit, call).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(error))) if is_connect(&error) => {
                self.forget(address);
                Err(Failed::Unsent(Box::new(held), root_cause(&error)))
            }
            Ok(Ok(Err(error))) => {
                self.forget(address);
                Err(Failed::Ambiguous(error.to_string()))
            }
            Ok(Err(reason)) => {
                self.forget(address);
                Err(Failed::Unsent(Box::new(held), reason))
            }
            Err(_) => Err(Failed::Ambiguous(format!("no answer within {limit:?}"))),
        }
    }

    async fn channel(&self, address: &str) -> Result<Channel, Unconnected> {
        if let Some(channel) = self.channels.lock().get(address) {
            return Ok(channel.clone());
        }
        let (host, port) = self.checked(address).map_err(Unconnected::Unusable)?;
        let unusable = |error: &dyn std::fmt::Display| {
            Unconnected::Unusable(format!("{address} cannot be used: {error}"))
        };
        // The connector encrypts; tonic's own TLS knows no roles and rejects plain addresses.
        let plain = format!("http://{}:{port}", authority(&host));
        let endpoint = Endpoint::from_shared(plain)
            .map_err(|error| unusable(&error))?
            .tcp_nodelay(true)
            .http2_max_header_list_size(error_trim::READ_MAX)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5));
        let endpoint = lasting(endpoint);
        let channel = match &self.transport {
            Some(Transport::Tls(files)) => {
                let files = files.clone();
                let late = |error: io::Error| Unconnected::Later(format!("federation.peerTls: {error}"));
                let tls = files::apart(move || PeerTls::load(&files)).await.map_err(late)?;
                let tls = tls.map_err(|error| unusable(&error))?;
                let origin = Uri::try_from(address).map_err(|error| unusable(&error))?;
                let connect = move |_: Uri| {
                    let (tls, host) = (tls.clone(), host.clone());
                    // Not the timeout of the endpoint: its error does not say that nothing was sent.
                    async move {
                        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
                        tokio::time::timeout(CONNECT, tls.connect(host, port)).await.map_err(late)?
                    }
                };
                endpoint.origin(origin).connect_with_connector_lazy(service_fn(connect))
            }
            _ => endpoint.connect_timeout(CONNECT).connect_lazy(),
        };
        let mut channels = self.channels.lock();
        // Only the leader is called: one address at a time.
        channels.retain(|other, _| other == address);
        Ok(channels.entry(address.to_owned()).or_insert(channel).clone())
    }

    /// Host and port to connect to. The address comes from etcd, so it must not decide whether to encrypt.
    fn checked(&self, address: &str) -> Result<(String, u16), String> {
        let url = Url::parse(address).map_err(|error| format!("{address:?} is no address: {error}"))?;
        match &self.transport {
            None => {
                return Err("federation.peerTls.ca is needed to forward calls to other managers".to_owned());
            }
            Some(Transport::Tls(_)) if url.scheme() != "https" => {
                return Err(format!("{address} is not https, and this replica has TLS configured"));
            }
            Some(Transport::Plaintext) if url.scheme() != "http" || !is_loopback(&url) => {
                return Err(format!(
                    "{address} is not http on loopback, and this replica has no TLS configured"
                ));
            }
            Some(_) => {}
        }
        let host = match url.host() {
            Some(Host::Ipv6(ip)) => ip.to_string(),
            Some(host) => host.to_string(),
            None => return Err(format!("{address} has no host")),
        };
        let port = url.port_or_known_default().ok_or_else(|| format!("{address} has no port"))?;
        Ok((host, port))
    }

    /// Closes the connection: the next call reconnects, with the certificates that the files then hold.
    fn forget(&self, address: &str) {
        self.channels.lock().remove(address);
    }
}

/// A host as a URL has it.
fn authority(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The innermost cause, which is the most specific.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Raises the reset limits, so that many cancelled calls with late responses do not end a shared connection.
pub fn lasting(endpoint: Endpoint) -> Endpoint {
    endpoint.http2_max_concurrent_reset_streams(CANCELLED).http2_max_local_error_reset_streams(LATE_FRAMES)
}

/// Whether connecting failed.
pub fn is_connect(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        if inner.downcast_ref::<tonic::ConnectError>().is_some() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// A duration as header `grpc-timeout`: at most eight digits.
fn timeout_header(time: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let (number, unit) = match (time.as_micros(), time.as_millis()) {
        (micros, _) if micros <= MOST => (micros, 'u'),
        (_, millis) if millis <= MOST => (millis, 'm'),
        _ => (u128::from(time.as_secs()).min(MOST), 'S'),
    };
    HeaderValue::from_str(&format!("{number}{unit}")).unwrap_or(HeaderValue::from_static("0u"))
}

/// The caller's deadline, from the header `grpc-timeout`.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::tls::ClientFiles;

    #[test]
    fn an_address_from_etcd_never_decides_that_a_call_goes_unencrypted() {
        let tls = Peers::new(Some(Transport::Tls(ClientFiles::default())));
        let plaintext = Peers::new(Some(Transport::Plaintext));
        for bad in ["http://10.0.0.1:8080", "http://127.0.0.1:8080", "ftp://a", "10.0.0.1:8080", ""] {
            assert!(tls.checked(bad).is_err(), "{bad}");
        }
        for bad in ["http://10.0.0.1:8080", "https://127.0.0.1:8080", "http://localhost.example.com:1"] {
            assert!(plaintext.checked(bad).is_err(), "{bad}");
        }
        let at = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(tls.checked("https://manager-0"), at("manager-0", 443));
        assert_eq!(tls.checked("https://manager-0:80"), at("manager-0", 80));
        assert_eq!(tls.checked("https://[::1]:8080"), at("::1", 8080));
        assert_eq!(plaintext.checked("http://127.0.0.1:8080"), at("127.0.0.1", 8080));
        let without = Peers::new(None).checked("https://manager-0:8080").unwrap_err();
        assert!(without.contains("federation.peerTls.ca"), "{without}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waited_is_passed_on_with_what_remains_of_its_time() {
        let held = async |timeout: Option<&str>| {
            let mut request = Request::new(Body::empty());
            if let Some(timeout) = timeout {
                request.headers_mut().insert(TIMEOUT, timeout.parse().unwrap());
            }
            Held::of(request, HeaderValue::from_static("client"), "x-roles").await.unwrap()
        };
        let left = |held: &Held| deadline(held.request().headers());
        let (with, without) = (held(Some("15S")).await, held(None).await);
        tokio::time::advance(Duration::from_secs(12)).await;
        assert_eq!((left(&with), left(&without)), (Some(Duration::from_secs(3)), None));
        tokio::time::advance(Duration::from_secs(12)).await;
        assert_eq!(left(&with), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_passed_on_snapshot_is_waited_for_until_its_upload_must_be_over_and_no_longer_than_its_caller_waits()
     {
        let limit = async |method: &str, timeout: Option<&str>| {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = format!("/wsman.WorkspaceManager/{method}").parse().unwrap();
            if let Some(timeout) = timeout {
                request.headers_mut().insert(TIMEOUT, timeout.parse().unwrap());
            }
            Held::of(request, HeaderValue::from_static("client"), "x-roles").await.unwrap().limit()
        };
        assert!(limit("TakeSnapshot", None).await > Duration::from_hours(1));
        assert_eq!(limit("TakeSnapshot", Some("15S")).await, Duration::from_secs(15));
        assert_eq!(limit("StopWorkspace", None).await, CALL);
    }

    #[test]
    fn a_time_is_written_in_eight_digits_as_precisely_as_that_allows() {
        for (time, text) in [
            (Duration::from_micros(1500), "1500u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_hours(30), "108000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(timeout_header(time).to_str().unwrap(), text);
        }
    }

    #[test]
    fn a_callers_deadline_is_read_in_every_unit_and_nonsense_is_none() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            deadline(&headers)
        };
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1H"), Some(Duration::from_hours(1)));
        assert_eq!(read("150m"), Some(Duration::from_millis(150)));
        for bad in ["", "S", "x", "1", "-1S", "1é"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
