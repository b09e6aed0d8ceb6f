//! The server's certificates, and following them while they are renewed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ring::digest;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Error, IdentityFiles, ServerFiles, read};

/// How often files are looked at. Certificates are renewed days before they expire, so this is quick enough, and unlike
/// file events it also works for mounted secrets, which change by swapping a symbolic link.
const POLL: Duration = Duration::from_secs(5);
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// What the server proves itself with, always the last good state of the files.
#[derive(Debug)]
pub struct ServerTls {
    files: ServerFiles,
    current: ArcSwap<ServerConfig>,
    /// Of the content that was last tried, good or bad, so that a bad file is reported once.
    fingerprint: Mutex<Fingerprint>,
}

impl ServerTls {
    /// Reads the files for the first time.
    pub fn load(files: ServerFiles) -> Result<Self, Error> {
        let content = Content::read(&files)?;
        let config = content.config(&files)?;
        let fingerprint = Mutex::new(content.fingerprint());
        Ok(Self { files, current: ArcSwap::from_pointee(config), fingerprint })
    }

    /// What new connections use.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Whether clients must prove themselves.
    pub fn requires_client_certificates(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// Looks at the files; says whether something new is in force. On an error the last good state stays.
    pub fn reload(&self) -> Result<bool, Error> {
        let content = Content::read(&self.files)?;
        let fingerprint = content.fingerprint();
        if std::mem::replace(&mut *self.fingerprint.lock(), fingerprint) == fingerprint {
            return Ok(false);
        }
        self.current.store(Arc::new(content.config(&self.files)?));
        Ok(true)
    }

    /// Follows the files until cancelled. Connections that exist keep what they started with.
    pub async fn follow(
        self: Arc<Self>,
        shutdown: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        let mut last_error = None;
        loop {
            let pause = tokio::time::sleep(POLL);
            if shutdown.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
            let this = Arc::clone(&self);
            let reading = tokio::task::spawn_blocking(move || this.reload());
            let outcome = match tokio::time::timeout(READ_DEADLINE, reading).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => continue, // The runtime is going down.
                Err(_) => Err(Error::Timeout(READ_DEADLINE)),
            };
            match outcome {
                Ok(true) => {
                    info!(crt = %self.files.identity.crt.display(), "new certificate files are in force");
                }
                Ok(false) => {}
                Err(error) => {
                    let text = describe(&error);
                    // A missing file is seen at each look: say it once.
                    if last_error.as_ref() != Some(&text) {
                        warn!(error = %text, "new certificate files are of no use; the last good ones stay");
                    }
                    last_error = Some(text);
                    continue;
                }
            }
            last_error = None;
        }
    }
}

fn describe(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

struct Content {
    client_ca: Option<Vec<u8>>,
    crt: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    fn read(files: &ServerFiles) -> Result<Self, Error> {
        Ok(Self {
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
            crt: read(&files.identity.crt)?,
            key: read(&files.identity.key)?,
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [self.client_ca.as_deref().unwrap_or_default(), &self.crt, &self.key] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    fn config(&self, files: &ServerFiles) -> Result<ServerConfig, Error> {
        let IdentityFiles { crt, key } = &files.identity;
        // Named, so that nothing depends on which provider the process installed.
        let provider = Arc::new(provider::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                builder.with_client_cert_verifier(client_verifier(path, pem, provider)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(certificates(crt, &self.crt)?, private_key(key, &self.key)?)
            .map_err(|source| Error::Identity { crt: crt.clone(), key: key.clone(), source })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn client_verifier(
    path: &Path,
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|source| Error::ClientCa { path: path.to_owned(), source })
}

fn certificates(path: &Path, mut pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = rustls_pemfile::certs(&mut pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem { path: path.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(Error::Missing { path: path.to_owned(), what: "certificate" });
    }
    Ok(certificates)
}

fn private_key(path: &Path, mut pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    rustls_pemfile::private_key(&mut pem)
        .map_err(|source| Error::Pem { path: path.to_owned(), source })?
        .ok_or_else(|| Error::Missing { path: path.to_owned(), what: "private key" })
}
