//! `etcd`: storage of the federation's state.

use std::time::Duration;

use url::Url;

use super::reader::Group;
use crate::tls::ClientFiles;
use domain::secret::Secret;

/// `etcd`.
#[derive(Debug, Clone)]
pub struct Etcd {
    /// At least one; all `http` or all `https`.
    pub endpoints: Vec<Url>,
    /// Prefix of all keys; starts and ends with `/`.
    pub prefix: String,
    /// For `https` endpoints.
    pub tls: Option<ClientFiles>,
    /// Name and password, if etcd requires them.
    pub login: Option<(String, Secret<String>)>,
    /// Deadline of each request.
    pub request_timeout: Duration,
}

pub(super) fn read(mut group: Group<'_>) -> Etcd {
    let texts = endpoint_texts(&mut group);
    let endpoints = endpoints(&group, &texts);
    let prefix = normalised(&group.text("prefix").unwrap_or_else(|| "/spaceport/".to_owned()));
    let mut tls_group = group.group("tls");
    let tls = tls_group.client_tls();
    // By the text: an endpoint with another problem still has a scheme.
    let encrypted = texts.iter().any(|text| is_https(text));
    if encrypted && tls.ca.is_none() {
        tls_group.problem("ca", "is required with https endpoints");
    }
    if tls != ClientFiles::default() && !encrypted && !texts.is_empty() {
        tls_group.problem("", "must not be set with http endpoints");
    }
    drop(tls_group);
    let username = group.text("username");
    let has_login = username.is_some();
    let login = login(&mut group, username);
    let plaintext = group.flag("plaintext").unwrap_or(false);
    if has_login && !encrypted && !texts.is_empty() && !plaintext {
        group.problem(
            "endpoints",
            "must be https with a username, or plaintext: true sends its password unencrypted",
        );
    }
    if plaintext && encrypted {
        group.problem("plaintext", "must not be set with https endpoints");
    }
    let request_timeout = group.duration("requestTimeout", Duration::from_secs(3));
    Etcd { endpoints, prefix, tls: encrypted.then_some(tls), login, request_timeout }
}

const ENDPOINTS: &str = "endpoints";

fn endpoint_texts(group: &mut Group<'_>) -> Vec<String> {
    let some = |group: &mut Group<'_>, key: &str| Some(group.texts(key)).filter(|texts| !texts.is_empty());
    group.required(ENDPOINTS, some).unwrap_or_default()
}

fn is_https(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

fn endpoints(group: &Group<'_>, texts: &[String]) -> Vec<Url> {
    let mut urls: Vec<Url> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let key = format!("{ENDPOINTS}[{index}]");
        match endpoint(text) {
            Ok(url) if urls.first().is_some_and(|first| first.scheme() != url.scheme()) => {
                group.problem(&key, "must be http or https as the first");
            }
            Ok(url) => urls.push(url),
            Err(message) => group.problem(&key, message),
        }
    }
    urls
}

/// The message never quotes the text, which may contain a password.
fn endpoint(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL such as https://etcd-0:2379")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("is not a URL such as https://etcd-0:2379");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a name or password: use username and passwordFile");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("must be a scheme, a host and a port only");
    }
    Ok(url)
}

fn login(group: &mut Group<'_>, username: Option<String>) -> Option<(String, Secret<String>)> {
    let problem_free = |group: &mut Group<'_>, content: Secret<Vec<u8>>| {
        // Text files usually end with a line break, passwords do not.
        let text = String::from_utf8(content.into_exposed())
            .ok()
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        let password = text.filter(|text| !text.is_empty());
        if password.is_none() {
            group.problem("passwordFile", "must hold a password as UTF-8 text");
        }
        password.map(Secret::new)
    };
    if username.is_none() {
        if group.text("passwordFile").is_some() {
            group.problem("username", "is required with passwordFile");
        }
        return None;
    }
    let content = group.required("passwordFile", Group::secret_file)?;
    username.zip(problem_free(group, content))
}

fn normalised(prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => "/".to_owned(),
        inner => format!("/{inner}/"),
    }
}
