//! Identity and roles of a peer.

use std::net::SocketAddr;

use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

use super::Lifetime;

/// Maximum bytes of all names of a certificate: they are forwarded to other replicas in a header.
const LONGEST: usize = 4096;

/// The connection of a request, in its extensions.
#[derive(Debug, Clone)]
pub struct ConnectInfo {
    /// Address of the client; `None` if the socket was already closed.
    pub remote_addr: Option<SocketAddr>,
    /// Whether the connection is TLS.
    pub encrypted: bool,
    /// Identity of the client, by its verified certificate.
    pub peer: Option<PeerIdentity>,
    /// Lifetime of the connection.
    pub lifetime: Lifetime,
}

/// The names in a verified client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerIdentity {
    /// The first common name; empty if it has none.
    pub common_name: String,
    /// Every organization.
    pub organizations: Vec<String>,
    /// Alternative names: DNS names, URIs and mail addresses.
    pub names: Vec<String>,
}

impl PeerIdentity {
    /// Parses the names of a certificate, which the handshake has verified.
    ///
    /// `None` if a name does not parse, or all names have more than 4 KiB: rules about them could not be applied, so the
    /// certificate is not accepted.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let common_name = subject.iter_common_name().next().map_or(Some(String::new()), text)?;
        let organizations = subject.iter_organization().map(text).collect::<Option<Vec<_>>>()?;
        let mut names = Vec::new();
        if let Some(alternative) = certificate.subject_alternative_name().ok()? {
            for name in &alternative.value.general_names {
                match name {
                    GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                        names.push((*name).to_owned());
                    }
                    _ => {}
                }
            }
        }
        let all = [&common_name].into_iter().chain(&organizations).chain(&names);
        (all.map(String::len).sum::<usize>() <= LONGEST).then_some(Self { common_name, organizations, names })
    }

    /// Whether the certificate names the organization.
    pub fn belongs_to(&self, organization: &str) -> bool {
        self.organizations.iter().any(|name| name == organization)
    }
}

/// A name of a subject, in the encodings that authorities use.
fn text(name: &AttributeTypeAndValue<'_>) -> Option<String> {
    let bytes = name.as_slice();
    match name.attr_value().tag() {
        Tag::BmpString => {
            let units = bytes.chunks(2).map(|pair| match pair {
                [high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            String::from_utf16(&units.collect::<Option<Vec<_>>>()?).ok()
        }
        // In practice Latin-1, which has the code points of Unicode.
        Tag::T61String => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        _ => name.as_str().ok().map(str::to_owned),
    }
}

/// A role of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Uses workspaces.
    Client,
    /// Manages clusters.
    Admin,
    /// Another replica of this installation, which forwards requests.
    Replica,
}

/// The roles of one peer. Admins and replicas are also clients.
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
pub(super) const REPLICA_ORGANIZATION: &str = "spaceport:replica";

/// The roles of a peer.
///
/// | connection | roles |
/// |---|---|
/// | TLS with a certificate of organization `spaceport:admin` | client, admin |
/// | TLS with a certificate of organization `spaceport:replica` | client, replica |
/// | TLS with any other verified certificate | client |
/// | TLS without a certificate (only where no client CA is configured) | client |
/// | plaintext from loopback | all |
/// | plaintext from elsewhere | none |
///
/// `rpcServer.clients` may restrict who is a client (`api::caller`).
pub fn roles_of(info: &ConnectInfo) -> Roles {
    if !info.encrypted {
        // A process on this machine could also read the keys of the manager.
        let local = info.remote_addr.is_some_and(|addr| addr.ip().to_canonical().is_loopback());
        return Roles { client: local, admin: local, replica: local };
    }
    info.peer.as_ref().map_or(Roles { client: true, ..Roles::default() }, roles_of_certificate)
}

/// The roles of the holder of a certificate.
pub fn roles_of_certificate(identity: &PeerIdentity) -> Roles {
    Roles {
        client: true,
        admin: identity.belongs_to(ADMIN_ORGANIZATION),
        replica: identity.belongs_to(REPLICA_ORGANIZATION),
    }
}
