//! Durations as Go writes them, because configuration files and existing clients do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::names::quoted;

#[cfg(test)]
mod tests;

/// Why a text is not a duration. The message quotes the text and says the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A number or a sign is missing.
    #[error("{0:?} is not a duration such as 1h30m, 1.5s or 300ms")]
    Invalid(String),
    /// A number without a unit.
    #[error("{0:?} lacks a unit: one of ns, us, ms, s, m, h")]
    MissingUnit(String),
    /// An unknown unit.
    #[error("{text:?} has an unknown unit {unit:?}: one of ns, us, ms, s, m, h")]
    UnknownUnit {
        /// The parsed text.
        text: String,
        /// The unknown unit in it.
        unit: String,
    },
    /// More than about 292 years.
    #[error("{0:?} is longer than a duration can be (about 292 years)")]
    Overflow(String),
    /// A negative duration that must not be negative.
    #[error("{0} is negative")]
    Negative(GoDuration),
}

/// A signed number of nanoseconds that reads and prints exactly as Go's `time.Duration`.
///
/// Serializes as its text; deserializes from a text or from a number of nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GoDuration(i64);

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// One more than the largest `i64`: the magnitude of the most negative duration.
const LIMIT: u64 = 1 << 63;

impl GoDuration {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds; saturates.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// In nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whether it is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// As the standard library's unsigned duration.
    pub fn to_std(self) -> Result<Duration, Error> {
        u64::try_from(self.0).map(Duration::from_nanos).map_err(|_| Error::Negative(self))
    }

    /// `%02dh%02dm`, rounded to the minute (halves away from zero), as messages about timeouts show it.
    pub fn hours_minutes(self) -> String {
        let minutes = (self.0.unsigned_abs() + MINUTE / 2) / MINUTE;
        let sign = if self.0 < 0 && minutes > 0 { "-" } else { "" };
        format!("{sign}{:02}h{:02}m", minutes / 60, minutes % 60)
    }
}

impl From<Duration> for GoDuration {
    /// Saturates at about 292 years.
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl FromStr for GoDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(Error::Invalid(quoted(text)));
        }
        let mut nanos = 0_u64;
        while !rest.is_empty() {
            let (part, after) = parse_part(rest, text)?;
            nanos = nanos.checked_add(part).filter(|sum| *sum <= LIMIT).ok_or_else(|| overflow(text))?;
            rest = after;
        }
        if negative {
            // -(2^63) is the one value whose magnitude does not fit: wrapping gives exactly that.
            return Ok(Self(0_i64.wrapping_sub_unsigned(nanos)));
        }
        i64::try_from(nanos).map(Self).map_err(|_| overflow(text))
    }
}

/// Parses one number with its unit; returns its nanoseconds and the rest of the text.
fn parse_part<'a>(rest: &'a str, text: &str) -> Result<(u64, &'a str), Error> {
    let (whole_digits, after_whole) = split_digits(rest);
    let (fraction_digits, after_number) = match after_whole.strip_prefix('.') {
        Some(after_dot) => split_digits(after_dot),
        None => ("", after_whole),
    };
    if whole_digits.is_empty() && fraction_digits.is_empty() {
        return Err(Error::Invalid(quoted(text)));
    }
    let unit_end = after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
    let (unit_name, after) = after_number.split_at(unit_end);
    if unit_name.is_empty() {
        return Err(Error::MissingUnit(quoted(text)));
    }
    let unit = unit_nanos(unit_name)
        .ok_or_else(|| Error::UnknownUnit { text: quoted(text), unit: quoted(unit_name) })?;
    let whole = if whole_digits.is_empty() { Ok(0) } else { whole_digits.parse::<u64>() };
    whole
        .ok()
        .and_then(|whole| whole.checked_mul(unit))
        .and_then(|nanos| nanos.checked_add(fraction_nanos(fraction_digits, unit)))
        .filter(|nanos| *nanos <= LIMIT)
        .map(|nanos| (nanos, after))
        .ok_or_else(|| overflow(text))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn unit_nanos(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        // U+00B5 (micro sign) and U+03BC (Greek mu) look alike and are both in use.
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    })
}

/// Go's arithmetic, floating point included, so that `0.3333333333333333333h` is 20 minutes here, too.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product is below one unit, which is far below 2^53, and Go truncates it the same way"
)]
fn fraction_nanos(digits: &str, unit: u64) -> u64 {
    let mut value = 0_u64;
    let mut scale = 1_f64;
    for digit in digits.bytes().map(|byte| u64::from(byte - b'0')) {
        // Digits past what 63 bits hold cannot change the result.
        let Some(next) =
            value.checked_mul(10).and_then(|tens| tens.checked_add(digit)).filter(|next| *next <= LIMIT)
        else {
            break;
        };
        value = next;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

fn overflow(text: &str) -> Error {
    Error::Overflow(quoted(text))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0..MICROSECOND => return write!(f, "{nanos}ns"),
            MICROSECOND..MILLISECOND => return write_decimal(f, nanos, MICROSECOND, "\u{b5}s"),
            MILLISECOND..SECOND => return write_decimal(f, nanos, MILLISECOND, "ms"),
            _ => {}
        }
        let (hours, minutes) = (nanos / HOUR, nanos / MINUTE % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if nanos >= MINUTE {
            write!(f, "{minutes}m")?;
        }
        write_decimal(f, nanos % MINUTE, SECOND, "s")
    }
}

/// `nanos` in units of `unit`, without trailing zeros after the point.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let fraction = nanos % unit;
    if fraction > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = GoDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 1h30m, or a whole number of nanoseconds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, nanos: i64) -> Result<GoDuration, E> {
        Ok(GoDuration(nanos))
    }

    fn visit_u64<E: de::Error>(self, nanos: u64) -> Result<GoDuration, E> {
        i64::try_from(nanos).map(GoDuration).map_err(|_| E::custom(overflow(&nanos.to_string())))
    }
}
