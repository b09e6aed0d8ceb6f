//! Explains why a connection failed, with what to do. Decides by the types of errors, never by their texts.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use crate::failure::root_cause;
use crate::table::clean;
use domain::causes::find;
use domain::certificate;
use domain::duration::GoDuration;

/// Names of a certificate that a message lists at most.
const NAMES: usize = 5;

/// Why an address does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Progress of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// TCP is connecting.
    Connecting,
    /// TLS handshake.
    Securing,
    /// The server has sent nothing yet. With TLS 1.3 it rejects a client certificate here.
    Silent,
    /// The server speaks HTTP/2.
    Answered,
    Failed(Failure),
}

impl Stage {
    /// Explains a timeout.
    pub fn late(&self, limit: Duration) -> Failure {
        let missing = match self {
            Self::Connecting => "no TCP connection",
            Self::Securing => "a TCP connection, but no TLS handshake",
            _ => "a connection, but no HTTP/2",
        };
        let millis = u64::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        Failure(format!("{missing} within {}", GoDuration::from(Duration::from_millis(millis))))
    }
}

/// Names of both sides for messages.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    /// Name that the server's certificate must have.
    pub server_name: String,
    /// CA file for the server; `None` is plaintext.
    pub ca: Option<PathBuf>,
    /// File of the client certificate.
    pub cert: Option<PathBuf>,
}

impl Sides {
    /// Explains an error that ended a connection at `stage`.
    pub fn explain(&self, error: &(dyn Error + 'static), stage: &Stage) -> Failure {
        let text = match find::<rustls::Error>(error) {
            Some(rustls::Error::InvalidCertificate(reason)) => self.of_certificate(reason),
            Some(rustls::Error::AlertReceived(alert)) => self.of_alert(*alert),
            Some(rustls::Error::InvalidMessage(_)) => {
                "the server does not speak TLS at this port: name its TLS port, or use http:// on this machine"
                    .to_owned()
            }
            Some(rustls::Error::PeerIncompatible(_)) => NO_COMMON_VERSION.to_owned(),
            Some(rustls::Error::NoCertificatesPresented) => {
                "the server presents no certificate: give it one, or name another port".to_owned()
            }
            Some(rustls::Error::NoApplicationProtocol) => NO_HTTP2.to_owned(),
            Some(rustls::Error::PeerMisbehaved(_) | rustls::Error::InappropriateMessage { .. }
                | rustls::Error::InappropriateHandshakeMessage { .. } | rustls::Error::DecryptError
                | rustls::Error::PeerSentOversizedRecord) =>
            {
                "the server, or something between, does not keep to TLS: name the manager's own port".to_owned()
            }
            Some(other) => format!("TLS failed: {}", clean(&other.to_string())),
            None => match find::<io::Error>(error).map(io::Error::kind) {
                Some(
                    ErrorKind::UnexpectedEof
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe,
                ) => self.of_close(stage),
                _ => without_number(&root_cause(error)),
            },
        };
        Failure(text)
    }

    /// Explains a connection that the server closed before it sent anything.
    pub fn closed(&self) -> Failure {
        Failure(self.of_close(&Stage::Silent))
    }

    fn of_close(&self, stage: &Stage) -> String {
        let text = match (stage, &self.ca, &self.cert) {
            (Stage::Connecting, _, _) => "the server closed the connection",
            (Stage::Securing, _, _) => {
                "the server closed the connection during the TLS handshake: is this a port without TLS?"
            }
            (Stage::Answered, _, _) => "the connection was lost",
            (_, None, _) => {
                "the server closed the connection without a response: is this a TLS port (use https://), or no gRPC server?"
            }
            (_, Some(_), None) => {
                "the server closed the connection after the TLS handshake: it may require a client certificate, \
                 which --cert and --key give"
            }
            (_, Some(_), Some(_)) => {
                "the server closed the connection after the TLS handshake without a response"
            }
        };
        text.to_owned()
    }

    fn of_certificate(&self, reason: &CertificateError) -> String {
        let ca = self.ca.as_deref().unwrap_or("--ca".as_ref()).display();
        match reason {
            CertificateError::Expired => "the server's certificate has expired: renew it there".to_owned(),
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("the server's certificate expired at {}: renew it there", time(*not_after))
            }
            CertificateError::NotValidYet => {
                "the server's certificate is not valid yet: compare the clocks".to_owned()
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                let from = time(*not_before);
                format!("the server's certificate is not valid before {from}: compare the clocks")
            }
            CertificateError::UnknownIssuer => format!(
                "the server's certificate is not from the authority in {ca}: give the authority that signed it with --ca"
            ),
            CertificateError::BadSignature => format!(
                "the server's certificate names the authority in {ca}, and another key signed it: {ca} is of an \
                 earlier or another installation"
            ),
            CertificateError::NotValidForName => format!(
                "the server's certificate is not for {}: use a name of the certificate, or give one with --server-name",
                self.server_name
            ),
            CertificateError::NotValidForNameContext { presented, .. } => format!(
                "the server's certificate is not for {}, but for {}: use one of these names, or give one with --server-name",
                self.server_name,
                names(presented)
            ),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the server's certificate is not one for servers (its extended key usage lacks serverAuth)"
                    .to_owned()
            }
            other => format!("the server's certificate {}", certificate::fault(other)),
        }
    }

    /// Explains an alert of the server about this client.
    fn of_alert(&self, alert: AlertDescription) -> String {
        let Some(cert) = self.cert.as_deref().map(std::path::Path::display) else {
            return match alert {
                // Older servers have no alert for a missing certificate.
                AlertDescription::CertificateRequired
                | AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::HandshakeFailure
                | AlertDescription::AccessDenied => {
                    "the server requires a client certificate: give one with --cert and --key".to_owned()
                }
                other => of_other_alert(other),
            };
        };
        match alert {
            AlertDescription::UnknownCA => {
                format!("the server does not trust the authority that signed the client certificate {cert}")
            }
            AlertDescription::CertificateExpired => {
                format!(
                    "the server rejects the client certificate {cert}: it has expired, or is not valid yet"
                )
            }
            AlertDescription::CertificateRevoked => {
                format!("the server rejects the client certificate {cert}: it was revoked")
            }
            // The alert of rustls and OpenSSL for a signature by another CA of the same name.
            AlertDescription::DecryptError => format!(
                "the server rejects the client certificate {cert}: another authority of the same name signed it"
            ),
            AlertDescription::UnsupportedCertificate => format!(
                "the server rejects the client certificate {cert}: it is not one for clients (its extended key usage \
                 lacks clientAuth)"
            ),
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => {
                format!(
                    "the server rejects the client certificate {cert}: give one that its client authority signed"
                )
            }
            other => of_other_alert(other),
        }
    }
}

const NO_COMMON_VERSION: &str =
    "the server has no TLS version or cipher that this client has: it needs TLS 1.2 or 1.3";
const NO_HTTP2: &str = "the server speaks no HTTP/2, so no gRPC";

fn of_other_alert(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity
        | AlertDescription::InappropriateFallback
        | AlertDescription::HandshakeFailure
        | AlertDescription::MissingExtension
        | AlertDescription::UnsupportedExtension => NO_COMMON_VERSION,
        AlertDescription::NoApplicationProtocol => NO_HTTP2,
        AlertDescription::UnrecognisedName => {
            "the server has no certificate for this name: use another address, or --server-name"
        }
        AlertDescription::InternalError => "the server failed during the TLS handshake: its log says why",
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => {
            "the server ended the TLS handshake: it may be shutting down"
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate => {
            "the server rejects a client certificate, and none was given: is this a manager's port?"
        }
        _ => "the server refuses the TLS handshake: is this a manager's port?",
    };
    text.to_owned()
}

/// Explains a failed TCP connection. Errors that [`Sides::explain`] explains pass unchanged.
pub fn of_tcp(error: io::Error, host: &str, port: u16) -> io::Error {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let text = match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!("nothing listens at {address}: check the address, and that a manager runs there")
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => format!(
            "no network of this machine leads to {address}: check the address, and that a manager runs there"
        ),
        ErrorKind::TimedOut => {
            format!("{address} does not respond: check the address, and that a manager runs there")
        }
        _ => return error,
    };
    io::Error::other(Failure(text))
}

/// Explains a failed lookup of a host name.
pub fn unknown_host(error: &io::Error, host: &str) -> io::Error {
    let reason = without_number(&error.to_string());
    io::Error::other(Failure(format!(
        "the host name {host} is not known ({reason}): check the address, and the DNS of this machine"
    )))
}

/// A text of the operating system without its error number.
fn without_number(text: &str) -> String {
    let text = text.split(" (os error ").next().unwrap_or(text);
    clean(text.trim_start_matches("failed to lookup address information: "))
}

/// Why the first bytes of a server are not HTTP/2; `None` if they are.
pub fn of_first_bytes(bytes: &[u8]) -> Option<Failure> {
    let text = match bytes {
        // A TLS record: an alert or a handshake.
        [0x15 | 0x16, 3, ..] => "the server speaks TLS at this port: use https:// and --ca",
        [b'H', b'T', b'T', b'P', ..] => {
            "the server speaks HTTP/1 at this port, so no gRPC: name the gRPC port"
        }
        // Every server begins with a SETTINGS frame: length, type 4.
        [_, _, _, kind, ..] if *kind != 4 => "the server speaks no HTTP/2 at this port, so no gRPC",
        _ => return None,
    };
    Some(Failure(text.to_owned()))
}

fn time(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).ok();
    let at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.map_or_else(|| "an unknown time".to_owned(), |at| at.to_string())
}

/// The names of a certificate in the format of webpki: `DnsName("a.example")`, `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner);
        clean(inner.trim_end_matches(')').trim_matches('"'))
    };
    let mut shown: Vec<String> = presented.iter().take(NAMES).map(bare).collect();
    if presented.len() > NAMES {
        shown.push(format!("{} more", presented.len() - NAMES));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use rustls::InvalidMessage;

    use super::*;

    fn said(error: rustls::Error, cert: Option<&str>) -> String {
        let sides = Sides {
            server_name: "manager.example".to_owned(),
            ca: Some("ca.crt".into()),
            cert: cert.map(PathBuf::from),
        };
        let error = io::Error::new(ErrorKind::InvalidData, error);
        // Wrapped as tonic and hyper do.
        let outer = io::Error::other(io::Error::other(error));
        sides.explain(&outer, &Stage::Silent).0
    }

    #[test]
    fn each_fault_of_a_servers_certificate_has_a_sentence_with_what_to_do() {
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_hours(24));
        let name = "manager.example".try_into().unwrap();
        let presented = vec!["DnsName(\"a.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
        let cases = [
            (CertificateError::ExpiredContext { time: at, not_after: at }, "expired at 1970-01-02T00:00:00Z"),
            (CertificateError::NotValidYetContext { time: at, not_before: at }, "compare the clocks"),
            (CertificateError::UnknownIssuer, "is not from the authority in ca.crt"),
            (CertificateError::BadSignature, "another key signed it"),
            (
                CertificateError::NotValidForNameContext { expected: name, presented },
                "is not for manager.example, but for a.example, 10.0.0.1: use one of these names",
            ),
            (CertificateError::InvalidPurpose, "lacks serverAuth"),
            (CertificateError::BadEncoding, "the server's certificate is not X.509, or damaged"),
            (CertificateError::Revoked, "the server's certificate was revoked"),
            (
                CertificateError::Other(rustls::OtherError(std::sync::Arc::new(
                    webpki::Error::CaUsedAsEndEntity,
                ))),
                "the server's certificate is that of an authority: make one for the server, signed by it",
            ),
        ];
        for (reason, expected) in cases {
            let text = said(rustls::Error::InvalidCertificate(reason), None);
            assert!(text.contains(expected), "{text}");
        }
        let text = said(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), None);
        assert!(text.contains("does not speak TLS at this port"), "{text}");
    }

    #[test]
    fn each_refusal_of_a_client_certificate_has_a_sentence_that_names_the_file() {
        for missing in [AlertDescription::CertificateRequired, AlertDescription::BadCertificate] {
            let text = said(rustls::Error::AlertReceived(missing), None);
            assert_eq!(text, "the server requires a client certificate: give one with --cert and --key");
        }
        let cases = [
            (
                AlertDescription::UnknownCA,
                "does not trust the authority that signed the client certificate me.crt",
            ),
            (AlertDescription::CertificateExpired, "rejects the client certificate me.crt: it has expired"),
            (AlertDescription::CertificateRevoked, "me.crt: it was revoked"),
            (AlertDescription::UnsupportedCertificate, "lacks clientAuth"),
            (AlertDescription::DecryptError, "another authority of the same name"),
            (
                AlertDescription::BadCertificate,
                "rejects the client certificate me.crt: give one that its client authority",
            ),
            (AlertDescription::ProtocolVersion, "no TLS version"),
            (AlertDescription::InternalError, "failed during the TLS handshake: its log says why"),
            (AlertDescription::RecordOverflow, "refuses the TLS handshake"),
        ];
        for (alert, expected) in cases {
            let text = said(rustls::Error::AlertReceived(alert), Some("me.crt"));
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_connection_that_closes_without_a_reason_says_what_it_may_be() {
        let (plain, tls) = (Sides::default(), Sides { ca: Some("ca.crt".into()), ..Sides::default() });
        let closed = io::Error::from(ErrorKind::UnexpectedEof);
        assert!(tls.explain(&closed, &Stage::Securing).0.contains("a port without TLS"));
        assert!(tls.explain(&closed, &Stage::Silent).0.contains("may require a client certificate"));
        assert!(plain.explain(&closed, &Stage::Silent).0.contains("use https://"));
        let refused = io::Error::from(ErrorKind::ConnectionRefused);
        assert_eq!(plain.explain(&refused, &Stage::Connecting).0, refused.to_string());
    }

    #[test]
    fn the_first_bytes_tell_tls_and_http1_from_http2() {
        let said = |bytes: &[u8]| of_first_bytes(bytes).map(|failure| failure.0);
        assert_eq!(said(&[0, 0, 18, 4, 0, 0, 0, 0, 0]), None);
        assert_eq!(said(&[0]), None);
        assert!(said(&[0x15, 3, 3, 0, 2, 2, 50]).unwrap().contains("use https://"));
        assert!(said(b"HTTP/1.1 400 Bad Request").unwrap().contains("HTTP/1"));
        assert!(said(b"SSH-2.0-OpenSSH").unwrap().contains("no HTTP/2"));
    }

    #[test]
    fn a_failed_tcp_connection_has_a_sentence_without_an_error_number() {
        let sides = Sides::default();
        let said = |error: io::Error| sides.explain(&error, &Stage::Connecting).0;
        let check = "check the address, and that a manager runs there";
        let refused = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let nothing = format!("nothing listens at 127.0.0.1:1: {check}");
        assert_eq!(said(of_tcp(refused(), "127.0.0.1", 1)), nothing);
        assert_eq!(said(of_tcp(refused(), "::1", 8080)), format!("nothing listens at [::1]:8080: {check}"));
        for number in [libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ETIMEDOUT, libc::EACCES, libc::EMFILE] {
            let text = said(of_tcp(io::Error::from_raw_os_error(number), "a", 1));
            assert!(!text.is_empty() && !text.contains("os error"), "{text}");
        }
        let lookup = io::Error::other("failed to lookup address information: Name or service not known");
        let expected = "the host name a.example is not known (Name or service not known): check the address, and the DNS of \
                        this machine";
        assert_eq!(said(unknown_host(&lookup, "a.example")), expected);
    }
}
