//! Messages for problems of a server's certificate: the rest of a sentence that begins with whose certificate it is. The
//! command line and the manager share them.

use rustls::CertificateError;

const UNVERIFIED: &str = "cannot be verified: make a new one with current tools";
const ALGORITHM: &str = "is signed by an algorithm that TLS here does not take: use RSA from 2048 bits, ECDSA P-256 or P-384, \
                         or Ed25519, with SHA-256 or better";

/// The rest of a sentence about a certificate that TLS rejects.
pub fn fault(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::BadEncoding => "is not X.509, or damaged: make a new one",
        CertificateError::Revoked => "was revoked: make a new one",
        CertificateError::UnhandledCriticalExtension => {
            "has a critical extension that TLS here does not know: make one without it"
        }
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            "may be revoked: the list of its authority is missing or out of date"
        }
        #[expect(deprecated, reason = "the library still makes it of some errors")]
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => ALGORITHM,
        CertificateError::InvalidOcspResponse => "comes with an OCSP response that is not valid",
        CertificateError::Other(other) => other.0.downcast_ref().map_or(UNVERIFIED, of_path),
        _ => UNVERIFIED,
    }
}

/// Problems that webpki names and rustls does not.
fn of_path(problem: &webpki::Error) -> &'static str {
    match problem {
        webpki::Error::CaUsedAsEndEntity => {
            "is that of an authority: make one for the server, signed by it, or a self-signed one without CA:TRUE"
        }
        webpki::Error::EndEntityUsedAsCa => {
            "was signed with a certificate that is none of an authority: sign it with one that has CA:TRUE"
        }
        webpki::Error::UnsupportedCertVersion => "is X.509 of version 1: make one of version 3",
        webpki::Error::NameConstraintViolation => {
            "is for names that its authority may not sign (name constraints): sign it by another authority"
        }
        webpki::Error::PathLenConstraintViolated => {
            "has more intermediate certificates than its authority allows (path length)"
        }
        webpki::Error::MaximumPathBuildCallsExceeded
        | webpki::Error::MaximumPathDepthExceeded
        | webpki::Error::MaximumSignatureChecksExceeded
        | webpki::Error::MaximumNameConstraintComparisonsExceeded => {
            "comes with a chain too long or too tangled to check: send the certificate and its intermediates alone"
        }
        webpki::Error::EmptyEkuExtension => "has an extended key usage without a use: add serverAuth",
        webpki::Error::UnsupportedCriticalExtension => {
            "has a critical extension that TLS here does not know: make one without it"
        }
        webpki::Error::SignatureAlgorithmMismatch
        | webpki::Error::InvalidSerialNumber
        | webpki::Error::ExtensionValueInvalid
        | webpki::Error::MalformedExtensions
        | webpki::Error::MalformedDnsIdentifier
        | webpki::Error::MalformedNameConstraint
        | webpki::Error::InvalidNetworkMaskConstraint => "is malformed: make a new one with current tools",
        _ => UNVERIFIED,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[test]
    fn messages_do_not_contain_names_of_library_errors() {
        let of = |error: webpki::Error| fault(&CertificateError::Other(OtherError(Arc::new(error))));
        assert!(
            of(webpki::Error::CaUsedAsEndEntity)
                .starts_with("is that of an authority: make one for the server")
        );
        assert!(of(webpki::Error::UnsupportedCertVersion).contains("version 1"));
        assert!(of(webpki::Error::NameConstraintViolation).contains("may not sign"));
        assert!(of(webpki::Error::MaximumPathDepthExceeded).contains("chain"));
        assert_eq!(of(webpki::Error::UnsupportedDeltaCrl), UNVERIFIED);
        assert_eq!(fault(&CertificateError::ApplicationVerificationFailure), UNVERIFIED);
        let context = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![1],
            supported_algorithms: vec![],
        };
        assert_eq!(fault(&context), ALGORITHM);
    }
}
