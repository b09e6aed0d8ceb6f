//! Which caller a call is accounted to.

use http::Request;
use tonic::body::Body;

use crate::access;
use runtime::connections::Origin;
use runtime::tls::{ConnectInfo, Role, roles_of};

/// A caller, by what it cannot choose itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The name in its certificate, whatever its address.
    Named(String),
    /// Address of a caller without a name.
    At(Origin),
    /// Name that a replica sends with a call that it forwards.
    PassedOn(String),
    /// The connection is gone, so nothing is known.
    Unknown,
}

impl Caller {
    /// The caller of a request.
    pub fn of(request: &Request<Body>) -> Self {
        let Some(info) = request.extensions().get::<ConnectInfo>() else { return Self::Unknown };
        if info.encrypted
            && roles_of(info).contains(Role::Replica)
            && let Some(name) = access::passed_on_for(request.headers())
        {
            return Self::PassedOn(name);
        }
        match (&info.peer, info.remote_addr) {
            (Some(peer), _) if !peer.common_name.is_empty() => {
                Self::Named(format!("{} {}", peer.common_name, peer.organizations.join(",")))
            }
            (_, Some(address)) => Self::At(Origin::from(address)),
            _ => Self::Unknown,
        }
    }
}
