//! The client of one member cluster: own connections, own limiter, own deadlines, so that nothing is shared with others.
//!
//! The layers from outside to inside: limiter, deadline, outcome (health), fence, authentication, connection.

mod credentials;
mod layer;
mod limiter;
mod link;

use std::sync::Arc;
use std::time::Duration;

pub use credentials::Credentials;
pub(in crate::cluster) use layer::READYZ;
pub use layer::{Epoch, Fault, Fence};
pub use link::Link;

use crate::domain::names::ClusterName;

use super::error::Result;

/// Told of every call, answered or not. Called from the request path: implementations must not block.
pub trait Signals: Send + Sync {
    /// The apiserver answered something, or a watch received data.
    fn answered(&self);
    /// A call failed; `reason` is one short sentence.
    fn missed(&self, reason: &str);
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
    fence: Fence,
    signals: Arc<dyn Signals>,
) -> Result<kube::Client> {
    Ok(client(Link::new(cluster, credentials, limits)?, limits, fence, signals))
}

/// A client over a link that the caller keeps, to replace its credentials later.
pub fn client(link: Link, limits: &Limits, fence: Fence, signals: Arc<dyn Signals>) -> kube::Client {
    kube::Client::new(layer::Guarded::new(link, limits, fence, signals), "default")
}
