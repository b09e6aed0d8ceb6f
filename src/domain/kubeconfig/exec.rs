//! Login plugins (`exec`) as kubectl runs them: input and output. The caller runs the plugin.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::problem::{Read, problem};
use super::section::{Section, scalar};
use crate::secret::Secret;

/// Environment variable with the input of a plugin.
pub const INPUT: &str = "KUBERNETES_EXEC_INFO";
/// Extension of a cluster that is passed to its plugin.
const CLUSTER_EXTENSION: &str = "client.authentication.k8s.io/exec";
const GROUP: &str = "client.authentication.k8s.io/";
/// Shorter values of the environment are not redacted: that would hide half of a plugin's output.
const SHORTEST_SECRET: usize = 6;
/// A word of upper-case letters, lower-case letters and digits counts as a token from this length on.
const SHORTEST_TOKEN: usize = 40;

/// `interactiveMode` of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interactive {
    /// It never uses standard input.
    Never,
    /// It uses standard input if that is a terminal.
    IfAvailable,
    /// It needs a terminal.
    Always,
}

/// The `exec` section of a user.
#[derive(Clone)]
pub struct Exec {
    version: &'static str,
    /// A name that is searched on PATH, or a path.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables in addition to those of this process.
    pub env: Vec<(String, Secret<String>)>,
    /// Message for people if the plugin is not installed.
    pub install_hint: Option<String>,
    /// Whether it may use the terminal.
    pub interactive: Interactive,
    provides_cluster: bool,
}

/// Credential that a plugin returned.
pub struct Credential {
    /// A bearer token.
    pub token: Option<Secret<String>>,
    /// A client certificate and its key, in PEM.
    pub certificate: Option<(String, Secret<String>)>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

impl Exec {
    /// The plugin of a user, if it has one.
    pub fn of(user: &Section) -> Read<Option<Self>> {
        if !user.has("exec") {
            return Ok(None);
        }
        let exec = Section::of("users[].user.exec", user.value("exec"))?;
        let Some(command) = exec.text("command")? else {
            return problem(exec.field("command"), "is missing");
        };
        let interactive = match exec.text("interactiveMode")?.as_deref() {
            None | Some("IfAvailable") => Interactive::IfAvailable,
            Some("Never") => Interactive::Never,
            Some("Always") => Interactive::Always,
            Some(_) => {
                return problem(exec.field("interactiveMode"), "must be Never, IfAvailable or Always");
            }
        };
        Ok(Some(Self {
            version: version(&exec)?,
            command,
            args: exec.texts("args")?,
            env: env(&exec)?,
            install_hint: exec.text("installHint")?,
            interactive,
            provides_cluster: exec.flag("provideClusterInfo")?,
        }))
    }

    /// Value of [`INPUT`].
    pub fn input(&self, cluster: &Section, interactive: bool) -> Read<String> {
        let mut spec = json!({ "interactive": interactive });
        if self.provides_cluster {
            let texts = ["server", "tls-server-name", "proxy-url"];
            let mut given = cluster.only(&texts, &["certificate-authority-data"])?;
            for key in ["insecure-skip-tls-verify", "disable-compression"] {
                if cluster.flag(key)? {
                    given[key] = true.into();
                }
            }
            if let Some(config) = cluster.extension(CLUSTER_EXTENSION) {
                given["config"] = config.clone();
            }
            spec["cluster"] = given;
        }
        let input = json!({ "apiVersion": self.version, "kind": "ExecCredential", "spec": spec });
        Ok(input.to_string())
    }

    /// Parses the standard output of a plugin. The error is the rest of a sentence about the plugin; it quotes nothing.
    pub fn credential(&self, output: &[u8], now: Timestamp) -> Result<Credential, String> {
        const NOT_ONE: &str = "wrote no ExecCredential in JSON or YAML to standard output";
        let text = std::str::from_utf8(output).map_err(|_| NOT_ONE)?;
        let options = serde_saphyr::options! {
            strict_booleans: true,
            with_snippet: false,
            budget: serde_saphyr::budget! { max_aliases: 0 },
        };
        let answer: Value = serde_saphyr::from_str_with_options(text, options).map_err(|_| NOT_ONE)?;
        if answer["kind"] != "ExecCredential" {
            return Err(NOT_ONE.to_owned());
        }
        if answer["apiVersion"] != self.version {
            return Err(format!("answers in another version than {}", self.version));
        }
        let field =
            |key: &str| answer["status"].get(key).and_then(scalar).filter(|text| !text.trim().is_empty());
        let certificate = match (field("clientCertificateData"), field("clientKeyData")) {
            (Some(certificate), Some(key)) => Some((certificate, Secret::new(key))),
            (None, None) => None,
            _ => {
                return Err(
                    "gave one of clientCertificateData and clientKeyData, and must give both".to_owned()
                );
            }
        };
        let token = field("token").map(|token| Secret::new(token.trim().to_owned()));
        if token.is_none() && certificate.is_none() {
            return Err("gave neither a token nor a client certificate".to_owned());
        }
        let expires = match field("expirationTimestamp").map(|text| text.parse::<Timestamp>()) {
            None => None,
            Some(Ok(end)) if end <= now => return Err(format!("gave a login that ended at {end}")),
            Some(Ok(end)) => Some(end),
            Some(Err(_)) => return Err("gave an expirationTimestamp that is no time".to_owned()),
        };
        Ok(Credential { token, certificate, expires })
    }

    /// Redacts a line of the plugin's standard error: values of its variables, and tokens.
    pub fn redacted(&self, line: &str) -> String {
        const HIDDEN: &str = "[redacted]";
        let mut line = line.to_owned();
        for (_, value) in &self.env {
            if value.expose().len() >= SHORTEST_SECRET {
                line = line.replace(value.expose().as_str(), HIDDEN);
            }
        }
        let words = line.split_inclusive(char::is_whitespace).map(|word| {
            // The person is asked to open it.
            if word.contains("://") {
                return word.to_owned();
            }
            let parts = word.split_inclusive(|c: char| !is_of_token(c));
            parts.map(|part| if is_token(part) { HIDDEN.to_owned() } else { part.to_owned() }).collect()
        });
        words.collect()
    }
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=_-.".contains(c)
}

fn is_token(part: &str) -> bool {
    let part = part.trim_end_matches(|c| !is_of_token(c));
    let has = |kind: fn(&char) -> bool| part.chars().any(|c| kind(&c));
    part.len() >= SHORTEST_TOKEN
        && !part.starts_with(['/', '.'])
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_lowercase)
        && has(char::is_ascii_digit)
}

fn version(exec: &Section) -> Read<&'static str> {
    let field = exec.field("apiVersion");
    let Some(text) = exec.text("apiVersion")? else { return problem(field, "is missing") };
    match text.strip_prefix(GROUP) {
        Some("v1") => Ok("client.authentication.k8s.io/v1"),
        Some("v1beta1") => Ok("client.authentication.k8s.io/v1beta1"),
        Some("v1alpha1") => {
            let rule =
                "is v1alpha1, which no kubectl runs any more: make the kubeconfig again, with a newer tool";
            problem(field, rule)
        }
        _ => problem(field, "must be client.authentication.k8s.io/v1 or v1beta1"),
    }
}

fn env(exec: &Section) -> Read<Vec<(String, Secret<String>)>> {
    let field = exec.field("env");
    let Some(list) = exec.value("env") else { return Ok(Vec::new()) };
    let variable = |entry: &Value| {
        let name = entry.get("name").and_then(scalar)?;
        let value = match entry.get("value") {
            None | Some(Value::Null) => String::new(),
            Some(value) => scalar(value)?,
        };
        let is_name = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        is_name.then(|| (name, Secret::new(value)))
    };
    let variables = list.as_array().and_then(|list| list.iter().map(variable).collect::<Option<Vec<_>>>());
    variables.map_or_else(|| problem(field, "must be a list of name and value"), Ok)
}

#[cfg(test)]
mod tests;
