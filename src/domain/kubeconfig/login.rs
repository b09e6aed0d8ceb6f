//! The login of one context of a self-contained kubeconfig.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::context::Chosen;
use super::pem;
use super::problem::{Read, problem};
use super::section::Section;
use crate::secret::Secret;

/// Address of an apiserver, its certificate authority, and credentials.
#[derive(Clone)]
pub struct Login {
    /// Normalized `https://host:port`, with a path if there is one, so that addresses can be compared.
    pub server: String,
    /// Certificate authorities as PEM and as DER; `None` for those of the system.
    pub authority: Option<(Vec<u8>, Vec<Vec<u8>>)>,
    /// The name in the apiserver's certificate, if it is not the address.
    pub tls_server_name: Option<String>,
    /// A bearer token.
    pub token: Option<Secret<String>>,
    /// A client certificate.
    pub identity: Option<Identity>,
    /// When it ends, if known.
    pub expires: Option<Timestamp>,
}

/// A client certificate and its key.
#[derive(Clone)]
pub struct Identity {
    /// The chain as PEM.
    pub certificate: Vec<u8>,
    /// The chain as DER, the client's own first.
    pub chain: Vec<Vec<u8>>,
    /// The key as PEM.
    pub key: Secret<Vec<u8>>,
}

impl Chosen {
    /// The login, if the document is self-contained.
    pub fn login(&self) -> Read<Login> {
        Login::of(self)
    }
}

impl Login {
    pub(super) fn of(chosen: &Chosen) -> Read<Self> {
        let (cluster, user) = (&chosen.cluster, &chosen.user);
        refuse(&USER_RULES, user)?;
        refuse(&CLUSTER_RULES, cluster)?;
        if cluster.flag("insecure-skip-tls-verify")? {
            let rule = "must not be true: give certificate-authority-data";
            return problem(cluster.field("insecure-skip-tls-verify"), rule);
        }
        let server = address(cluster)?;
        let authority = match cluster.data(AUTHORITY)? {
            Some(data) => {
                let certificates = pem::certificates(&cluster.field(AUTHORITY), &data)?;
                Some((data, certificates))
            }
            None => None,
        };
        let (identity, certificate_end) = identity(user)?.unzip();
        let token = token(user)?;
        if token.is_none() && identity.is_none() {
            let rule = "has no login: give token, or client-certificate-data and client-key-data";
            return problem("users[].user", rule);
        }
        let token_end = token.as_ref().and_then(|token| token_end(token.expose()));
        let expires = certificate_end.or(token_end).into_iter().chain(chosen.noted_end()).min();
        let tls_server_name = cluster.text("tls-server-name")?;
        Ok(Self { server, authority, tls_server_name, token, identity, expires })
    }

    /// Rejects a login whose authorities have all expired: they verify no certificate.
    pub fn refuse_expired_authority(&self, now: Timestamp) -> Read<()> {
        let end = self.authority.as_ref().and_then(|(_, certificates)| pem::last_end(certificates));
        match end.filter(|end| *end < now) {
            None => Ok(()),
            Some(end) => {
                let rule = format!(
                    "holds an authority that expired at {end}: give the one that the cluster has now"
                );
                problem(format!("clusters[].cluster.{AUTHORITY}"), rule)
            }
        }
    }

    /// Whether two logins have the same address and credentials, however they are written.
    pub fn is_same(&self, other: &Self) -> bool {
        let authority = |login: &Self| login.authority.as_ref().map(|(_, der)| der.clone());
        let token = |login: &Self| login.token.as_ref().map(|token| token.expose().clone());
        let identity = |login: &Self| {
            let identity = login.identity.as_ref()?;
            Some((identity.chain.clone(), identity.key.expose().trim_ascii().to_vec()))
        };
        self.server == other.server
            && self.tls_server_name == other.tls_server_name
            && authority(self) == authority(other)
            && token(self) == token(other)
            && identity(self) == identity(other)
    }
}

const AUTHORITY: &str = "certificate-authority-data";
const CERTIFICATE: &str = "client-certificate-data";
const KEY: &str = "client-key-data";
const PLUGIN: &str = "would run a program here: give token, or client-certificate-data and client-key-data";
const FILE: &str = "names a file: give its content instead, in the field ending in -data";

/// Fields that name files, or that would be ignored silently; each with the field that the problem names.
type Rules<const N: usize> = [(&'static str, &'static str, &'static str); N];

const USER_RULES: Rules<11> = [
    ("exec", "exec", PLUGIN),
    ("auth-provider", "auth-provider", PLUGIN),
    ("client-certificate", "client-certificate", FILE),
    ("client-key", "client-key", FILE),
    ("tokenFile", "tokenFile", "names a file: give its content as token"),
    ("username", "username", "is a login that apiservers no longer support"),
    ("password", "username", "is a login that apiservers no longer support"),
    ("as", "as", "is not supported"),
    ("as-uid", "as", "is not supported"),
    ("as-groups", "as", "is not supported"),
    ("as-user-extra", "as", "is not supported"),
];
const CLUSTER_RULES: Rules<2> = [
    ("certificate-authority", "certificate-authority", FILE),
    ("proxy-url", "proxy-url", "is not supported"),
];

fn refuse<const N: usize>(rules: &Rules<N>, section: &Section) -> Read<()> {
    match rules.iter().find(|(key, ..)| section.has(key)) {
        Some((_, field, rule)) => problem(section.field(field), *rule),
        None => Ok(()),
    }
}

fn address(cluster: &Section) -> Read<String> {
    let field = cluster.field("server");
    let Some(server) = cluster.text("server")? else { return problem(field, "is missing") };
    let Ok(url) = url::Url::parse(&server) else {
        return problem(field, "is not a URL such as https://host:6443");
    };
    if url.scheme() != "https" {
        return problem(field, "must begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return problem(field, "must not hold a user or a password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return problem(field, "must not have a query or a fragment");
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return problem(field, "has no host");
    };
    let port = url.port_or_known_default().unwrap_or(443);
    Ok(format!("https://{host}:{port}{}", url.path().trim_end_matches('/')))
}

/// The client certificate, and when it ends.
fn identity(user: &Section) -> Read<Option<(Identity, Timestamp)>> {
    let (certificate, key) = match (user.data(CERTIFICATE)?, user.data(KEY)?) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(None),
        (Some(_), None) => return problem(user.field(KEY), "is missing, and there is a certificate"),
        (None, Some(_)) => return problem(user.field(CERTIFICATE), "is missing, and there is a key"),
    };
    let field = user.field(CERTIFICATE);
    let chain = pem::certificates(&field, &certificate)?;
    let leaf = chain.first().map(Vec::as_slice).unwrap_or_default();
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return problem(field, "is not an X.509 certificate");
    };
    if pem::is_version_1(&leaf) {
        return problem(field, "is an X.509 certificate of version 1: make one of version 3");
    }
    let end = Timestamp::from_second(leaf.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
    Ok(Some((Identity { certificate, chain, key: Secret::new(key) }, end)))
}

fn token(user: &Section) -> Read<Option<Secret<String>>> {
    let Some(token) = user.text("token")? else { return Ok(None) };
    if token.chars().any(|c| c.is_control() || c.is_whitespace() || !c.is_ascii()) {
        return problem(user.field("token"), "holds characters that no token has");
    }
    Ok(Some(Secret::new(token)))
}

/// The `exp` claim of a JSON Web Token. It is used only for warnings.
fn token_end(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: Option<i64>,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let end = serde_json::from_slice::<Claims>(&claims).ok()?.exp?;
    Timestamp::from_second(end).ok()
}
