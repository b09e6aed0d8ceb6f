//! Parses certificates and keys in PEM; errors name what is there instead.

use jiff::Timestamp;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use super::problem::{Read, problem};

/// The certificates of a PEM text, as DER; at least one.
pub fn certificates(field: &str, pem: &[u8]) -> Read<Vec<Vec<u8>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found.into_iter().map(|der| der.to_vec()).collect()),
        Ok(_) => problem(field, instead_of_certificates(pem)),
        Err(_) => problem(field, "holds PEM that is cut short or damaged"),
    }
}

/// The first private key of a PEM text.
pub fn private_key(field: &str, pem: &[u8]) -> Read<PrivateKeyDer<'static>> {
    let holds = |label: &str| contains(pem, label.as_bytes());
    let encrypted = holds("BEGIN ENCRYPTED PRIVATE KEY") || holds("Proc-Type: 4,ENCRYPTED");
    if encrypted {
        return problem(field, "holds a key that is encrypted with a password: decrypt it first");
    }
    PrivateKeyDer::from_pem_slice(pem).or_else(|_| {
        let rule = if !holds("-----BEGIN") {
            "holds no PEM private key"
        } else if holds("BEGIN OPENSSH PRIVATE KEY") || holds("BEGIN DSA PRIVATE KEY") {
            "holds a private key of a kind that TLS does not take"
        } else if holds("PRIVATE KEY-----") {
            "holds PEM that is cut short or damaged"
        } else if holds("BEGIN CERTIFICATE-----") {
            "holds a certificate and no private key"
        } else {
            "holds no private key of a known kind"
        };
        problem(field, rule)
    })
}

fn instead_of_certificates(pem: &[u8]) -> &'static str {
    let kinds: Vec<SectionKind> =
        <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).filter_map(Result::ok).map(|(kind, _)| kind).collect();
    let is_key = |kind: &SectionKind| {
        matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
    };
    if kinds.iter().any(is_key) || contains(pem, b"PRIVATE KEY-----") {
        "holds a private key and no certificate"
    } else if kinds.contains(&SectionKind::Csr) {
        "holds a certificate request and no certificate"
    } else if contains(pem, b"BEGIN TRUSTED CERTIFICATE") {
        "holds a TRUSTED CERTIFICATE of OpenSSL: write it again with `openssl x509`"
    } else if pem.trim_ascii_start().starts_with(b"LS0tLS1CRUdJ") {
        "is base64 of base64: encode the PEM once"
    } else if X509Certificate::from_der(pem).is_ok() {
        "holds a certificate in DER, and must be PEM: convert it with `openssl x509 -inform der`"
    } else {
        "holds no PEM certificate"
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether a certificate is X.509 version 1, which TLS libraries accept only as a root.
pub fn is_version_1(certificate: &X509Certificate<'_>) -> bool {
    certificate.version() == X509Version::V1
}

/// Latest end of some certificates; `None` if one does not parse.
pub fn last_end(certificates: &[Vec<u8>]) -> Option<Timestamp> {
    let end = |der: &Vec<u8>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
    };
    certificates.iter().map(end).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Whether certificates that should be authorities are server certificates: none is a CA, and none is self-signed.
pub fn are_leaves(authorities: &[Vec<u8>]) -> bool {
    let is_leaf = |der: &Vec<u8>| {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
            // Version 1 has no field for CAs.
            !is_version_1(&certificate)
                && !certificate.is_ca()
                && certificate.issuer().as_raw() != certificate.subject().as_raw()
        })
    };
    !authorities.is_empty() && authorities.iter().all(is_leaf)
}
