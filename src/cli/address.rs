//! The address of a server.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use url::Url;

use runtime::tls::is_loopback;

/// An address that may be used: TLS anywhere, plaintext on this machine only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it uses TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| format!("{text:?} must be https://HOST:PORT or http://LOOPBACK:PORT"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an address has no user and no password: certificates say who calls".to_owned());
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            // Not quoted: a query may hold a token.
            return Err("an address is a scheme, a host and a port only".to_owned());
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(format!("{text:?} is not on this machine, and plaintext goes no further: use https"));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_this_machine() {
        for good in ["http://127.0.0.1:80", "http://[::1]:80", "http://localhost:1", "https://a.example:443"]
        {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1:80",
            "http://a.example",
            "a.example:80",
            "ftp://localhost",
            "",
            "http://127.0.0.1.example",
            "https://jane:hunter2@a.example",
            "https://a.example/grpc",
            "https://a.example?x=1",
        ] {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
