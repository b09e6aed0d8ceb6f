//! One context of a kubeconfig: chosen by name, and written as a kubeconfig of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::document::{self, Aliases};
use super::exec::Credential;
use super::problem::{Read, problem};
use super::section::{Section, scalar};

/// Extension of a user with the end of a login, for credentials without an end of their own.
const LOGIN_EXTENSION: &str = "spaceport.dev/login";

/// The cluster and the user of one context. Other parts of the file are not validated.
#[derive(Clone)]
pub struct Chosen {
    /// `clusters[].cluster`.
    pub cluster: Section,
    /// `users[].user`.
    pub user: Section,
}

/// Chooses the named context, or else the current one, or else the only one.
pub fn choose(text: &str, context: Option<&str>, aliases: Aliases) -> Read<Chosen> {
    let document = document::read(text, aliases)?;
    if !["clusters", "contexts", "users"].iter().any(|list| document.contains_key(*list)) {
        return problem("(document)", "is not a kubeconfig: it has no clusters, contexts and users");
    }
    let current = document.get("current-context").and_then(scalar);
    let named = context.map(ToOwned::to_owned).or(current).filter(|name| !name.trim().is_empty());
    let pointer = if context.is_some() { "contexts" } else { "current-context" };
    let contexts = entries(&document, "contexts")?;
    let context = match named {
        Some(name) => only(&contexts, &name, pointer, "context", "contexts")?,
        None => match contexts.as_slice() {
            [only] => *only,
            _ => return problem(pointer, "is not set, and there is not exactly one context to take"),
        },
    };
    let context = Section::of("contexts[].context", context.get("context"))?;
    let mut parts = Vec::with_capacity(2);
    for (key, list, path) in
        [("cluster", "clusters", "clusters[].cluster"), ("user", "users", "users[].user")]
    {
        let name = context.text(key)?.unwrap_or_default();
        let entry = only(&entries(&document, list)?, &name, &context.field(key), key, list)?;
        parts.push(Section::of(path, entry.get(key))?);
    }
    let (Some(user), Some(cluster)) = (parts.pop(), parts.pop()) else {
        return problem("(document)", "is not a kubeconfig");
    };
    Ok(Chosen { cluster, user })
}

/// Names of the contexts, for the owner of the file.
pub fn contexts(text: &str) -> Vec<String> {
    let Ok(document) = document::read(text, Aliases::Resolved) else { return Vec::new() };
    let entries = entries(&document, "contexts").unwrap_or_default();
    entries.into_iter().filter_map(|entry| entry.get("name").and_then(scalar)).collect()
}

fn entries<'a>(document: &'a Map<String, Value>, list: &str) -> Read<Vec<&'a Map<String, Value>>> {
    match document.get(list) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(entries)) => Ok(entries.iter().filter_map(Value::as_object).collect()),
        Some(_) => problem(list, "must be a list"),
    }
}

/// The entry of this name. Other entries are not validated.
fn only<'a>(
    entries: &[&'a Map<String, Value>],
    name: &str,
    pointer: &str,
    what: &str,
    list: &str,
) -> Read<&'a Map<String, Value>> {
    let is_named = |entry: &&&Map<String, Value>| entry.get("name").and_then(scalar).as_deref() == Some(name);
    let mut found = entries.iter().filter(is_named);
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => problem(pointer, format!("names a {what} that is in {list} twice")),
        (None, _) => problem(pointer, format!("names a {what} that is not in {list}")),
    }
}

impl Chosen {
    /// Whether it has a token or a client certificate, which take precedence over a plugin.
    pub fn has_static_login(&self) -> bool {
        ["token", "tokenFile", "client-certificate", "client-certificate-data"]
            .iter()
            .any(|key| self.user.has(key))
    }

    /// Replaces the plugin by the credential that it returned.
    #[must_use]
    pub fn with(mut self, credential: Credential) -> Self {
        for key in ["exec", "auth-provider"] {
            self.user.remove(key);
        }
        if let Some(token) = credential.token {
            self.user.set("token", token.into_exposed().into());
        }
        if let Some((certificate, key)) = credential.certificate {
            self.user.set("client-certificate-data", STANDARD.encode(certificate).into());
            self.user.set("client-key-data", STANDARD.encode(key.expose()).into());
        }
        if let Some(expires) = credential.expires {
            self.user.set("extensions", login_extension(expires));
        }
        self
    }

    /// End of the login, if [`Chosen::with`] noted it.
    pub(super) fn noted_end(&self) -> Option<Timestamp> {
        self.user.extension(LOGIN_EXTENSION)?["expires"].as_str()?.parse().ok()
    }

    /// A kubeconfig with only this login: no plugin, no file, no other context.
    pub fn minimal(&self) -> Read<String> {
        let cluster = self.cluster.only(&["server", "tls-server-name"], &["certificate-authority-data"])?;
        let mut user = self.user.only(&["token"], &["client-certificate-data", "client-key-data"])?;
        if let Some(expires) = self.noted_end() {
            user["extensions"] = login_extension(expires);
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "context",
            "clusters": [{ "name": "cluster", "cluster": cluster }],
            "users": [{ "name": "user", "user": user }],
            "contexts": [{ "name": "context", "context": { "cluster": "cluster", "user": "user" } }],
        });
        Ok(config.to_string())
    }
}

fn login_extension(expires: Timestamp) -> Value {
    json!([{ "name": LOGIN_EXTENSION, "extension": { "expires": expires } }])
}
