//! Where a kubeconfig is that is read and not kept: a key of a Secret in the cluster that the manager itself runs in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::{self, Namespace, SecretKey, SecretName};

/// The key where none is named.
pub const DEFAULT_KEY: &str = "kubeconfig";

/// A key of a Secret. As text `namespace/name:key`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Where the Secret is.
    pub namespace: Namespace,
    /// Its name.
    pub name: SecretName,
    /// The key in it.
    pub key: SecretKey,
}

/// A text that names no key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has not the form.
    #[error("must be NAMESPACE/NAME or NAMESPACE/NAME:KEY")]
    Form,
    /// A part of it breaks a rule.
    #[error(transparent)]
    Name(#[from] names::Error),
}

impl SecretRef {
    /// Of parts as a form or a file has them; an empty key is [`DEFAULT_KEY`].
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
    fn the_key_is_kubeconfig_where_none_is_named() {
        let short: SecretRef = "spaceport/eu.login".parse().unwrap();
        assert_eq!(short.to_string(), "spaceport/eu.login:kubeconfig");
        assert_eq!(short.to_string().parse(), Ok(short.clone()));
        assert_eq!(SecretRef::of("spaceport", "eu.login", ""), Ok(short));
        let long: SecretRef = "spaceport/eu:admin.conf".parse().unwrap();
        assert_eq!(long.key.as_str(), "admin.conf");
    }

    #[test]
    fn what_names_no_key_of_a_secret_is_refused() {
        for bad in
            ["", "eu", "spaceport/", "/eu", "a/b/c", "a/b:", "a/b:c/d", "A/b", "a/B", "a/b:c:d", "a/b:.."]
        {
            assert!(bad.parse::<SecretRef>().is_err(), "{bad:?}");
        }
    }
}
