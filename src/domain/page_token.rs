//! Tokens of pages: after which workspace the next page begins, and a check that the token was made for this list.
//!
//! The check finds what was made up, cut off, or made for another filter or installation. It is no secret and guards nothing:
//! every page is filtered by what its caller may see.

use super::hash;

/// Digits of the check.
const CHECK: usize = 16;

/// The list that tokens are made for. Every replica of an installation makes the same.
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

    /// The workspace that a token names; `None` where it is not of this list.
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
    fn a_token_is_of_the_list_that_it_was_made_for_and_of_no_other() {
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
