//! Parses certificates and keys in PEM, with a message for each problem. The manager and the command line share it, and read the
//! files themselves.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Error;

/// A file that was read.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// Path for messages.
    pub path: &'a Path,
    /// Content, which may be a key.
    pub content: &'a [u8],
}

/// TLS configuration of an HTTP/2 client. Without authorities no server is trusted.
pub fn client(
    authorities: Option<Pem<'_>>,
    identity: Option<(Pem<'_>, Pem<'_>)>,
) -> Result<ClientConfig, Error> {
    let roots = authorities.map_or_else(|| Ok(RootCertStore::empty()), roots)?;
    // Explicit, so that it does not depend on the provider that the process installed.
    let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((crt, key)) => builder
            .with_client_auth_cert(certificates(crt)?, private_key(key)?)
            .map_err(|source| unfit(crt.path, key.path, source))?,
    };
    // A resumed session would not verify the certificates again.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Authorities of servers: at least one certificate is valid.
pub(super) fn roots(file: Pem<'_>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates(file)?) {
        (0, _) => Err(Error::Authority(file.path.to_owned())),
        _ => Ok(roots),
    }
}

/// A chain of certificates, at least one.
pub(super) fn certificates(file: Pem<'_>) -> Result<Vec<CertificateDer<'static>>, Error> {
    expect_pem(file, "x509")?;
    let certificates = CertificateDer::pem_slice_iter(file.content).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| damaged(file.path, &error))?;
    if certificates.is_empty() {
        let found = if holds(file.content, "PRIVATE KEY-----") {
            "a private key: were certificate and key swapped?"
        } else {
            OTHER
        };
        return Err(Error::Other { path: file.path.to_owned(), wanted: "certificate", found });
    }
    Ok(certificates)
}

/// The first private key.
pub(super) fn private_key(file: Pem<'_>) -> Result<PrivateKeyDer<'static>, Error> {
    expect_pem(file, "pkey")?;
    // PKCS #8, and the older form of openssl.
    if ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| holds(file.content, mark))
    {
        return Err(Error::Encrypted(file.path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(file.content).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let found = if holds(file.content, "-----BEGIN CERTIFICATE-----") {
                "a certificate: were certificate and key swapped?"
            } else {
                OTHER
            };
            Error::Other { path: file.path.to_owned(), wanted: "private key", found }
        }
        error => damaged(file.path, &error),
    })
}

pub(super) const OTHER: &str = "other PEM sections";

/// Fails if a file is not PEM; `tool` is the openssl command that converts it.
pub(super) fn expect_pem(file: Pem<'_>, tool: &'static str) -> Result<(), Error> {
    let path = file.path.to_owned();
    if file.content.trim_ascii().is_empty() {
        Err(Error::Empty(path))
    } else if holds(file.content, "-----BEGIN ") {
        Ok(())
    } else {
        Err(Error::NotPem { path, tool })
    }
}

fn holds(content: &[u8], text: &str) -> bool {
    content.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Error of PEM, without quoting it: a line may contain a key.
pub(super) fn damaged(path: &Path, error: &pem::Error) -> Error {
    let rule = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    };
    Error::Damaged { path: path.to_owned(), rule }
}

/// Error of a certificate and a key that are valid PEM.
pub(super) fn unfit(crt: &Path, key: &Path, source: rustls::Error) -> Error {
    let (crt, key) = (crt.to_owned(), key.to_owned());
    match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Error::Mismatch { crt, key },
        rustls::Error::InvalidCertificate(_) => Error::Certificate(crt),
        // The provider's error for an unsupported key.
        rustls::Error::General(_) => Error::Key(key),
        source => Error::Identity { crt, key, source },
    }
}

/// Why peers will reject a chain that is expired or not yet valid; the rest of a sentence about its file.
pub(super) fn untimely(chain: &[CertificateDer<'_>], now: Timestamp) -> Option<String> {
    let moment = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    chain.iter().find_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let (from, to) = (moment(validity.not_before.timestamp()), moment(validity.not_after.timestamp()));
        if now > to {
            Some(format!("holds a certificate that expired at {to}: clients refuse it; renew it"))
        } else if now < from {
            Some(format!("holds a certificate that is not valid before {from}: compare the clocks"))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate with its key, self-signed.
    fn signed() -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (leaf.self_signed(&key).unwrap().pem(), key)
    }

    fn refused(name: &str, crt: &[u8], key: &[u8]) -> String {
        let pem = |content| Pem { path: Path::new(name), content };
        client(None, Some((pem(crt), pem(key)))).unwrap_err().to_string()
    }

    #[test]
    fn every_invalid_content_has_its_own_message_that_quotes_nothing() {
        let ((cert, key), (other, _)) = (signed(), signed());
        let (good, der, pem) = (cert.as_bytes(), key.serialize_der(), key.serialize_pem());
        let good_key = pem.as_bytes();
        let in_file = |content| Pem { path: Path::new("a"), content };
        assert!(client(Some(in_file(good)), Some((in_file(good), in_file(good_key)))).is_ok());
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let traditional = format!(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\n{body}\n-----END RSA PRIVATE KEY-----\n"
        );
        let encrypted = pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let (cut, wrong) = (&pem[..pem.len() / 2], pem.replace(&body[..8], "????????"));
        let unusable = pem.replace(&body[..8], "AAAAAAAA");
        let bad_keys: [(&str, &[u8], &str); 8] = [
            ("empty", b"\n", "empty is empty"),
            ("der", &der, "der is not PEM, it has no line `-----BEGIN …`"),
            ("pkcs8", encrypted.as_bytes(), "is encrypted"),
            ("traditional", traditional.as_bytes(), "is encrypted"),
            ("swapped", good, "holds no private key, but a certificate: were certificate and key swapped?"),
            ("cut", cut.as_bytes(), "cut is damaged: a section has no END line"),
            ("text", wrong.as_bytes(), "text is damaged: a section is not base64"),
            ("kind", unusable.as_bytes(), "the key kind cannot be used: TLS here takes RSA from 2048 bits"),
        ];
        for (name, key, expected) in bad_keys {
            let text = refused(name, good, key);
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains(&body[16..32]), "{text}");
        }
        assert!(refused("a", good_key, good_key).contains("holds no certificate, but a private key"));
        assert!(
            refused("a", other.as_bytes(), good_key)
                .contains("do not belong together: the key is of another")
        );
    }

    #[test]
    fn an_expired_or_not_yet_valid_chain_is_reported() {
        let mut params = CertificateParams::new(vec![]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
        let chain = [params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()];
        let at = |time: &str| untimely(&chain, time.parse().unwrap()).unwrap_or_default();
        assert!(at("2020-02-02T00:00:00Z").contains("expired at 2020-02-01T00:00:00Z"));
        assert!(at("2019-01-01T00:00:00Z").contains("not valid before 2020-01-01T00:00:00Z"));
        assert_eq!(at("2020-01-15T00:00:00Z"), "");
    }
}
