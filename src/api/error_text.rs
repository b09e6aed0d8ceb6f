//! Texts of bounded length for errors. Callers, builders and clusters may send megabytes, but an error travels in
//! headers, which clients accept up to 8 or 16 KiB.

use std::fmt::{Display, Write};

/// Violations that one error lists; its message has the count of the others.
pub const LISTED: usize = 20;
/// Bytes of an error's message, as encoded in a header.
pub const MESSAGE: usize = 1_400;
/// Bytes of all violations of one error: in the message, repeated in the details, and with base64 they stay below 8
/// KiB.
const VIOLATIONS: usize = 3_000;
/// Bytes of a field's name in a violation.
const NAME: usize = 150;
/// Bytes of the text of a violation.
const RULE: usize = 400;

/// Replaces what was cut from a text.
const CUT: &str = "...";

/// Shortens a text to `most` bytes as `grpc-message` encodes it, where characters beyond ASCII count threefold. Escapes
/// control and invisible characters. What is cut is never formatted.
pub fn text(of: impl Display, most: usize) -> String {
    let mut brief = Brief { text: String::new(), left: most.saturating_sub(CUT.len()), fits: true };
    if write!(brief, "{of}").is_err() || !brief.fits {
        brief.text.push_str(CUT);
    }
    brief.text
}

struct Brief {
    text: String,
    left: usize,
    fits: bool,
}

impl Write for Brief {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for letter in text.chars() {
            let shown = Shown::of(letter);
            let Some(left) = self.left.checked_sub(shown.encoded_len()) else {
                self.fits = false;
                return Err(std::fmt::Error);
            };
            self.left = left;
            shown.push(&mut self.text);
        }
        Ok(())
    }
}

/// How a character is displayed.
enum Shown {
    Plain(char),
    Escaped(char),
}

impl Shown {
    fn of(letter: char) -> Self {
        let is_plain = matches!(letter, ' '..='~') || letter.escape_debug().eq([letter]);
        if is_plain { Self::Plain(letter) } else { Self::Escaped(letter) }
    }

    fn encoded_len(&self) -> usize {
        match self {
            // Percent-encoded in headers.
            Self::Plain('"' | '#' | '%' | '<' | '>' | '`' | '?' | '{' | '}' | ' ') => 3,
            Self::Plain(letter) if letter.is_ascii() => 1,
            Self::Plain(letter) => 3 * letter.len_utf8(),
            Self::Escaped(letter) => letter.escape_debug().count() + 4,
        }
    }

    fn push(&self, text: &mut String) {
        match self {
            Self::Plain(letter) => text.push(*letter),
            Self::Escaped(letter) => text.extend(letter.escape_debug()),
        }
    }
}

/// Violations of one error: at most [`LISTED`], shortened, and the count of the others.
#[derive(Debug, Default)]
pub struct Violations {
    listed: Vec<(String, String)>,
    size: usize,
    others: usize,
}

impl Violations {
    /// Lists or counts a violation.
    pub fn add(&mut self, name: impl Display, rule: impl Display) {
        if self.others == 0 && self.listed.len() < LISTED {
            let (name, rule) = (text(name, NAME), text(rule, RULE));
            let size = self.size + name.len() + rule.len() + 8;
            if size <= VIOLATIONS {
                self.size = size;
                self.listed.push((name, rule));
                return;
            }
        }
        self.others += 1;
    }

    /// Count of all, listed or not.
    pub fn count(&self) -> usize {
        self.listed.len() + self.others
    }

    /// One sentence for each listed violation, as far as they fit, and the count of the others.
    pub fn sentences(&self) -> String {
        let (mut sentences, mut said) = (String::new(), 0);
        let room = MESSAGE - " and 18446744073709551615 more problems".len() * 2;
        for (name, rule) in &self.listed {
            let separator = if said == 0 { "" } else { "; " };
            let longer = format!("{sentences}{separator}{name}: {rule}");
            if said > 0 && encoded_len(&longer) > room {
                break;
            }
            sentences = longer;
            said += 1;
        }
        match self.count() - said {
            0 => sentences,
            1 => sentences + "; and 1 more problem",
            more => format!("{sentences}; and {more} more problems"),
        }
    }

    /// Names and rules of the listed violations.
    pub fn into_listed(self) -> impl Iterator<Item = (String, String)> {
        self.listed.into_iter()
    }
}

/// Bytes of a text as `grpc-message` encodes it.
fn encoded_len(text: &str) -> usize {
    text.chars().map(|letter| Shown::of(letter).encoded_len()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::Status;

    use super::*;

    #[test]
    fn short_and_harmless_texts_stay_as_they_are() {
        for same in ["", "must be from 1 to 65535, got 0", r#""a\nb" is not a name"#, "Jörg"] {
            assert_eq!(text(same, RULE), same);
        }
    }

    #[test]
    fn long_texts_are_cut_and_invisible_characters_escaped() {
        assert_eq!(text("x".repeat(1 << 20), 20), format!("{}...", "x".repeat(17)));
        assert_eq!(text("a\n\u{1b}[31m\u{202e}\0", RULE), r"a\n\u{1b}[31m\u{202e}\0");
    }

    #[test]
    fn twenty_violations_are_listed_and_the_others_counted() {
        let mut violations = Violations::default();
        for at in 0..200_000 {
            violations.add(format_args!("spec.ports[{at}].port"), "must be from 1 to 65535, got 0");
        }
        let sentences = violations.sentences();
        assert!(sentences.starts_with("spec.ports[0].port: must be from 1 to 65535, got 0; spec.ports[1]"));
        let said = sentences.matches("must be").count();
        assert!(sentences.ends_with(&format!("; and {} more problems", 200_000 - said)), "{sentences}");
        assert_eq!(violations.into_listed().count(), LISTED);
        let mut one = Violations::default();
        one.add("id", "is required");
        assert_eq!(one.sentences(), "id: is required");
        one.add("spec", "is required");
        assert_eq!(one.sentences(), "id: is required; spec: is required");
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_asked_when_it_is_encoded(original in ".{0,300}", most in 10..200_usize) {
            let status = Status::internal(text(&original, most)).into_http::<tonic::body::Body>();
            let encoded = status.headers().get("grpc-message").map_or(0, http::HeaderValue::len);
            prop_assert!(encoded <= most, "{encoded}");
        }

        #[test]
        fn any_violations_fit_into_their_budget(all in proptest::collection::vec((".{0,200}", ".{0,600}"), 0..40)) {
            let mut violations = Violations::default();
            for (name, rule) in &all {
                violations.add(name, rule);
            }
            prop_assert_eq!(violations.count(), all.len());
            prop_assert!(encoded_len(&violations.sentences()) <= MESSAGE);
            let size: usize = violations.into_listed().map(|(name, rule)| name.len() + rule.len()).sum();
            prop_assert!(size <= VIOLATIONS);
        }
    }
}
