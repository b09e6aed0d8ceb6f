//! Lifetime of a connection: bounded by a maximum age, by the expiry of the client's certificate, and by the trust in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Interval of checks, so that a change of the system clock is noticed.
const LOOK: Duration = Duration::from_mins(1);

/// Maximum age of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Since its handshake, with a jitter of 10 %, so that connections made together do not end together.
    pub most: Duration,
    /// Grace period from GOAWAY to closing.
    pub grace: Duration,
}

/// Why a connection ends before its client closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It reached its maximum age.
    Age,
    /// Its client's certificate has expired.
    Expired,
    /// Its client's certificate is no longer trusted: the authority changed, or it was revoked.
    Distrusted,
}

impl End {
    /// Whether the client lost its authorization, so that further requests on the connection are rejected.
    pub const fn is_for_cause(self) -> bool {
        !matches!(self, Self::Age)
    }

    /// Reason in the message to the client.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Age => "this connection has reached its greatest age: connect again",
            Self::Expired => "the client certificate of this connection has expired: connect with a new one",
            Self::Distrusted => {
                "the client certificate of this connection is not trusted any more: connect with another"
            }
        }
    }
}

/// The lifetime of one connection. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Lifetime(Arc<Life>);

#[derive(Debug, Default)]
struct Life {
    /// Earliest expiry in the client's chain.
    not_after: Option<SystemTime>,
    end: OnceLock<End>,
    ending: CancellationToken,
}

impl Lifetime {
    /// The lifetime of a connection with this client chain.
    pub fn of(chain: &[CertificateDer<'_>]) -> Self {
        let end = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        Self::until(chain.iter().filter_map(end).min())
    }

    fn until(not_after: Option<SystemTime>) -> Self {
        Self(Arc::new(Life { not_after, ..Life::default() }))
    }

    /// Why it ends; `None` before that.
    pub fn end(&self) -> Option<End> {
        if self.0.not_after.is_some_and(|end| SystemTime::now() >= end) {
            self.finish(End::Expired);
        }
        self.0.end.get().copied()
    }

    /// Announces the end; the first reason counts.
    pub fn finish(&self, end: End) {
        let _ = self.0.end.set(end);
        self.0.ending.cancel();
    }

    /// Cancelled when the end is announced.
    pub fn ending(&self) -> CancellationToken {
        self.0.ending.clone()
    }

    /// Waits until the end by age or certificate is due, and announces it.
    pub async fn run(&self, most: Duration) {
        let born = tokio::time::Instant::now();
        loop {
            let left = most.saturating_sub(born.elapsed());
            if left.is_zero() {
                self.finish(End::Age);
            }
            if self.end().is_some() {
                return;
            }
            let valid = self.0.not_after.map_or(LOOK, |end| {
                end.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_millis(1)
            });
            let pause = tokio::time::sleep(left.min(valid).min(LOOK));
            self.0.ending.run_until_cancelled(pause).await;
        }
    }
}

/// Random jitter of 10 %.
pub fn jittered(most: Duration) -> Duration {
    let (chance, _) = uuid::Uuid::new_v4().as_u64_pair();
    let per_mille = 900 + u32::try_from(chance % 201).unwrap_or(100);
    most / 1000 * per_mille
}

/// Open connections with client certificates, which are verified again when the trust changes.
#[derive(Debug, Default)]
pub struct Open {
    connections: Mutex<HashMap<u64, Proven>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Proven {
    chain: Vec<CertificateDer<'static>>,
    lifetime: Lifetime,
}

impl Open {
    /// Adds a connection until the result is dropped.
    pub fn add(self: &Arc<Self>, chain: &[CertificateDer<'_>], lifetime: &Lifetime) -> Registered {
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections.lock().insert(id, Proven { chain, lifetime: lifetime.clone() });
        Registered { open: Arc::clone(self), id }
    }

    /// Ends the connections whose chains the verifier rejects; returns their number.
    pub fn judge(&self, verifier: &dyn ClientCertVerifier) -> usize {
        let all: Vec<_> = {
            let connections = self.connections.lock();
            connections.values().map(|proven| (proven.chain.clone(), proven.lifetime.clone())).collect()
        };
        let refused = all.iter().filter(|(chain, _)| !is_trusted(verifier, chain));
        refused.map(|(_, lifetime)| lifetime.finish(End::Distrusted)).count()
    }
}

/// Whether a verifier accepts the chain now.
pub fn is_trusted(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>]) -> bool {
    let Some((leaf, rest)) = chain.split_first() else { return false };
    verifier.verify_client_cert(leaf, rest, UnixTime::now()).is_ok()
}

/// An entry of the open connections, removed when dropped.
#[derive(Debug)]
pub struct Registered {
    open: Arc<Open>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.open.connections.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_at_its_maximum_age() {
        let lifetime = Lifetime::default();
        let began = tokio::time::Instant::now();
        lifetime.run(HOUR).await;
        let age = began.elapsed();
        assert!(age >= HOUR && age < HOUR + Duration::from_secs(1), "{age:?}");
        assert_eq!(lifetime.end(), Some(End::Age));
        assert!(lifetime.ending().is_cancelled() && !End::Age.is_for_cause());
    }

    #[tokio::test]
    async fn a_connection_ends_when_its_certificate_expires_and_serves_no_further_requests() {
        let lifetime = Lifetime::until(Some(SystemTime::now() + Duration::from_millis(50)));
        assert_eq!(lifetime.end(), None);
        lifetime.run(HOUR).await;
        assert_eq!(lifetime.end(), Some(End::Expired));
        let over = Lifetime::until(Some(SystemTime::UNIX_EPOCH));
        assert_eq!(over.end(), Some(End::Expired), "even where nobody waits for it");
        assert!(End::Expired.is_for_cause());
    }

    #[tokio::test]
    async fn a_connection_ends_when_its_certificate_is_no_longer_trusted() {
        let lifetime = Lifetime::default();
        let waiting = lifetime.clone();
        let waiting = tokio::spawn(async move { waiting.run(HOUR).await });
        lifetime.finish(End::Distrusted);
        waiting.await.unwrap();
        lifetime.finish(End::Age);
        assert_eq!(lifetime.end(), Some(End::Distrusted), "the first reason counts");
    }

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        for _ in 0..100 {
            let age = jittered(HOUR);
            assert!(age >= HOUR * 9 / 10 && age <= HOUR * 11 / 10, "{age:?}");
        }
    }
}
