//! TLS for the gRPC server: reloaded certificates, required client certificates, and the identity of peers.
//!
//! - [`ServerTls`] has the server's certificates and trusted authorities, and reloads the files.
//! - [`incoming`] turns a listener into a stream of ready connections for tonic.
//! - [`Lifetime`] bounds the lifetime of a connection.
//! - [`roles_of`] returns the roles of a peer, by its certificate.
//! - [`client_config`] is for connections from this process, and [`PeerTls`] for those to other replicas, which must have a
//!   replica's certificate.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use url::{Host, Url};

use super::files;

pub use check::{
    Checked, check_authorities, check_certificates, check_client_authorities, check_identity, check_key,
    check_revocations,
};
pub use identity::{ConnectInfo, PeerIdentity, Role, Roles, roles_of, roles_of_certificate};
pub use incoming::{Connection, incoming};
pub use lifetime::{Age, End, Lifetime, jittered};
pub use peer::PeerTls;
pub use pem::{Pem, client};
pub use server::ServerTls;

mod check;
mod identity;
mod incoming;
mod lifetime;
mod peer;
mod pem;
mod revocations;
mod server;
#[cfg(test)]
mod tests;

/// Why TLS cannot be set up. Messages name files, never their content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing or not readable.
    #[error("failed to read {}: {}", path.display(), files::why(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        error: std::io::Error,
    },
    /// The file is empty.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// Binary (DER), or another kind of file.
    #[error(
        "{} is not PEM, it has no line `-----BEGIN …`; convert a DER file with `openssl {tool} -inform der -in {} -out FILE`",
        path.display(), path.display()
    )]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The openssl command that converts it.
        tool: &'static str,
    },
    /// A section is truncated, or is not base64.
    #[error("{} is damaged: {rule}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The rule that it breaks. The library's own error quotes lines, which can hold a key.
        rule: &'static str,
    },
    /// The file has PEM of something else.
    #[error("{} holds no {wanted}, but {found}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// Expected content.
        wanted: &'static str,
        /// Actual content.
        found: &'static str,
    },
    /// The key is encrypted.
    #[error(
        "the key {} is encrypted, and spaceport does not ask for passwords; decrypt it with `openssl pkey -in {} -out FILE`",
        .0.display(), .0.display()
    )]
    Encrypted(PathBuf),
    /// The client authority's certificates cannot be used.
    #[error("{} cannot be used as an authority for client certificates", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: rustls::server::VerifierBuilderError,
    },
    /// No certificate can be an authority.
    #[error("{} holds no certificate that can be an authority", .0.display())]
    Authority(PathBuf),
    /// One of the client authorities is not an authority.
    #[error("{} holds a certificate that cannot be an authority: it is not X.509, or damaged", .0.display())]
    OneAuthority(PathBuf),
    /// The key belongs to another certificate.
    #[error(
        "the certificate {} and the key {} do not belong together: the key is of another certificate, and the first \
         certificate of the file must be the one of the key",
        crt.display(), key.display()
    )]
    Mismatch {
        /// The certificate's file.
        crt: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// PEM of a certificate that does not parse.
    #[error("{} holds a certificate that is not X.509, or damaged", .0.display())]
    Certificate(PathBuf),
    /// A key of another kind or size.
    #[error(
        "the key {} cannot be used: TLS here takes RSA from 2048 bits, ECDSA P-256 or P-384, and Ed25519",
        .0.display()
    )]
    Key(PathBuf),
    /// The library rejects the certificate or the key.
    #[error("the certificate {} and the key {} cannot be used", crt.display(), key.display())]
    Identity {
        /// The certificate's file.
        crt: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Cause.
        source: rustls::Error,
    },
    /// The library rejects the configuration.
    #[error("failed to set up TLS")]
    Setup(#[from] rustls::Error),
    /// Reading timed out because a file system hangs.
    #[error("reading the certificate files took longer than {0:?}")]
    Timeout(std::time::Duration),
}

/// A certificate chain with its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain, leaf first.
    pub crt: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Files of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// Authority of client certificates. If set, they are required.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of client certificates.
    pub client_crl: Option<PathBuf>,
    /// The server's certificate.
    pub identity: IdentityFiles,
}

/// Files of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientFiles {
    /// Authority of the server's certificate.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub identity: Option<IdentityFiles>,
}

/// Transport of connections to other servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Plaintext, if configured.
    Plaintext,
    /// With these files.
    Tls(ClientFiles),
}

/// Whether an address is on this machine: plaintext is allowed only there.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// TLS configuration of a tonic channel. `domain` replaces the name in the address for the check of the certificate.
///
/// Reads the files; call it again after a rotation.
pub fn client_config(files: &ClientFiles, domain: Option<&str>) -> Result<ClientTlsConfig, Error> {
    let mut config = ClientTlsConfig::new().timeout(std::time::Duration::from_secs(10));
    if let Some(ca) = &files.ca {
        config = config.ca_certificate(Certificate::from_pem(read(ca)?));
    }
    if let Some(identity) = &files.identity {
        config = config.identity(Identity::from_pem(read(&identity.crt)?, read(&identity.key)?));
    }
    if let Some(domain) = domain {
        config = config.domain_name(domain);
    }
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    files::read(path, files::LARGEST).map_err(|error| Error::Read { path: path.to_owned(), error })
}
