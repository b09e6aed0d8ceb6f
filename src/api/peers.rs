//! Connections to other replicas, for passing writes on to the leader.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, ServiceExt};

use crate::runtime::tls::{self, ClientFiles};

/// What existing clients may send at most.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// How long a connection to the leader may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a passed-on call may take where the caller gives no deadline.
const CALL: Duration = Duration::from_mins(1);

/// Connections by address.
#[derive(Debug)]
pub struct Peers {
    tls: Option<ClientFiles>,
    channels: Mutex<HashMap<String, Channel>>,
}

/// Why a call did not get an answer.
#[derive(Debug)]
pub enum Failed {
    /// Nothing was sent: it may be tried again.
    Unsent(Box<Held>),
    /// It may have been served.
    Ambiguous(String),
}

/// A unary request whose body was read, so that it can be sent more than once.
#[derive(Debug)]
pub struct Held {
    parts: http::request::Parts,
    body: Bytes,
    header: &'static str,
}

impl Held {
    /// Reads a request whole and marks it as passed on.
    pub async fn of(
        request: Request<Body>,
        roles: Result<HeaderValue, InvalidHeaderValue>,
        header: &'static str,
    ) -> Result<Self, Status> {
        let (mut parts, body) = request.into_parts();
        let roles = roles.map_err(|_| Status::internal("the caller's roles cannot be passed on"))?;
        parts.headers.insert(header, roles);
        // The message, and the five bytes before it.
        let body = Limited::new(body, MESSAGE_MAX + 5).collect().await;
        let body = body.map_err(|error| Status::resource_exhausted(error.to_string()))?.to_bytes();
        Ok(Self { parts, body, header })
    }

    fn request(&self) -> Request<Body> {
        Request::from_parts(self.parts.clone(), Body::new(Full::new(self.body.clone())))
    }

    /// The request as it came, for serving it here.
    pub fn into_own(mut self) -> Request<Body> {
        self.parts.headers.remove(self.header);
        Request::from_parts(self.parts, Body::new(Full::new(self.body)))
    }
}

impl Peers {
    /// `tls`: identity and authority towards other replicas; absent: plaintext.
    pub fn new(tls: Option<ClientFiles>) -> Self {
        Self { tls, channels: Mutex::default() }
    }

    /// Sends a request to the replica at `address`.
    pub async fn send(&self, address: &str, held: Held) -> Result<Response<Body>, Failed> {
        let channel = match self.channel(address) {
            Ok(channel) => channel,
            Err(reason) => return Err(Failed::Ambiguous(reason)),
        };
        let mut channel = channel;
        let limit = deadline(&held.parts.headers).unwrap_or(CALL);
        let call = async {
            match tokio::time::timeout(CONNECT, channel.ready()).await {
                Ok(Ok(channel)) => Ok(channel.call(held.request()).await),
                Ok(Err(_)) | Err(_) => Err(()),
            }
        };
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(error))) if is_connect(&error) => {
                self.forget(address);
                Err(Failed::Unsent(Box::new(held)))
            }
            Ok(Ok(Err(error))) => {
                self.forget(address);
                Err(Failed::Ambiguous(error.to_string()))
            }
            Ok(Err(())) => {
                self.forget(address);
                Err(Failed::Unsent(Box::new(held)))
            }
            Err(_) => Err(Failed::Ambiguous(format!("no answer within {limit:?}"))),
        }
    }

    fn channel(&self, address: &str) -> Result<Channel, String> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        // Only leaders are called: one address now and then, never many.
        channels.clear();
        let mut endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(|error| format!("{address} is no address: {error}"))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5));
        if let Some(files) = &self.tls {
            let config = tls::client_config(files, None).map_err(|error| error.to_string())?;
            endpoint = endpoint.tls_config(config).map_err(|error| error.to_string())?;
        }
        let channel = endpoint.connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// The next call connects anew, with the certificates that the files hold by then.
    fn forget(&self, address: &str) {
        self.channels.lock().remove(address);
    }
}

/// Whether the connection never came about.
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

/// The caller's deadline, from the header `grpc-timeout`.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
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
