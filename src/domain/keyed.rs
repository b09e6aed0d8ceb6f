//! What is derived from the installation's secret: digests of start requests, and owner tokens.
//!
//! A token is derived, not drawn: a repeated start gets the same answer whoever leads by then, without anything being
//! kept or waited for.

use std::fmt;

use ring::hmac;

use super::names::WorkspaceId;
use super::record::Digest;

/// Alphabet of owner tokens, as existing proxies know it.
const ALPHABET: &[u8; 65] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-.";
/// Length of an owner token in characters: 192 bits.
const TOKEN_LENGTH: usize = 32;

/// The installation's secret, as a key.
#[derive(Clone)]
pub struct Keyed {
    digests: hmac::Key,
    tokens: hmac::Key,
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed(***)")
    }
}

impl Keyed {
    /// Derives one key a purpose from the installation's secret.
    pub fn new(secret: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derive = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose).as_ref());
        Self { digests: derive(b"spaceport/start-digest"), tokens: derive(b"spaceport/owner-token") }
    }

    /// Digest of a start request's canonical form.
    pub fn digest(&self, canonical: &[u8]) -> Digest {
        let tag = hmac::sign(&self.digests, canonical);
        let mut hex = String::with_capacity(64);
        for byte in tag.as_ref() {
            for half in [byte >> 4, byte & 15] {
                hex.push(char::from(b"0123456789abcdef"[usize::from(half)]));
            }
        }
        Digest(hex)
    }

    /// The owner token of one generation of a workspace.
    pub fn owner_token(&self, id: &WorkspaceId, generation: u32) -> String {
        let mut token = String::with_capacity(TOKEN_LENGTH);
        let mut block = 0u32;
        while token.len() < TOKEN_LENGTH {
            let tag = hmac::sign(&self.tokens, format!("{id}/{generation}/{block}").as_bytes());
            // Bytes from 195 up would make the first letters likelier: 195 is the largest multiple of 65 in a byte.
            let letters = tag.as_ref().iter().filter(|byte| **byte < 195);
            token.extend(letters.map(|byte| char::from(ALPHABET[usize::from(byte % 65)])));
            block += 1;
        }
        token.truncate(TOKEN_LENGTH);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_for_the_same_generation_and_another_for_the_next() {
        let keyed = Keyed::new(&[7; 32]);
        let id: WorkspaceId = "ws-1".parse().unwrap();
        let token = keyed.owner_token(&id, 1);
        assert_eq!(token.len(), 32);
        assert!(token.bytes().all(|b| ALPHABET.contains(&b)));
        assert_eq!(token, keyed.owner_token(&id, 1));
        assert_ne!(token, keyed.owner_token(&id, 2));
        assert_ne!(token, Keyed::new(&[8; 32]).owner_token(&id, 1));
    }

    #[test]
    fn every_letter_of_a_token_is_as_likely_as_any_other() {
        let keyed = Keyed::new(&[7; 32]);
        let (tokens, mut counts) = (20_000_u32, [0_u32; 256]);
        for n in 0..tokens {
            let id: WorkspaceId = format!("ws-{n}").parse().unwrap();
            keyed.owner_token(&id, 1).bytes().for_each(|letter| counts[usize::from(letter)] += 1);
        }
        // A byte modulo 65 would give the last four letters a quarter less than the others.
        let expected = tokens * 32 / 65;
        for letter in ALPHABET {
            let count = counts[usize::from(*letter)];
            assert!(count.abs_diff(expected) < expected / 20, "{}: {count}", char::from(*letter));
        }
    }

    #[test]
    fn a_digest_depends_on_the_secret_and_the_request() {
        let keyed = Keyed::new(&[7; 32]);
        assert_eq!(keyed.digest(b"a"), keyed.digest(b"a"));
        assert_ne!(keyed.digest(b"a"), keyed.digest(b"b"));
        assert_ne!(keyed.digest(b"a"), Keyed::new(&[8; 32]).digest(b"a"));
        assert_eq!(keyed.digest(b"a").0.len(), 64);
    }
}
