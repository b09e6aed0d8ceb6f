//! Page tokens: the last workspace of the page, and a checksum of the list that the token belongs to.
//!
//! The checksum detects tokens that are made up, truncated, or from another filter or installation. It is not a security
//! measure: every page is filtered by what its caller may see.

use super::hash;

/// Hex digits of the checksum.
const CHECK: usize = 16;

/// The list that tokens belong to. All replicas of an installation make equal tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(String);

impl List {
    /// The list of an installation that a filter selects.
    pub fn new(installation: &str, filter: impl std::fmt::Debug) -> Self {
        Self(format!("{installation}/{filter:?}"))
    }

    /// The token of the page after this workspace.
    pub fn token(&self, after: &str) -> String {
        format!("{after}.{}", self.check(after))
    }

    /// The workspace that a token names; `None` if the token is not of this list.
    pub fn after<'a>(&self, token: &'a str) -> Option<&'a str> {
        let (after, check) = token.rsplit_once('.')?;
        (check == self.check(after)).then_some(after)
    }

    fn check(&self, after: &str) -> String {
        let mut hash = hash::hex(&format!("page/{}/{after}", self.0));
        hash.truncate(CHECK);
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_valid_only_for_its_list() {
        let list = List::new("i", ("jane", ""));
        let token = list.token("ws-1");
        assert_eq!(List::new("i", ("jane", "")).after(&token), Some("ws-1"));
        for other in [List::new("i", ("", "jane")), List::new("j", ("jane", ""))] {
            assert_eq!(other.after(&token), None);
        }
        let digits = token.trim_start_matches("ws-1");
        let changed = [format!("ws-2{digits}"), format!("{token}0"), token[..token.len() - 1].to_owned()];
        let made_up = ["", "ws-1", "ws-1.", ".", "ws-1.0123456789abcdef", "\0", "ü.x"].map(str::to_owned);
        for bad in changed.iter().chain(&made_up) {
            assert_eq!(list.after(bad), None, "{bad}");
        }
    }
}
