//! Encoding of values: JSON with a schema version, so that a later schema is detected.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Error, Result};

/// Current schema version of all values.
const VERSION: u64 = 1;

#[derive(Serialize)]
struct Written<'a, T> {
    v: u64,
    #[serde(flatten)]
    value: &'a T,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// Encodes a value. It fails only for values that JSON cannot represent, which no caller has.
pub(super) fn encode<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(&Written { v: VERSION, value }).map_err(|error| malformed(key, &error))
}

/// Decodes a value. An unknown version and a malformed value are different errors.
pub(super) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    let Version { v } = serde_json::from_slice(bytes).map_err(|error| malformed(key, &error))?;
    if v != VERSION {
        return Err(Error::UnknownVersion { key: key.to_owned(), version: v });
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(key, &error))
}

/// Decodes a value that is a name.
pub(super) fn decode_name<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    bytes: &[u8],
) -> Result<T> {
    let reason = |reason: String| Error::Malformed { key: key.to_owned(), reason };
    let text = std::str::from_utf8(bytes).map_err(|_| reason("not text".to_owned()))?;
    text.parse().map_err(|error: T::Err| reason(error.to_string()))
}

fn malformed(key: &str, error: &serde_json::Error) -> Error {
    // serde_json's message may quote the value; its category and position never do.
    let reason = format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column());
    Error::Malformed { key: key.to_owned(), reason: reason.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
    }

    #[test]
    fn a_value_comes_back_and_shows_its_version() {
        let thing = Thing { name: "a".to_owned() };
        let bytes = encode("k", &thing).unwrap();
        assert_eq!(bytes, br#"{"v":1,"name":"a"}"#);
        assert_eq!(decode::<Thing>("k", &bytes).unwrap(), thing);
    }

    #[test]
    fn a_later_version_is_named_with_its_key() {
        let error = decode::<Thing>("/s/k", br#"{"v":2,"nom":"a"}"#).unwrap_err();
        assert!(matches!(&error, Error::UnknownVersion { key, version: 2 } if key == "/s/k"), "{error}");
    }

    #[test]
    fn a_broken_value_is_named_by_its_key_and_never_shown() {
        for bytes in [&br#"{"v":1,"name":{"hunter2":1}}"#[..], b"hunter2", br#"{"name":"hunter2"}"#] {
            let error = decode::<Thing>("/s/k", bytes).unwrap_err().to_string();
            assert!(error.starts_with("key /s/k cannot be read") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn any_bytes_are_a_value_or_malformed_without_quoting_them() {
        let seed = br#"{"v":1,"name":"hunter2","count":3}"#;
        fuzz::target("values", &[seed, br#"{"v":18446744073709551615}"#, b"null"], |input| {
            if let Err(error) = decode::<Thing>("k", input) {
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        });
    }
}
