//! The server's certificates and trusted authorities, which are reloaded when their files change.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use ring::digest;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::identity::REPLICA_ORGANIZATION;
use super::lifetime::{Open, Registered, is_trusted};
use super::pem::{self, Pem};
use super::revocations::{self, Revocations};
use crate::files::READ_WITHIN;

use super::{Error, IdentityFiles, Lifetime, PeerIdentity, ServerFiles, read};

/// Polling interval of the files. Certificates are renewed days before they expire, so this is sufficient, and unlike file
/// events it also works for mounted Secrets, which change by swapping a symbolic link.
const POLL: Duration = Duration::from_secs(5);

/// The server's certificates and trusted authorities: the last valid state of the files.
#[derive(Debug)]
pub struct ServerTls {
    files: ServerFiles,
    current: ArcSwap<Current>,
    open: Arc<Open>,
    /// Fingerprint of the last content, valid or not, so that an invalid file is reported once.
    fingerprint: Mutex<Fingerprint>,
}

/// The current state.
#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Earliest next update of the revocation lists.
    crl_due: Option<SystemTime>,
    /// Whether an overdue list was reported.
    reported: AtomicBool,
}

/// Result of a handshake.
#[derive(Debug)]
pub struct Proof {
    /// Identity of the client; `None` if clients need no certificate.
    pub peer: Option<PeerIdentity>,
    /// Lifetime of the connection.
    pub lifetime: Lifetime,
    /// Entry of the connection, to be kept as long as it.
    pub registered: Option<Registered>,
}

impl Proof {
    /// Without a client certificate.
    pub fn none() -> Self {
        Self { peer: None, lifetime: Lifetime::default(), registered: None }
    }
}

impl ServerTls {
    /// Reads the files.
    pub fn load(files: ServerFiles) -> Result<Self, Error> {
        let content = Content::read(&files)?;
        let current = ArcSwap::from_pointee(content.current(&files)?);
        let fingerprint = Mutex::new(content.fingerprint());
        Ok(Self { files, current, open: Arc::default(), fingerprint })
    }

    /// Configuration for new connections.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// Whether client certificates are required.
    pub fn requires_client_certificates(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// Completes a handshake.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Proof)> {
        let used = self.current.load_full();
        let stream = TlsAcceptor::from(Arc::clone(&used.config)).accept(stream).await?;
        let Some(chain) = stream.get_ref().1.peer_certificates().filter(|chain| !chain.is_empty()) else {
            return Ok((stream, Proof::none()));
        };
        let unreadable = || io::Error::other("the names in the client certificate cannot be read");
        let peer = chain.first().and_then(|leaf| PeerIdentity::from_certificate(leaf));
        let peer = peer.ok_or_else(unreadable)?;
        let lifetime = Lifetime::of(chain);
        let registered = self.open.add(chain, &lifetime);
        // The trust may have changed during the handshake, after the open connections were verified again.
        let now = self.current.load_full();
        if !Arc::ptr_eq(&used, &now)
            && !now.verifier.as_ref().is_none_or(|verifier| is_trusted(verifier.as_ref(), chain))
        {
            return Err(io::Error::other("the client certificate is not trusted any more"));
        }
        Ok((stream, Proof { peer: Some(peer), lifetime, registered: Some(registered) }))
    }

    /// Reloads changed files; returns whether they changed. On an error the previous state is kept. Connections whose clients are
    /// no longer trusted end.
    pub fn reload(&self) -> Result<bool, Error> {
        let content = Content::read(&self.files)?;
        let fingerprint = content.fingerprint();
        if std::mem::replace(&mut *self.fingerprint.lock(), fingerprint) == fingerprint {
            return Ok(false);
        }
        let current = Arc::new(content.current(&self.files)?);
        self.current.store(Arc::clone(&current));
        if let Some(verifier) = &current.verifier {
            let ended = self.open.judge(verifier.as_ref());
            if ended > 0 {
                warn!(
                    connections = ended,
                    "client certificates are no longer trusted; closing their connections"
                );
            }
        }
        Ok(true)
    }

    /// Reports a revocation list past its next update, once.
    fn report_overdue(&self) {
        let current = self.current.load();
        if current.crl_due.is_some_and(|due| SystemTime::now() > due)
            && !current.reported.swap(true, Ordering::Relaxed)
        {
            warn!(
                "a revocation list of rpcServer.tls.crl is past its next update; what it revokes stays revoked, \
                 later revocations are not known"
            );
        }
    }

    /// Polls the files until cancelled.
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
            self.report_overdue();
            let this = Arc::clone(&self);
            let mut reading = tokio::task::spawn_blocking(move || this.reload());
            let mut read = tokio::time::timeout(READ_WITHIN, &mut reading).await;
            if read.is_err() {
                warn!(error = %Error::Timeout(READ_WITHIN), "keeping the previous certificate files");
                // No second thread reads meanwhile: it would hang as well.
                let Some(late) = shutdown.run_until_cancelled(reading).await else { return Ok(()) };
                read = Ok(late);
            }
            let Ok(Ok(outcome)) = read else { continue }; // The runtime is going down.
            match outcome {
                Ok(true) => {
                    info!(crt = %self.files.identity.crt.display(), "certificate files reloaded");
                }
                Ok(false) => {}
                Err(error) => {
                    let text = describe(&error);
                    // A missing file is found at each poll: report it once.
                    if last_error.as_ref() != Some(&text) {
                        warn!(error = %text, "new certificate files cannot be used; keeping the previous ones");
                    }
                    last_error = Some(text);
                    continue;
                }
            }
            last_error = None;
        }
    }
}

/// An error with its cause.
pub(super) fn describe(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

struct Content {
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
    crt: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    fn read(files: &ServerFiles) -> Result<Self, Error> {
        Ok(Self {
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
            client_crl: files.client_crl.as_deref().map(read).transpose()?,
            crt: read(&files.identity.crt)?,
            key: read(&files.identity.key)?,
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        let trusted = [&self.client_ca, &self.client_crl].map(|part| part.as_deref().unwrap_or_default());
        for part in trusted.into_iter().chain([&*self.crt, &*self.key]) {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    fn current(&self, files: &ServerFiles) -> Result<Current, Error> {
        let IdentityFiles { crt, key } = &files.identity;
        // Explicit, so that it does not depend on the provider that the process installed.
        let provider = Arc::new(provider::default_provider());
        let lists = match (&files.client_crl, &self.client_crl) {
            (Some(path), Some(content)) => revocations::read(Pem { path, content })?,
            _ => Revocations::default(),
        };
        let crl_due = lists.due;
        let verifier = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(content)) => {
                Some(client_verifier(Pem { path, content }, lists, Arc::clone(&provider))?)
            }
            _ => None,
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let (crt, key) = (Pem { path: crt, content: &self.crt }, Pem { path: key, content: &self.key });
        let chain = pem::certificates(crt)?;
        if let Some(problem) = pem::untimely(&chain, Timestamp::now()) {
            warn!("{} {problem}", crt.path.display());
        }
        if verifier.is_some() && !is_replica(&chain) {
            warn!(
                crt = %crt.path.display(),
                "the certificate is not of organization spaceport:replica: no other replica will forward calls to this one"
            );
        }
        let mut config = builder
            .with_single_cert(chain, pem::private_key(key)?)
            .map_err(|source| pem::unfit(crt.path, key.path, source))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not verify the client again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Current { config: Arc::new(config), verifier, crl_due, reported: AtomicBool::new(false) })
    }
}

fn is_replica(chain: &[CertificateDer<'_>]) -> bool {
    let leaf = chain.first().and_then(|leaf| PeerIdentity::from_certificate(leaf));
    leaf.is_some_and(|identity| identity.belongs_to(REPLICA_ORGANIZATION))
}

/// Accepts certificates whose issuer has no list: a list of one authority must not lock out the clients of others.
pub(super) fn client_verifier(
    file: Pem<'_>,
    lists: Revocations,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let roots = authorities(file)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !lists.lists.is_empty() {
        builder = builder.with_crls(lists.lists).allow_unknown_revocation_status();
    }
    builder.build().map_err(|source| Error::ClientCa { path: file.path.to_owned(), source })
}

/// All certificates of a file as authorities.
fn authorities(file: Pem<'_>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(file)? {
        roots.add(certificate).map_err(|_| Error::OneAuthority(file.path.to_owned()))?;
    }
    Ok(roots)
}
