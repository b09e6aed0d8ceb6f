//! Checks TLS files together with the configuration that names them, so that an invalid file is reported with its configuration
//! key. Reasons name files, never their content.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring as provider;

use super::pem::{self, Pem};
use super::server::{client_verifier, describe};
use super::{Error, IdentityFiles, read, revocations};

/// Result of a check; the error says why a file is invalid.
pub type Checked = Result<(), String>;

/// Checks authorities of servers: at least one certificate must be valid.
pub fn check_authorities(path: &Path) -> Checked {
    check(path, |file| pem::roots(file).map(drop))
}

/// Checks authorities of clients: all certificates must be valid.
pub fn check_client_authorities(path: &Path) -> Checked {
    let provider = Arc::new(provider::default_provider());
    check(path, |file| client_verifier(file, revocations::Revocations::default(), provider).map(drop))
}

/// Checks certificate revocation lists.
pub fn check_revocations(path: &Path) -> Checked {
    check(path, |file| revocations::read(file).map(drop))
}

/// Checks a certificate chain.
pub fn check_certificates(path: &Path) -> Checked {
    check(path, |file| pem::certificates(file).map(drop))
}

/// Checks a private key.
pub fn check_key(path: &Path) -> Checked {
    check(path, |file| pem::private_key(file).map(drop))
}

/// Checks that a certificate and a key, each of which is valid, belong together.
pub fn check_identity(files: &IdentityFiles) -> Checked {
    check(&files.crt, |crt| {
        let key = read(&files.key)?;
        pem::client(None, Some((crt, Pem { path: &files.key, content: &key }))).map(drop)
    })
}

fn check(path: &Path, rule: impl FnOnce(Pem<'_>) -> Result<(), Error>) -> Checked {
    let outcome = read(path).and_then(|content| rule(Pem { path, content: &content }));
    outcome.map_err(|error| describe(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invalid_file_is_named_with_the_reason_and_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let issued = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let crt = write("tls.crt", &issued.cert.pem());
        let key = write("tls.key", &issued.signing_key.serialize_pem());
        let wrong = write("wrong.key", &other.signing_key.serialize_pem());
        let text = write("text", "hunter2");
        let broken = write("broken", "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n");
        for check in [check_authorities, check_client_authorities, check_certificates] {
            assert_eq!(check(&crt), Ok(()));
        }
        assert_eq!(check_key(&key), Ok(()));
        let of = |crt: &Path, key: &Path| check_identity(&IdentityFiles { crt: crt.into(), key: key.into() });
        assert_eq!(of(&crt, &key), Ok(()));
        let checks =
            [check_authorities, check_client_authorities, check_revocations, check_certificates, check_key];
        for check in checks {
            for path in [&text, &broken, &folder.path().join("absent")] {
                let why = check(path).unwrap_err();
                assert!(why.contains(&*path.to_string_lossy()) && !why.contains("hunter2"), "{why}");
            }
        }
        let why = of(&crt, &wrong).unwrap_err();
        assert!(why.contains("wrong.key") && why.contains("do not belong together"), "{why}");
    }
}
