//! Pax headers. The crate `tar` splits them at line ends, which values of attributes may have, so they are read here.

use super::error::Rule;
use crate::tree::{Time, Xattr};

/// What a pax header says about the entry after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: Sparse,
}

/// Records of GNU's sparse format 1.0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

impl Pax {
    /// Reads the records of a pax header.
    pub(super) fn read(records: &[u8]) -> Result<Self, Rule> {
        let mut pax = Pax::default();
        each(records, |key, value| pax.take(key, value))?;
        pax.xattrs.sort();
        if pax.xattrs.windows(2).any(|pair| matches!(pair, [one, other] if one.name == other.name)) {
            return Err(Rule::Pax);
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => once(&mut self.path, value.to_vec()),
            b"linkpath" => once(&mut self.link, value.to_vec()),
            b"size" => once(&mut self.size, number(value)?),
            b"uid" => once(&mut self.uid, u32::try_from(number(value)?).ok()?),
            b"gid" => once(&mut self.gid, u32::try_from(number(value)?).ok()?),
            b"mtime" => once(&mut self.mtime, time(value)?),
            b"GNU.sparse.major" => once(&mut self.sparse.major, number(value)?),
            b"GNU.sparse.minor" => once(&mut self.sparse.minor, number(value)?),
            b"GNU.sparse.name" => once(&mut self.sparse.name, value.to_vec()),
            b"GNU.sparse.realsize" => once(&mut self.sparse.size, number(value)?),
            key if key.starts_with(b"GNU.sparse.") => None,
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push(Xattr { name: unescaped(name), value: value.to_vec() });
                }
                Some(())
            }
        }
    }
}

/// A global header may have what does not matter, such as the commit that `git archive` puts there.
pub(super) fn check_global(records: &[u8]) -> Result<(), Rule> {
    each(records, |key, _| (key == b"comment" || key == b"charset").then_some(()))
}

/// `None` from `take` means that the record is malformed.
fn each(records: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Option<()>) -> Result<(), Rule> {
    let mut rest = records;
    while !rest.is_empty() {
        let (key, value, after) = first(rest).ok_or(Rule::Pax)?;
        take(key, value).ok_or(Rule::Pax)?;
        rest = after;
    }
    Ok(())
}

/// `length key=value\n` and what comes after it.
fn first(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(12).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(records.get(..space)?)?).ok()?;
    let (record, after) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, after))
}

fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

/// A decimal number of digits alone.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction, of which nanoseconds are kept.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(number(text.get(..point)?)?).ok()?;
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0_u32, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, nanos) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos: 0 },
        (true, nanos) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

fn unescaped(name: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(name.len()), name);
    while let Some((byte, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*byte, after),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}
