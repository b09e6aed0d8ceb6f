//! Digest of a start request: tells a repeated call from a different one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// HMAC of the canonical form of a start request, in lower-case hex. It distinguishes a repeated call from a different one,
/// and does not reveal secrets of the request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(pub String);

/// Digest of adopted workspaces. No request has it, because it is not hex.
const ADOPTED: &str = "adopted";

impl Digest {
    /// Digest of a workspace that was adopted, not started here.
    pub fn adopted() -> Self {
        Self(ADOPTED.to_owned())
    }

    /// Whether the workspace was adopted, not started here.
    pub fn is_adopted(&self) -> bool {
        self.0 == ADOPTED
    }

    /// Parses the digest in a resource's annotation; `None` if the text is not a digest of a start.
    pub fn of_start(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 64 && is_hex).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_adopted_workspaces_is_never_that_of_a_start() {
        let digest = crate::signing::SigningKeys::new(1, &[7; 32]).digest(b"a start");
        assert_eq!(Digest::of_start(&digest.0), Some(digest));
        for other in [ADOPTED, "", &"A".repeat(64)] {
            assert_eq!(Digest::of_start(other), None);
        }
        assert!(Digest::adopted().is_adopted());
    }
}
