//! Explains a failed TLS handshake with an apiserver to whoever made the kubeconfig.

use std::error::Error;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use domain::kubeconfig::pem;
use domain::{causes, certificate, text};

/// Names of a certificate in the message.
const MOST_NAMES: usize = 8;
/// Characters of a name in the message.
const LONGEST_NAME: usize = 80;

/// What an apiserver is checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authority {
    /// This machine's authorities.
    System,
    /// Certificates of authorities.
    Given,
    /// Certificates that are none of an authority.
    Leaves,
}

/// What a failed connection means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Explained {
    /// The apiserver's certificate is not one to trust.
    Untrusted(String),
    /// The other side does not speak TLS, or does not take the client.
    Refused(String),
}

impl Explained {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Untrusted(text) | Self::Refused(text) => text,
        }
    }
}

/// What an apiserver is checked by, and whether it is shown a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trust {
    authority: Authority,
    /// When the last of the given authorities ends.
    authority_end: Option<Timestamp>,
    shows_certificate: bool,
}

impl Trust {
    /// Of the authorities that are given, as DER.
    pub(super) fn of(authority: Option<&[Vec<u8>]>, shows_certificate: bool) -> Self {
        let authority_end = authority.and_then(pem::last_end);
        let authority = match authority {
            None => Authority::System,
            Some(certificates) if pem::are_leaves(certificates) => Authority::Leaves,
            Some(_) => Authority::Given,
        };
        Self { authority, authority_end, shows_certificate }
    }

    /// What a failed connection means; nothing where TLS is not the cause.
    pub(super) fn explain(self, error: &(dyn Error + 'static)) -> Option<Explained> {
        match causes::find::<rustls::Error>(error)? {
            rustls::Error::InvalidCertificate(problem) => Some(Explained::Untrusted(self.untrusted(problem))),
            rustls::Error::AlertReceived(alert) => self.rejected(*alert).map(Explained::Refused),
            rustls::Error::PeerIncompatible(_) => Some(Explained::Refused(NO_COMMON_VERSION.to_owned())),
            rustls::Error::InvalidMessage(_) => {
                let text = "what answers at the address does not speak TLS: the port is of plain HTTP or of something else";
                Some(Explained::Refused(text.to_owned()))
            }
            _ => None,
        }
    }

    fn untrusted(self, problem: &CertificateError) -> String {
        let is_of_authority =
            matches!(problem, CertificateError::UnknownIssuer | CertificateError::BadSignature);
        if let Some(end) = self.authority_end.filter(|end| is_of_authority && *end < Timestamp::now()) {
            return format!(
                "the authority in certificate-authority-data expired at {end}: give the one that the cluster has now"
            );
        }
        match problem {
            CertificateError::Expired => "the apiserver's certificate has expired: renew it there".to_owned(),
            CertificateError::ExpiredContext { time, not_after } => format!(
                "the apiserver's certificate expired at {}: renew it there (this machine's clock says {})",
                moment(*not_after),
                moment(*time)
            ),
            CertificateError::NotValidYet => "the apiserver's certificate is not valid yet".to_owned(),
            CertificateError::NotValidYetContext { time, not_before } => format!(
                "the apiserver's certificate is valid only from {} on (this machine's clock says {})",
                moment(*not_before),
                moment(*time)
            ),
            CertificateError::UnknownIssuer => self.foreign().to_owned(),
            CertificateError::BadSignature => {
                "the apiserver's certificate was signed by another key than that of the authority in \
                 certificate-authority-data: an earlier or a foreign one of the same name"
                    .to_owned()
            }
            CertificateError::NotValidForName => {
                "the apiserver's certificate is for another name: set tls-server-name to its name".to_owned()
            }
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "the apiserver's certificate is for {} and not for {}: set tls-server-name to one of its names",
                names(presented),
                expected.to_str()
            ),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the apiserver's certificate is not for servers (extended key usage)".to_owned()
            }
            other => format!("the apiserver's certificate {}", certificate::fault(other)),
        }
    }

    fn foreign(self) -> &'static str {
        match self.authority {
            Authority::System => {
                "the apiserver's certificate comes from no authority that this machine knows: give certificate-authority-data"
            }
            Authority::Leaves => {
                "certificate-authority-data holds the certificate of a server and not that of its authority: give the \
                 authority's"
            }
            Authority::Given => {
                "the apiserver's certificate comes from another authority than certificate-authority-data holds"
            }
        }
    }

    fn rejected(self, alert: AlertDescription) -> Option<String> {
        let why = match alert {
            AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::InappropriateFallback => return Some(NO_COMMON_VERSION.to_owned()),
            AlertDescription::UnrecognisedName => {
                let text =
                    "the apiserver has no certificate for this name: correct server, or set tls-server-name";
                return Some(text.to_owned());
            }
            AlertDescription::CertificateExpired => "it has expired",
            AlertDescription::UnknownCA => "it comes from an authority that the apiserver does not know",
            AlertDescription::CertificateRevoked => "it is revoked",
            // How rustls and OpenSSL reject a signature of an authority of the same name.
            AlertDescription::DecryptError => "another authority of the same name signed it",
            AlertDescription::UnsupportedCertificate => {
                "it is not one for clients (extended key usage), or of a kind unknown there"
            }
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
                if !self.shows_certificate =>
            {
                return Some(
                    "the apiserver demands a client certificate, and the kubeconfig has none".to_owned(),
                );
            }
            AlertDescription::BadCertificate
            | AlertDescription::NoCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired => "it does not take it",
            _ => return None,
        };
        self.shows_certificate.then(|| format!("the apiserver refuses the client certificate: {why}"))
    }
}

const NO_COMMON_VERSION: &str = "the apiserver has no TLS version or cipher that this manager has";

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

/// The first names; they are the server's words.
fn names(presented: &[String]) -> String {
    let shown = |name: &String| {
        let name = name.strip_prefix("DnsName(\"").and_then(|name| name.strip_suffix("\")")).unwrap_or(name);
        let name = name.strip_prefix("IpAddress(").and_then(|name| name.strip_suffix(')')).unwrap_or(name);
        text::shown(name, LONGEST_NAME)
    };
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    let more = if presented.len() > MOST_NAMES { ", …" } else { "" };
    presented.iter().take(MOST_NAMES).map(shown).collect::<Vec<_>>().join(", ") + more
}

#[cfg(test)]
mod tests;
