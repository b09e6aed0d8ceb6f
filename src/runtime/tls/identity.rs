//! Who a peer is, and what it may be.

use std::net::SocketAddr;

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What handlers find in a request's extensions about the connection it came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectInfo {
    /// The other end; none when the socket was gone already.
    pub remote_addr: Option<SocketAddr>,
    /// Whether the connection is TLS.
    pub encrypted: bool,
    /// Who the client proved to be.
    pub peer: Option<PeerIdentity>,
}

/// The subject of a verified client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PeerIdentity {
    /// The first common name; empty where it has none.
    pub common_name: String,
    /// Every organization.
    pub organizations: Vec<String>,
}

impl PeerIdentity {
    /// Reads the subject of a certificate. Verifying it is the handshake's part.
    ///
    /// `None` when it does not parse: then it proves nothing.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let common_name = subject.iter_common_name().find_map(|name| name.as_str().ok()).unwrap_or_default();
        let organizations =
            subject.iter_organization().filter_map(|name| name.as_str().ok().map(str::to_owned));
        Some(Self { common_name: common_name.to_owned(), organizations: organizations.collect() })
    }
}

/// What a peer may act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Uses workspaces.
    Client,
    /// Manages clusters.
    Admin,
    /// Another manager of this installation, which passes requests on.
    Replica,
}

/// The roles of one peer. Who is anything else is a client too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles {
    client: bool,
    admin: bool,
    replica: bool,
}

impl Roles {
    /// Whether the peer may act as `role`.
    pub const fn contains(self, role: Role) -> bool {
        match role {
            Role::Client => self.client,
            Role::Admin => self.admin,
            Role::Replica => self.replica,
        }
    }
}

const ADMIN_ORGANIZATION: &str = "spaceport:admin";
const REPLICA_ORGANIZATION: &str = "spaceport:replica";

/// What a peer may be.
///
/// | connection | roles |
/// |---|---|
/// | TLS with a certificate of organization `spaceport:admin` | client, admin |
/// | TLS with a certificate of organization `spaceport:replica` | client, replica |
/// | TLS with any other verified certificate | client |
/// | TLS without a certificate (only where no client CA is configured) | client |
/// | plaintext from loopback | all |
/// | plaintext from elsewhere | none |
pub fn roles_of(info: &ConnectInfo) -> Roles {
    if !info.encrypted {
        // Whoever is on this machine could read our keys as well.
        let local = info.remote_addr.is_some_and(|addr| addr.ip().to_canonical().is_loopback());
        return Roles { client: local, admin: local, replica: local };
    }
    let belongs_to = |organization: &str| {
        info.peer.as_ref().is_some_and(|peer| peer.organizations.iter().any(|name| name == organization))
    };
    Roles { client: true, admin: belongs_to(ADMIN_ORGANIZATION), replica: belongs_to(REPLICA_ORGANIZATION) }
}
