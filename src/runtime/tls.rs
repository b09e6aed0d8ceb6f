//! TLS for the gRPC address: certificates that reload, client certificates that are required, and who a peer is.
//!
//! - [`ServerTls`] holds what the server proves itself with, and follows the files while running.
//! - [`incoming`] turns a listener into a stream of ready connections for tonic.
//! - [`Lifetime`] says how long a connection goes on.
//! - [`roles_of`] says what a peer may be, from its certificate.
//! - [`client_config`] is the other side, for connections that this process makes, and [`PeerTls`] for those to other
//!   replicas, which must prove that they are replicas.

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

/// Why TLS cannot be set up. Messages name files, never what is in them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing or not ours to read.
    #[error("failed to read {}: {}", path.display(), files::why(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Nothing in it.
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
        /// The command of openssl that converts it.
        tool: &'static str,
    },
    /// A section that ends too early, or is not base64.
    #[error("{} is damaged: {rule}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The rule that it breaks. The library's own error quotes lines, which can hold a key.
        rule: &'static str,
    },
    /// PEM of something else.
    #[error("{} holds no {wanted}, but {found}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What it holds instead.
        found: &'static str,
    },
    /// A password would be needed.
    #[error(
        "the key {} is encrypted, and spaceport asks for no password; decrypt it with `openssl pkey -in {} -out FILE`",
        .0.display(), .0.display()
    )]
    Encrypted(PathBuf),
    /// The client authority's certificates cannot be used.
    #[error("{} cannot be used as an authority for client certificates", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::server::VerifierBuilderError,
    },
    /// No certificate is one that others can be checked by.
    #[error("{} holds no certificate that can be an authority", .0.display())]
    Authority(PathBuf),
    /// One of the authorities that clients are checked by is none.
    #[error("{} holds a certificate that cannot be an authority: it is not X.509, or damaged", .0.display())]
    OneAuthority(PathBuf),
    /// The key is of another certificate.
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
    /// PEM of a certificate that is none.
    #[error("{} holds a certificate that is not X.509, or damaged", .0.display())]
    Certificate(PathBuf),
    /// A key of another kind or size.
    #[error(
        "the key {} cannot be used: TLS here takes RSA from 2048 bits, ECDSA P-256 or P-384, and Ed25519",
        .0.display()
    )]
    Key(PathBuf),
    /// The library refuses the certificate or the key.
    #[error("the certificate {} and the key {} cannot be used", crt.display(), key.display())]
    Identity {
        /// The certificate's file.
        crt: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The library refuses the set-up as a whole.
    #[error("failed to set up TLS")]
    Setup(#[from] rustls::Error),
    /// Reading took too long: a file system that hangs.
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

/// What a server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The authority that client certificates must come from. With it they are required.
    pub client_ca: Option<PathBuf>,
    /// Lists of client certificates that are revoked.
    pub client_crl: Option<PathBuf>,
    /// What the server proves itself with.
    pub identity: IdentityFiles,
}

/// What a client needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientFiles {
    /// The authority that the server's certificate must come from.
    pub ca: Option<PathBuf>,
    /// What the client proves itself with.
    pub identity: Option<IdentityFiles>,
}

/// How connections to others are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Asked for in the configuration.
    Plaintext,
    /// With these files.
    Tls(ClientFiles),
}

/// Whether an address is on this machine: plaintext goes no further.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// The TLS side of a tonic channel. `domain` replaces the name in the address when the certificate is checked.
///
/// Reads files now; call it again to follow a rotation.
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
