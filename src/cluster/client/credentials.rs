//! Reads a kubeconfig down to the one login it holds.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderValue, Uri};
use jiff::Timestamp;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use serde::Deserialize;

use crate::cluster::error::{Error, Result};
use crate::domain::names::ClusterName;

/// A cluster's address and a login for it, complete in itself: no file, no plugin.
#[derive(Clone)]
pub struct Credentials {
    server: String,
    base: Uri,
    config: kube::Config,
    authority_data: Option<String>,
    authorization: Option<HeaderValue>,
    expires: Option<Timestamp>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Takes the current context of a kubeconfig, or its only one.
    ///
    /// What would run a program, read a file of this machine, or leave the apiserver unproven is refused.
    pub fn parse(cluster: &ClusterName, kubeconfig: &str) -> Result<Self> {
        read(kubeconfig).map_err(|Broken(field, rule)| Error::Kubeconfig {
            cluster: cluster.clone(),
            field: field.to_owned(),
            rule,
        })
    }

    /// Address of the apiserver as `https://host:port`: the same cluster has the same address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// When the login ends: its client certificate, or its token where that says so.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// The authority as PEM in base64, as a kubeconfig has it; none where this machine's are taken.
    pub(in crate::cluster) fn authority_data(&self) -> Option<&str> {
        self.authority_data.as_deref()
    }

    /// The name that the apiserver's certificate is checked for, where it is not the address.
    pub(in crate::cluster) fn tls_server_name(&self) -> Option<&str> {
        self.config.tls_server_name.as_deref()
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
}

/// Field and rule. The rule never quotes a value: it may be a secret.
struct Broken(&'static str, String);

type Read<T> = std::result::Result<T, Broken>;

fn broken<T>(field: &'static str, rule: impl Into<String>) -> Read<T> {
    Err(Broken(field, rule.into()))
}

fn read(text: &str) -> Read<Credentials> {
    let document: serde_json::Value = serde_saphyr::from_str(text)
        .or_else(|_| broken("(document)", "is not one YAML or JSON document, or has a key twice"))?;
    let file = Kubeconfig::deserialize(document)
        .or_else(|_| broken("(document)", "is not a kubeconfig: a field has a value of the wrong kind"))?;
    let (cluster, user) = select(file)?;
    refuse_indirections(&cluster, &user)?;
    let (server, base) = address(cluster.server.as_deref())?;
    let mut config = kube::Config::new(base.clone());
    config.root_cert = authority(&cluster)?;
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    let expires = certificate_end(&user)?;
    let authorization = authorization(&user)?;
    if authorization.is_none() && expires.is_none() {
        return broken(
            "users[].user",
            "has no login: give token, or client-certificate-data and client-key-data",
        );
    }
    let expires = expires.or_else(|| token_end(&user));
    config.auth_info = user;
    let authority_data = cluster.certificate_authority_data;
    Ok(Credentials { server, base, config, authority_data, authorization, expires })
}

/// The context that is meant, as its cluster and user.
fn select(file: Kubeconfig) -> Read<(Cluster, AuthInfo)> {
    let named = file.current_context.filter(|name| !name.is_empty());
    let mut contexts = file.contexts;
    let context = match named {
        Some(name) => contexts.into_iter().find(|context| context.name == name),
        None if contexts.len() == 1 => contexts.pop(),
        None => return broken("current-context", "is not set, and there is not exactly one context to take"),
    };
    let Some(context) = context.and_then(|named| named.context) else {
        return broken("current-context", "names a context that is not in contexts");
    };
    let cluster = file.clusters.into_iter().find(|named| named.name == context.cluster);
    let Some(cluster) = cluster.and_then(|named| named.cluster) else {
        return broken("contexts[].context.cluster", "names a cluster that is not in clusters");
    };
    let user = file.auth_infos.into_iter().find(|named| Some(&named.name) == context.user.as_ref());
    let Some(user) = user.and_then(|named| named.auth_info) else {
        return broken("contexts[].context.user", "names a user that is not in users");
    };
    Ok((cluster, user))
}

/// Refuses what points out of the document, or would be silently left out.
fn refuse_indirections(cluster: &Cluster, user: &AuthInfo) -> Read<()> {
    const PLUGIN: &str =
        "would run a program here: give token, or client-certificate-data and client-key-data";
    const FILE: &str = "names a file: give its content instead, in the field ending in -data";
    let rules = [
        (user.exec.is_some(), "users[].user.exec", PLUGIN),
        (user.auth_provider.is_some(), "users[].user.auth-provider", PLUGIN),
        (user.client_certificate.is_some(), "users[].user.client-certificate", FILE),
        (user.client_key.is_some(), "users[].user.client-key", FILE),
        (user.token_file.is_some(), "users[].user.tokenFile", "names a file: give its content as token"),
        (
            user.username.is_some() || user.password.is_some(),
            "users[].user.username",
            "is a login that apiservers no longer take",
        ),
        (
            user.impersonate.is_some()
                || user.impersonate_groups.is_some()
                || user.impersonate_uid.is_some()
                || user.impersonate_user_extra.is_some(),
            "users[].user.as",
            "is not supported",
        ),
        (cluster.certificate_authority.is_some(), "clusters[].cluster.certificate-authority", FILE),
        (cluster.proxy_url.is_some(), "clusters[].cluster.proxy-url", "is not supported"),
        (
            cluster.insecure_skip_tls_verify == Some(true),
            "clusters[].cluster.insecure-skip-tls-verify",
            "must not be true: give certificate-authority-data",
        ),
    ];
    match rules.into_iter().find(|(hit, ..)| *hit) {
        Some((_, field, rule)) => broken(field, rule),
        None => Ok(()),
    }
}

fn address(server: Option<&str>) -> Read<(String, Uri)> {
    const FIELD: &str = "clusters[].cluster.server";
    let Some(server) = server else { return broken(FIELD, "is missing") };
    let url = url::Url::parse(server.trim())
        .or_else(|_| broken(FIELD, "is not a URL such as https://host:6443"))?;
    if url.scheme() != "https" {
        return broken(FIELD, "must begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return broken(FIELD, "must not hold a user or a password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return broken(FIELD, "must not have a query or a fragment");
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return broken(FIELD, "has no host");
    };
    let port = url.port_or_known_default().unwrap_or(443);
    let normal = format!("https://{host}:{port}{}", url.path().trim_end_matches('/'));
    let base = normal.parse().or_else(|_| broken(FIELD, "is not a URL such as https://host:6443"))?;
    Ok((normal, base))
}

fn authority(cluster: &Cluster) -> Read<Option<Vec<Vec<u8>>>> {
    const FIELD: &str = "clusters[].cluster.certificate-authority-data";
    let Some(data) = cluster.certificate_authority_data.as_deref() else { return Ok(None) };
    Ok(Some(certificates(FIELD, data)?))
}

/// When the client certificate ends; checks that certificate and key are there together and can be read.
fn certificate_end(user: &AuthInfo) -> Read<Option<Timestamp>> {
    const CERTIFICATE: &str = "users[].user.client-certificate-data";
    const KEY: &str = "users[].user.client-key-data";
    let (Some(certificate), Some(_)) = (&user.client_certificate_data, &user.client_key_data) else {
        return match (&user.client_certificate_data, &user.client_key_data) {
            (Some(_), None) => broken(KEY, "is missing, and there is a certificate"),
            (None, Some(_)) => broken(CERTIFICATE, "is missing, and there is a key"),
            _ => Ok(None),
        };
    };
    let chain = certificates(CERTIFICATE, certificate)?;
    let leaf = chain.first().map(Vec::as_slice).unwrap_or_default();
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf)
        .or_else(|_| broken(CERTIFICATE, "is not an X.509 certificate"))?;
    match Timestamp::from_second(leaf.validity().not_after.timestamp()) {
        Ok(end) => Ok(Some(end)),
        Err(_) => Ok(Some(Timestamp::MAX)),
    }
}

/// PEM certificates out of a base64 field, as DER.
fn certificates(field: &'static str, data: &str) -> Read<Vec<Vec<u8>>> {
    let pem = STANDARD
        .decode(data.split_ascii_whitespace().collect::<String>())
        .or_else(|_| broken(field, "is not base64"))?;
    let found: std::result::Result<Vec<_>, _> = rustls_pemfile::certs(&mut pem.as_slice()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found.into_iter().map(|der| der.to_vec()).collect()),
        _ => broken(field, "holds no PEM certificate"),
    }
}

/// When a token ends that is a JSON Web Token with an end. Nothing depends on it but warnings.
fn token_end(user: &AuthInfo) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: Option<i64>,
    }
    let token = token(user)?;
    let claims = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    let end = serde_json::from_slice::<Claims>(&claims).ok()?.exp?;
    Timestamp::from_second(end).ok()
}

/// The client library keeps the token in a type that only it can open; serialising opens it.
fn token(user: &AuthInfo) -> Option<String> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
    }
    serde_json::to_value(user).and_then(Token::deserialize).ok()?.token
}

/// The header of a token login.
fn authorization(user: &AuthInfo) -> Read<Option<HeaderValue>> {
    const FIELD: &str = "users[].user.token";
    let Some(token) = token(user) else { return Ok(None) };
    let token = token.trim();
    if token.is_empty() {
        return broken(FIELD, "is empty");
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .or_else(|_| broken(FIELD, "holds characters that no token has"))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

#[cfg(test)]
mod tests;
