//! Digests of an upload: BLAKE3 of parts and whole for ourselves, MD5 because stores answer it as ETag.

use std::io;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::{PartDone, Whole};
use crate::store::digest::Digest;

/// Hashes parts in their order.
#[derive(Default)]
pub(super) struct Hashes {
    whole: blake3::Hasher,
    size: u64,
}

impl Hashes {
    pub(super) fn add(&mut self, content: &[u8]) -> PartDone {
        self.whole.update(content);
        let (index, size) = (0, content.len() as u64);
        self.size += size;
        let (digest, md5) = (Digest::of(content), hex(&Md5::digest(content)));
        PartDone { index, size, digest, md5, id: String::new() }
    }

    /// On another thread: a part takes tens of milliseconds.
    pub(super) async fn add_apart(&mut self, content: &Bytes, index: u64) -> io::Result<PartDone> {
        let (mut hashes, content) = (std::mem::take(self), content.clone());
        let hashing = tokio::task::spawn_blocking(move || {
            let part = hashes.add(&content);
            (hashes, part)
        });
        let (hashes, part) = hashing.await.map_err(io::Error::other)?;
        *self = hashes;
        Ok(PartDone { index, ..part })
    }

    pub(super) fn finish(self) -> Whole {
        Whole { size: self.size, digest: self.whole.finalize().into() }
    }
}

/// Checksums that a store can confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// The ETag that S3 computes of the parts, without quotes.
    pub(in crate::store) e_tag: String,
    /// Whether the store answered the MD5 digest of each part as its ETag: it has received exactly these bytes.
    pub(in crate::store) confirmed: bool,
}

impl Sums {
    /// Of an object that was sent in one request.
    pub(super) fn of_one(md5: &str, e_tag: Option<&str>) -> Self {
        Self { confirmed: e_tag.is_some_and(|tag| unquoted(tag) == md5), e_tag: md5.to_owned() }
    }

    pub(super) fn of_parts(parts: &[PartDone]) -> Self {
        let mut all = Md5::new();
        for part in parts {
            all.update(bytes(&part.md5));
        }
        let e_tag = format!("{}-{}", hex(&all.finalize()), parts.len());
        Self { e_tag, confirmed: parts.iter().all(|part| unquoted(&part.id) == part.md5) }
    }
}

/// An ETag without its quotes.
pub(in crate::store) fn unquoted(tag: &str) -> &str {
    tag.trim_matches('"')
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of hexadecimal text.
fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| hex.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    (0..hex.len()).step_by(2).filter_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_etag_of_parts_is_the_one_that_s3_computes() {
        // Of two parts "a" and "b": md5(md5("a") || md5("b")).
        let mut hashes = Hashes::default();
        let parts = [hashes.add(b"a"), hashes.add(b"b")];
        assert_eq!(parts[0].md5, "0cc175b9c0f1b6a831c399e269772661");
        let sums = Sums::of_parts(&parts);
        assert!(sums.e_tag.ends_with("-2") && !sums.confirmed, "{sums:?}");
        assert_eq!(bytes(&parts[0].md5).len(), 16);
        let confirmed = parts.map(|part| PartDone { id: format!("\"{}\"", part.md5), ..part });
        assert!(Sums::of_parts(&confirmed).confirmed);
        assert_eq!(hashes.finish().digest, Digest::of(b"ab"));
    }
}
