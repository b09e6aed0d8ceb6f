//! TLS to other replicas: checks the name in the certificate and its organization `spaceport:replica`.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::identity::{PeerIdentity, REPLICA_ORGANIZATION};
use super::pem::{Pem, client};
use super::{ClientFiles, Error, IdentityFiles, read};

/// TLS configuration for connections to other replicas.
#[derive(Debug, Clone)]
pub struct PeerTls(Arc<rustls::ClientConfig>);

impl PeerTls {
    /// Reads the files; call it again after a rotation.
    pub fn load(files: &ClientFiles) -> Result<Self, Error> {
        let ca = files.ca.as_deref().map(|path| Ok::<_, Error>((path, read(path)?))).transpose()?;
        let ca = ca.as_ref().map(|(path, content)| Pem { path, content });
        let Some(IdentityFiles { crt, key }) = &files.identity else {
            return Ok(Self(Arc::new(client(ca, None)?)));
        };
        let (chain, private) = (read(crt)?, read(key)?);
        let identity = (Pem { path: crt, content: &chain }, Pem { path: key, content: &private });
        Ok(Self(Arc::new(client(ca, Some(identity))?)))
    }

    /// Connects to a replica, whose certificate must be for the host and of organization `spaceport:replica`.
    pub async fn connect(&self, host: String, port: u16) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let name = ServerName::try_from(host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = leaf.and_then(|certificate| PeerIdentity::from_certificate(certificate));
        if !peer.is_some_and(|peer| peer.belongs_to(REPLICA_ORGANIZATION)) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "its certificate is not of organization spaceport:replica",
            ));
        }
        Ok(TokioIo::new(stream))
    }
}
