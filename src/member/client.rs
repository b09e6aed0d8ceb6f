//! The client of one member cluster, with its own connections, limiter and deadlines.
//!
//! Layers from outside to inside: limiter, deadline, outcome (health), identity, authentication, connection.

mod cap;
mod credentials;
mod failure;
mod layer;
mod limiter;
mod link;
mod meter;
mod trust;
mod turn;

use std::sync::Arc;
use std::time::Duration;

pub use credentials::Credentials;
pub(crate) use layer::Probe;
pub use layer::{FENCE_EXTRA, FENCE_USER, Fault, Identity, Lasting};
pub use link::Link;
pub use meter::{CallMeter, CallMeters, Kind};
pub use turn::{Waited, until, within};

use domain::names::ClusterName;

use crate::error::Result;

/// Told of every call, answered or not. Called from the request path: implementations must not block.
pub trait Signals: Send + Sync {
    /// The apiserver answered something, or a watch received data.
    fn answered(&self);
    /// A call failed; `reason` is one short sentence.
    fn missed(&self, reason: &str);
    /// Where calls are counted.
    fn meter(&self) -> Option<&CallMeter> {
        None
    }
}

/// What one cluster may cost, and how long it is waited for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// From the call to the last byte of the answer; watches only to the answer's head.
    pub request_timeout: Duration,
    /// To open a connection.
    pub connect_timeout: Duration,
    /// Calls a second in the long run.
    pub qps: u32,
    /// Calls at once after a quiet time.
    pub burst: u32,
    /// Calls in flight, watches not counted once they run.
    pub in_flight: usize,
    /// Silence after which a watch goes on over a new connection. An apiserver sends a bookmark about every minute, save
    /// for kinds that nothing happened to since it was started.
    pub watch_silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            qps: 400,
            burst: 800,
            in_flight: 256,
            watch_silence: Duration::from_secs(100),
        }
    }
}

/// Makes a cluster's client. No connection is opened yet.
pub fn connect(
    cluster: &ClusterName,
    credentials: &Credentials,
    limits: &Limits,
    identity: Identity,
    signals: Arc<dyn Signals>,
) -> Result<kube::Client> {
    Ok(Clients::new(Link::new(cluster, credentials, limits)?, limits, signals).under(identity))
}

/// Makes clients of one cluster that share connections and limits, and differ in identity.
#[derive(Clone)]
pub struct Clients(layer::Guarded<Link>);

impl Clients {
    /// Over a link that the caller keeps, to replace its credentials later.
    pub fn new(link: Link, limits: &Limits, signals: Arc<dyn Signals>) -> Self {
        Self(layer::Guarded::new(link, limits, signals))
    }

    /// A client whose calls all go out under `identity`. Must be called within a Tokio runtime: a client has a task of
    /// its own, which ends with it.
    pub fn under(&self, identity: Identity) -> kube::Client {
        kube::Client::new(self.0.clone().identified(identity), "default")
    }
}
