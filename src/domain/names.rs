//! Names of clusters, workspaces and other objects. A value of one of these types is valid: parsing validates.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An invalid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {rule}, got {got:?}")]
pub struct Error {
    /// Kind of the name, such as `workspace id`.
    pub what: &'static str,
    /// The rule that is broken.
    pub rule: &'static str,
    /// The text as given, shortened to 80 characters.
    pub got: String,
}

const DNS_LABEL: &str =
    "must be 1 to 63 lower-case letters, digits or dashes, beginning and ending with a letter or digit";
const DNS_SUBDOMAIN: &str = "must be 1 to 253 lower-case letters, digits, dashes or dots, each part between dots beginning and ending with a letter or digit";
const SECRET_KEY: &str =
    "must be 1 to 253 letters, digits, dashes, underscores or dots, and not begin with two dots";
const LABEL_VALUE: &str = "must be 1 to 63 letters, digits, dots, dashes or underscores, beginning and ending with a letter or digit";

/// The first 80 characters of a text, for errors, because callers may send megabytes.
pub fn quoted(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether a text is an RFC 1123 label, which Kubernetes requires of namespaces and host names.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<u8>| b.is_some_and(|b| b != b'-');
    text.len() <= 63 && text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().next_back())
}

/// Whether Kubernetes accepts a text as a non-empty label value.
pub fn is_label_value(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= 63 && text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().next_back())
}

/// Whether a text is an RFC 1123 subdomain, which Kubernetes requires of most object names. Its parts have no length limit.
pub fn is_dns_subdomain(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<u8>| b.is_some_and(|b| b != b'-');
    let part =
        |part: &str| part.bytes().all(inner) && edge(part.bytes().next()) && edge(part.bytes().next_back());
    text.len() <= 253 && text.split('.').all(part)
}

/// Whether Kubernetes accepts a text as a key of a Secret.
fn is_secret_key(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(inner) && text != "." && !text.starts_with("..")
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident, $rule:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                if $check(text) {
                    return Ok(Self(text.into()));
                }
                Err(Error { what: $what, rule: $rule, got: quoted(text) })
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A member cluster, unique in the installation.
    ClusterName, "cluster name", is_dns_label, DNS_LABEL
);
name!(
    /// A region such as `europe`: any name that the admin chooses.
    Region, "region", is_dns_label, DNS_LABEL
);
name!(
    /// A Kubernetes namespace.
    Namespace, "namespace", is_dns_label, DNS_LABEL
);
name!(
    /// The instance id: `StartWorkspaceRequest.id`, and the name of the Workspace resource.
    WorkspaceId, "workspace id", is_dns_label, DNS_LABEL
);
name!(
    /// The long-lived workspace id (`metadata.meta_id`); it becomes a host name, so it is a DNS label.
    MetaId, "meta id", is_dns_label, DNS_LABEL
);
name!(
    /// The owner; it becomes a label value.
    OwnerId, "owner", is_label_value, LABEL_VALUE
);
name!(
    /// A workspace class.
    ClassId, "workspace class", is_label_value, LABEL_VALUE
);
name!(
    /// A Secret of Kubernetes.
    SecretName, "Secret name", is_dns_subdomain, DNS_SUBDOMAIN
);
name!(
    /// A key in a Secret.
    SecretKey, "Secret key", is_secret_key, SECRET_KEY
);

impl WorkspaceId {
    /// Suffix of the node agent's folder of a workspace; the folder of the content has the id as name.
    pub const DAEMON_SUFFIX: &str = "-daemon";

    /// The id whose node agent's folder has the name of this id's content folder.
    pub fn daemon_of(&self) -> Option<Self> {
        self.0.strip_suffix(Self::DAEMON_SUFFIX)?.parse().ok()
    }

    /// The id whose content folder has the name of this id's node agent's folder; `None` if it is too long for an id.
    pub fn daemon(&self) -> Option<Self> {
        format!("{self}{}", Self::DAEMON_SUFFIX).parse().ok()
    }
}

impl ClusterName {
    /// Name of the host cluster in errors and logs.
    pub fn of_host() -> Self {
        Self("host".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_the_rule_of_what_it_becomes_in_kubernetes() {
        assert!("eu-1".parse::<ClusterName>().is_ok());
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &"x".repeat(64)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
        assert!("Jane.Doe_1".parse::<OwnerId>().is_ok());
        for bad in ["", ".a", "a b", "a/b"] {
            assert!(bad.parse::<OwnerId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_names_what_and_the_rule_and_shortens_the_text() {
        let error = "Ü".repeat(100).parse::<Region>().unwrap_err();
        assert!(error.to_string().starts_with("region must be 1 to 63"), "{error}");
        assert_eq!(error.got.chars().count(), 80);
    }
}
