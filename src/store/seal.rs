//! Encrypts secrets in etcd: AES-256-GCM with keys from the configuration.
//!
//! A sealed text is bound to its purpose, such as the cluster of a kubeconfig: moved to another key it cannot be opened. The
//! first key seals and all keys open, so a key is rotated by putting a new one in front.

use std::fmt;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};

use domain::secret::Secret;

/// Bytes of a sealing key.
const KEY_LEN: usize = 32;

/// A key of the configuration.
#[derive(Debug, Clone)]
pub struct SealingKey {
    /// Id of the key in sealed texts and errors.
    pub id: String,
    /// 32 random bytes.
    pub secret: Secret<Vec<u8>>,
}

/// A text that only a [`Sealer`] with its key can open.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    key_id: String,
    #[serde(with = "base64_bytes")]
    nonce: Vec<u8>,
    #[serde(with = "base64_bytes")]
    ciphertext: Vec<u8>,
}

/// Seals and opens. Cheap to share behind an `Arc`.
pub struct Sealer {
    keys: Vec<(String, LessSafeKey)>,
}

/// A text that cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No key was given.
    #[error("no sealing key is configured")]
    NoKey,
    /// A key of the wrong length.
    #[error("sealing key {id} has {length} bytes, must have 32")]
    KeyLength {
        /// The key.
        id: String,
        /// Its length in bytes.
        length: usize,
    },
    /// Two keys of the same id.
    #[error("sealing key {id} is given twice")]
    KeyTwice {
        /// The key.
        id: String,
    },
    /// The text was sealed with a key that is not configured.
    #[error("{purpose} is sealed with key {id}, which is not configured")]
    MissingKey {
        /// What the text is.
        purpose: String,
        /// The key.
        id: String,
    },
    /// The text was changed, moved from another place, or sealed with another key of the same id.
    #[error(
        "{purpose} cannot be opened with key {id}: it was changed, moved, or sealed with other key material"
    )]
    Refused {
        /// What the text is.
        purpose: String,
        /// The key.
        id: String,
    },
    /// The system has no randomness, or the text is too long.
    #[error("{purpose} cannot be sealed")]
    Failed {
        /// What the text is.
        purpose: String,
    },
}

impl Sealer {
    /// The first key seals, all open.
    pub fn new(keys: Vec<SealingKey>) -> Result<Self, Error> {
        if keys.is_empty() {
            return Err(Error::NoKey);
        }
        let mut ready: Vec<(String, LessSafeKey)> = Vec::with_capacity(keys.len());
        for SealingKey { id, secret } in keys {
            if ready.iter().any(|(other, _)| *other == id) {
                return Err(Error::KeyTwice { id });
            }
            let length = secret.expose().len();
            match UnboundKey::new(&AES_256_GCM, secret.expose()) {
                Ok(key) if length == KEY_LEN => ready.push((id, LessSafeKey::new(key))),
                _ => return Err(Error::KeyLength { id, length }),
            }
        }
        Ok(Self { keys: ready })
    }

    /// Seals `plain` for `purpose`, which must be given again to open it.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Result<Sealed, Error> {
        let failed = || Error::Failed { purpose: purpose.to_owned() };
        let (id, key) = self.keys.first().ok_or(Error::NoKey)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| failed())?;
        let mut text = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound_to(purpose, id), &mut text)
            .map_err(|_| failed())?;
        Ok(Sealed { key_id: id.clone(), nonce: nonce.to_vec(), ciphertext: text })
    }

    /// Opens a text that was sealed for `purpose`.
    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Secret<Vec<u8>>, Error> {
        let id = &sealed.key_id;
        let (_, key) = self
            .keys
            .iter()
            .find(|(known, _)| known == id)
            .ok_or_else(|| Error::MissingKey { purpose: purpose.to_owned(), id: id.clone() })?;
        let refused = |_| Error::Refused { purpose: purpose.to_owned(), id: id.clone() };
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(refused)?;
        let mut text = sealed.ciphertext.clone();
        let length = key.open_in_place(nonce, bound_to(purpose, id), &mut text).map_err(refused)?.len();
        text.truncate(length);
        Ok(Secret::new(text))
    }

    /// Whether it is sealed with the first key; otherwise it must be resealed before its key is removed.
    pub fn is_current(&self, sealed: &Sealed) -> bool {
        self.keys.first().is_some_and(|(id, _)| *id == sealed.key_id)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes, key {:?})", self.ciphertext.len(), self.key_id)
    }
}

/// Additional authenticated data. It contains the lengths, so that different pairs have different data.
fn bound_to(purpose: &str, key: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("spaceport/1/{}:{purpose}/{key}", purpose.len()).into_bytes())
}

mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(|_| D::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests;
