//! The login of a kubeconfig, validated as far as that is possible without its cluster.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use jiff::Timestamp;
use kube::config::AuthInfo;
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use serde::Deserialize as _;
use serde_json::json;

use crate::error::{Error, Result};
use domain::kubeconfig::{self, Aliases, Identity, Login, Problem, pem};
use domain::names::ClusterName;

use super::trust::Trust;

/// A cluster's address and a login for it, complete in itself: no file, no plugin.
#[derive(Clone)]
pub struct Credentials {
    login: Login,
    base: Uri,
    config: kube::Config,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("server", &self.login.server).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Takes the current context of a kubeconfig, or its only one.
    ///
    /// What would run a program, read a file of this machine, or leave the apiserver unproven is refused.
    pub fn parse(cluster: &ClusterName, kubeconfig: &str) -> Result<Self> {
        read(kubeconfig).map_err(|Problem { field, rule }| Error::Kubeconfig {
            cluster: cluster.clone(),
            field,
            rule,
        })
    }

    /// Address of the apiserver as `https://host:port`: the same cluster has the same address.
    pub fn server(&self) -> &str {
        &self.login.server
    }

    /// When the login ends: its client certificate, or its token where that says so.
    pub fn expires(&self) -> Option<Timestamp> {
        self.login.expires
    }

    /// Whether two lead to the same place in the same way, however their kubeconfigs are written.
    pub fn is_same(&self, other: &Self) -> bool {
        self.login.is_same(&other.login)
    }

    /// The authority as PEM in base64, as a kubeconfig has it; none where this machine's are taken.
    pub fn authority_data(&self) -> Option<String> {
        self.login.authority.as_ref().map(|(pem, _)| STANDARD.encode(pem))
    }

    /// The name that the apiserver's certificate is checked for, where it is not the address.
    pub fn tls_server_name(&self) -> Option<&str> {
        self.login.tls_server_name.as_deref()
    }

    pub(super) fn base(&self) -> &Uri {
        &self.base
    }

    pub(super) fn config(&self) -> &kube::Config {
        &self.config
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// What the apiserver is verified against, to explain a failed handshake.
    pub(super) fn trust(&self) -> Trust {
        let authority = self.login.authority.as_ref().map(|(_, certificates)| certificates.as_slice());
        Trust::of(authority, self.login.identity.is_some())
    }
}

type Read<T> = kubeconfig::Read<T>;

fn broken<T>(field: &str, rule: &str) -> Read<T> {
    Err(Problem { field: field.to_owned(), rule: rule.to_owned() })
}

fn read(text: &str) -> Read<Credentials> {
    let login = kubeconfig::choose(text, None, Aliases::Refused)?.login()?;
    let Ok(base) = login.server.parse::<Uri>() else {
        return broken("clusters[].cluster.server", "is not a URL such as https://host:6443");
    };
    let mut config = kube::Config::new(base.clone());
    if let Some((_, certificates)) = &login.authority {
        are_certificates(certificates)?;
        config.root_cert = Some(certificates.clone());
    }
    config.tls_server_name.clone_from(&login.tls_server_name);
    if let Some(identity) = &login.identity {
        fits(identity)?;
        config.auth_info = auth_info(identity)?;
    }
    let authorization = match &login.token {
        Some(token) => Some(bearer(token.expose())?),
        None => None,
    };
    Ok(Credentials { login, base, config, authorization })
}

fn are_certificates(certificates: &[Vec<u8>]) -> Read<()> {
    let mut store = RootCertStore::empty();
    let added = certificates.iter().try_for_each(|der| store.add(CertificateDer::from(der.clone())));
    added.or_else(|_| {
        let rule = "holds a PEM certificate that is not an X.509 certificate";
        broken("clusters[].cluster.certificate-authority-data", rule)
    })
}

/// Whether a client certificate's key can be used, and is the certificate's.
fn fits(identity: &Identity) -> Read<()> {
    const KEY: &str = "users[].user.client-key-data";
    let key = pem::private_key(KEY, identity.key.expose())?;
    let Ok(key) = default_provider().key_provider.load_private_key(key) else {
        let rule = "holds a key of a kind or size that TLS here does not take: RSA from 2048 bits, ECDSA P-256 or P-384, \
                    or Ed25519";
        return broken(KEY, rule);
    };
    let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
    match CertifiedKey::new(chain, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => broken(
            KEY,
            "is not the key of the certificate in client-certificate-data, whose first certificate must be the client's own",
        ),
        Err(_) => {
            broken("users[].user.client-certificate-data", "is not an X.509 certificate that TLS here takes")
        }
    }
}

/// The library takes certificate and key from here alone, and its type of a key has no other way in.
fn auth_info(identity: &Identity) -> Read<AuthInfo> {
    let value = json!({
        "client-certificate-data": STANDARD.encode(&identity.certificate),
        "client-key-data": STANDARD.encode(identity.key.expose()),
    });
    AuthInfo::deserialize(value).or_else(|_| broken("users[].user", "cannot be used"))
}

/// The header of a token login.
fn bearer(token: &str) -> Read<HeaderValue> {
    let Ok(mut header) = HeaderValue::try_from(format!("Bearer {token}")) else {
        return broken("users[].user.token", "holds characters that no token has");
    };
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests;
