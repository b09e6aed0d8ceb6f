//! Derives digests of start requests and owner tokens from the installation's secret, by HMAC.
//!
//! A token is derived and not random, so that a repeated start gets the same answer from any leader without storing tokens. Its
//! inputs are the secret and a nonce that is recorded with the start: a move keeps the nonce, and a new start of the same id has
//! another one. The secret has versions; a record names the version that it used.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::names::WorkspaceId;

/// Alphabet of owner tokens, as existing proxies know it.
const ALPHABET: &[u8; 65] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-.";
/// Length of an owner token in characters: 192 bits.
const TOKEN_LENGTH: usize = 32;
/// Characters of the longest nonce.
const NONCE_MOST: usize = 64;
/// Version of the secret of records from before secrets had versions.
pub const FIRST_VERSION: u32 = 1;

/// Inputs of the derivation for one start. Its text, `VERSION.NONCE`, is in the record and in the Workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keying {
    /// Version of the installation's secret.
    pub secret: u32,
    /// Random for each start.
    pub nonce: String,
}

impl Keying {
    /// Version of the secret of a record; [`FIRST_VERSION`] for records from before versions.
    pub fn version(keying: Option<&Self>) -> u32 {
        keying.map_or(FIRST_VERSION, |keying| keying.secret)
    }
}

impl fmt::Display for Keying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.secret, self.nonce)
    }
}

impl FromStr for Keying {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "must be VERSION.NONCE";
        let (secret, nonce) = text.split_once('.').ok_or(RULE)?;
        let is_nonce =
            (1..=NONCE_MOST).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_alphanumeric());
        let secret = secret.parse().map_err(|_| RULE)?;
        if is_nonce { Ok(Self { secret, nonce: nonce.to_owned() }) } else { Err(RULE) }
    }
}

/// HMAC keys of the installation's current and former secrets, by version.
#[derive(Clone)]
pub struct SigningKeys {
    current: u32,
    keys: BTreeMap<u32, Keys>,
    newest: Keys,
}

/// One key for each purpose.
#[derive(Clone)]
struct Keys {
    digests: hmac::Key,
    tokens: hmac::Key,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(***)")
    }
}

impl Keys {
    fn new(secret: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derive = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose).as_ref());
        Self { digests: derive(b"spaceport/start-digest"), tokens: derive(b"spaceport/owner-token") }
    }

    fn digest(&self, canonical: &[u8]) -> Digest {
        Digest(HEXLOWER.encode(hmac::sign(&self.digests, canonical).as_ref()))
    }

    fn token(&self, of: &str) -> String {
        let mut token = String::with_capacity(TOKEN_LENGTH);
        let mut block = 0u32;
        while token.len() < TOKEN_LENGTH {
            let tag = hmac::sign(&self.tokens, format!("{of}/{block}").as_bytes());
            // Bytes from 195 up would make the first characters more likely: 195 is the largest multiple of 65 in a byte.
            let letters = tag.as_ref().iter().filter(|byte| **byte < 195);
            token.extend(letters.map(|byte| char::from(ALPHABET[usize::from(byte % 65)])));
            block += 1;
        }
        token.truncate(TOKEN_LENGTH);
        token
    }
}

impl SigningKeys {
    /// Keys of the current secret, which new starts use.
    pub fn new(version: u32, secret: &[u8]) -> Self {
        let newest = Keys::new(secret);
        Self { current: version, keys: [(version, newest.clone())].into(), newest }
    }

    /// Adds a former secret, which records still name.
    #[must_use]
    pub fn and(mut self, version: u32, secret: &[u8]) -> Self {
        self.keys.entry(version).or_insert_with(|| Keys::new(secret));
        self
    }

    /// Inputs for a new start with this nonce.
    pub fn keying(&self, nonce: String) -> Keying {
        Keying { secret: self.current, nonce }
    }

    /// Digest of a start request's canonical form with the current secret.
    pub fn digest(&self, canonical: &[u8]) -> Digest {
        self.newest.digest(canonical)
    }

    /// Digest with the secret of an earlier start; `None` if that secret is no longer kept.
    pub fn digest_of(&self, keying: Option<&Keying>, canonical: &[u8]) -> Option<Digest> {
        Some(self.keys.get(&Keying::version(keying))?.digest(canonical))
    }

    /// The owner token of a start. Starts from before nonces use the generation instead.
    pub fn owner_token(&self, id: &WorkspaceId, generation: u32, keying: Option<&Keying>) -> String {
        let keys = self.keys.get(&Keying::version(keying)).unwrap_or(&self.newest);
        match keying {
            Some(Keying { nonce, .. }) => keys.token(&format!("{id}/nonce/{nonce}")),
            None => keys.token(&format!("{id}/{generation}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keying(secret: u32, nonce: &str) -> Keying {
        Keying { secret, nonce: nonce.to_owned() }
    }

    #[test]
    fn a_token_depends_on_the_start_and_not_on_the_generation() {
        let keyed = SigningKeys::new(1, &[7; 32]);
        let id: WorkspaceId = "ws-1".parse().unwrap();
        let first = keying(1, "a");
        let token = keyed.owner_token(&id, 1, Some(&first));
        assert_eq!(token.len(), 32);
        assert!(token.bytes().all(|b| ALPHABET.contains(&b)));
        assert_eq!(token, keyed.owner_token(&id, 2, Some(&first)), "a move keeps it");
        assert_ne!(token, keyed.owner_token(&id, 1, Some(&keying(1, "b"))), "an id that is used again");
        assert_ne!(token, keyed.owner_token(&id, 1, None));
        assert_ne!(token, SigningKeys::new(1, &[8; 32]).owner_token(&id, 1, Some(&first)));
    }

    #[test]
    fn a_start_without_a_nonce_keeps_its_token() {
        let keyed = SigningKeys::new(2, &[8; 32]).and(1, &[7; 32]);
        let id: WorkspaceId = "ws-1".parse().unwrap();
        // The derivation of earlier versions.
        let before = Keys::new(&[7; 32]).token("ws-1/1");
        assert_eq!(keyed.owner_token(&id, 1, None), before);
        assert_ne!(keyed.owner_token(&id, 2, None), before);
    }

    #[test]
    fn a_new_secret_leaves_tokens_and_digests_of_earlier_starts_as_they_are() {
        let before = SigningKeys::new(1, &[7; 32]);
        let after = SigningKeys::new(2, &[8; 32]).and(1, &[7; 32]);
        let (id, old): (WorkspaceId, _) = ("ws-1".parse().unwrap(), before.keying("a".to_owned()));
        assert_eq!(after.owner_token(&id, 1, Some(&old)), before.owner_token(&id, 1, Some(&old)));
        assert_eq!(after.digest_of(Some(&old), b"x"), Some(before.digest(b"x")));
        assert_eq!(after.digest_of(None, b"x"), Some(before.digest(b"x")));
        assert_ne!(after.digest(b"x"), before.digest(b"x"));
        assert_eq!(after.keying("b".to_owned()).secret, 2);
        assert_eq!(after.digest_of(Some(&keying(9, "a")), b"x"), None, "it is not kept");
    }

    #[test]
    fn keying_is_parsed_from_its_own_text() {
        let written = keying(3, "0f").to_string();
        assert_eq!(written.parse(), Ok(keying(3, "0f")));
        for bad in ["", "3", "3.", ".a", "x.a", "3.a/b", "-1.a"] {
            assert!(bad.parse::<Keying>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_letter_of_a_token_is_as_likely_as_any_other() {
        let keyed = SigningKeys::new(1, &[7; 32]);
        let (tokens, mut counts) = (20_000_u32, [0_u32; 256]);
        for n in 0..tokens {
            let id: WorkspaceId = format!("ws-{n}").parse().unwrap();
            keyed.owner_token(&id, 1, None).bytes().for_each(|letter| counts[usize::from(letter)] += 1);
        }
        // A byte modulo 65 would make the last characters less likely than the others.
        let expected = tokens * 32 / 65;
        for letter in ALPHABET {
            let count = counts[usize::from(*letter)];
            assert!(count.abs_diff(expected) < expected / 20, "{}: {count}", char::from(*letter));
        }
    }

    #[test]
    fn a_digest_depends_on_the_secret_and_the_request() {
        let keyed = SigningKeys::new(1, &[7; 32]);
        assert_eq!(keyed.digest(b"a"), keyed.digest(b"a"));
        assert_ne!(keyed.digest(b"a"), keyed.digest(b"b"));
        assert_ne!(keyed.digest(b"a"), SigningKeys::new(1, &[8; 32]).digest(b"a"));
        assert_eq!(keyed.digest(b"a").0.len(), 64);
    }
}
