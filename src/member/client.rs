//! The client of one member cluster, with its own connections, limiter and deadlines.
//!
//! Layers from outside to inside: limiter, deadline, outcome (health), identity, authentication, connection.

mod cap;
mod credentials;
mod failure;
mod fault;
mod identity;
mod layer;
mod limiter;
mod limits;
mod link;
mod meter;
mod signals;
mod trust;
mod turn;

use std::sync::Arc;

pub use credentials::Credentials;
pub use fault::Fault;
pub use identity::{FENCE_EXTRA, FENCE_USER, Identity};
pub use layer::Lasting;
pub(crate) use layer::Probe;
pub use limits::Limits;
pub use link::Link;
pub use meter::{CallMeter, CallMeters, Kind};
pub use signals::Signals;
pub use turn::{Waited, until, within};

use domain::names::ClusterName;

use crate::error::Result;

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
