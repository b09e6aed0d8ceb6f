//! Kubernetes quantities: `500m`, `2`, `1.5`, `16Gi`, `1e3`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::names::quoted;

const NANOS: i128 = 1_000_000_000;
/// Kubernetes counts to 2^63 - 1.
const MAX: i128 = i64::MAX as i128 * NANOS;

/// An amount of a resource, never negative. Prints as it was written; compares by amount.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Quantity {
    text: String,
    /// Kept in billionths, the finest that Kubernetes knows; finer input is rounded up.
    nanos: i128,
}

impl Quantity {
    /// Whether the amount is zero, which in a class means "not set".
    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// In whole units (cores, bytes), rounded up.
    pub fn value(&self) -> u64 {
        self.rounded_up(NANOS)
    }

    /// In thousandths, rounded up: the usual unit for processors. Saturates.
    pub fn milli(&self) -> u64 {
        self.rounded_up(NANOS / 1_000)
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn rounded_up(&self, unit: i128) -> u64 {
        u64::try_from((self.nanos + unit - 1) / unit).unwrap_or(u64::MAX)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self { text: "0".to_owned(), nanos: 0 }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.text
    }
}

impl TryFrom<String> for Quantity {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidQuantity(quoted(text));
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let scale = Scale::parse(suffix).ok_or_else(invalid)?;
        let nanos = to_nanos(whole.trim_start_matches('0'), fraction.trim_end_matches('0'), &scale)
            .filter(|nanos| *nanos <= MAX)
            .ok_or_else(|| Error::QuantityOverflow(quoted(text)))?;
        if negative && nanos != 0 {
            return Err(Error::NegativeQuantity(quoted(text)));
        }
        Ok(Self { text: text.to_owned(), nanos })
    }
}

/// What a suffix multiplies by: `2^binary * 10^decimal`.
struct Scale {
    binary: u32,
    decimal: i32,
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        let (binary, decimal) = match suffix {
            "Ki" => (10, 0),
            "Mi" => (20, 0),
            "Gi" => (30, 0),
            "Ti" => (40, 0),
            "Pi" => (50, 0),
            "Ei" => (60, 0),
            "n" => (0, -9),
            "u" => (0, -6),
            "m" => (0, -3),
            "" => (0, 0),
            "k" => (0, 3),
            "M" => (0, 6),
            "G" => (0, 9),
            "T" => (0, 12),
            "P" => (0, 15),
            // A bare E is exa; with digits after it, an exponent.
            "E" => (0, 18),
            _ => (0, exponent(suffix)?),
        };
        Some(Self { binary, decimal })
    }
}

fn exponent(suffix: &str) -> Option<i32> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let valid = digits.strip_prefix(['-', '+']).unwrap_or(digits).bytes().all(|byte| byte.is_ascii_digit());
    // An exponent that does not fit into an i16 overflows or underflows in any case.
    if valid { digits.parse::<i16>().ok().map(i32::from) } else { None }
}

/// `None` when the amount does not fit.
fn to_nanos(whole: &str, fraction: &str, scale: &Scale) -> Option<i128> {
    let digits = format!("{whole}{fraction}");
    if digits.bytes().all(|byte| byte == b'0') {
        return Some(0);
    }
    // 38 digits always fit into an i128; no real quantity has more.
    let mantissa = digits.parse::<i128>().ok()?.checked_mul(1 << scale.binary)?;
    let shift = scale.decimal + 9 - i32::try_from(fraction.len()).ok()?;
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    if shift >= 0 {
        mantissa.checked_mul(power?)
    } else {
        // Below a billionth everything rounds up to one, as in Kubernetes.
        Some(power.map_or(1, |power| (mantissa - 1) / power + 1))
    }
}
