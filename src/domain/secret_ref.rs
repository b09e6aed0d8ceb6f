//! Reference to a kubeconfig that Spaceport does not store: a key of a Secret in the host cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::{self, Namespace, SecretKey, SecretName};

/// Default key.
pub const DEFAULT_KEY: &str = "kubeconfig";

/// A key of a Secret. As text `namespace/name:key`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Namespace of the Secret.
    pub namespace: Namespace,
    /// Name of the Secret.
    pub name: SecretName,
    /// Key in the Secret.
    pub key: SecretKey,
}

/// A text that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text does not have the form.
    #[error("must be NAMESPACE/NAME or NAMESPACE/NAME:KEY")]
    Form,
    /// A part of it is invalid.
    #[error(transparent)]
    Name(#[from] names::Error),
}

impl SecretRef {
    /// Parses the parts; an empty key is [`DEFAULT_KEY`].
    pub fn of(namespace: &str, name: &str, key: &str) -> Result<Self, names::Error> {
        let key = if key.is_empty() { DEFAULT_KEY } else { key };
        Ok(Self { namespace: namespace.parse()?, name: name.parse()?, key: key.parse()? })
    }
}

impl FromStr for SecretRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (namespace, rest) = text.split_once('/').ok_or(Error::Form)?;
        let (name, key) = rest.split_once(':').unwrap_or((rest, DEFAULT_KEY));
        if key.is_empty() {
            return Err(Error::Form);
        }
        Ok(Self::of(namespace, name, key)?)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_key_is_kubeconfig() {
        let short: SecretRef = "spaceport/eu.login".parse().unwrap();
        assert_eq!(short.to_string(), "spaceport/eu.login:kubeconfig");
        assert_eq!(short.to_string().parse(), Ok(short.clone()));
        assert_eq!(SecretRef::of("spaceport", "eu.login", ""), Ok(short));
        let long: SecretRef = "spaceport/eu:admin.conf".parse().unwrap();
        assert_eq!(long.key.as_str(), "admin.conf");
    }

    #[test]
    fn invalid_secret_references_are_rejected() {
        for bad in
            ["", "eu", "spaceport/", "/eu", "a/b/c", "a/b:", "a/b:c/d", "A/b", "a/B", "a/b:c:d", "a/b:.."]
        {
            assert!(bad.parse::<SecretRef>().is_err(), "{bad:?}");
        }
    }
}
