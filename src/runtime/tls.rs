//! TLS for the gRPC address: certificates that reload, client certificates that are required, and who a peer is.
//!
//! - [`ServerTls`] holds what the server proves itself with, and follows the files while running.
//! - [`incoming`] turns a listener into a stream of ready connections for tonic.
//! - [`roles_of`] says what a peer may be, from its certificate.
//! - [`client_config`] is the other side, for connections that this process makes.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

pub use identity::{ConnectInfo, PeerIdentity, Role, Roles, roles_of};
pub use incoming::{Connection, incoming};
pub use server::ServerTls;

mod identity;
mod incoming;
mod server;
#[cfg(test)]
mod tests;

/// Why TLS cannot be set up. Messages name files, never what is in them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing or not ours to read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not PEM.
    #[error("{} is not valid PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The file is PEM, but what is needed is not in it.
    #[error("{} holds no {what}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The client authority's certificates are of no use.
    #[error("{} is of no use as an authority for client certificates", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::server::VerifierBuilderError,
    },
    /// Certificate and key are of no use together.
    #[error("the certificate {} and the key {} are of no use together", crt.display(), key.display())]
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
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}
