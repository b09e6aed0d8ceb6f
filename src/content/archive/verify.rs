//! Footer and index from the last bytes of an archive, as a range read of an object store gives them.

use zstd::bulk::Decompressor;

use super::error::Error;
use super::footer::{FOOTER_LENGTH, Footer, INDEX_MAGIC};
use super::index::{self, IndexRecord};
use super::write::Summary;

/// How many of the last bytes to read first: enough for footer and index of some thousand entries.
pub const TAIL: u64 = 256 << 10;

/// An answer that may need more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail<T> {
    /// This many of the last bytes are needed.
    More(u64),
    /// Enough bytes were there.
    Ready(T),
}

/// An index in memory.
#[derive(Debug, Clone, Copy)]
pub struct Index<'t> {
    /// The footer.
    pub footer: Footer,
    bytes: &'t [u8],
}

/// Reads the footer from the last bytes of an archive of this length.
pub fn read_footer(tail: &[u8], length: u64) -> Result<Tail<Footer>, Error> {
    if length < FOOTER_LENGTH as u64 {
        return Err(Error::Early("it is shorter than a footer"));
    }
    let Some(start) = tail.len().checked_sub(FOOTER_LENGTH) else {
        return Ok(Tail::More(FOOTER_LENGTH as u64));
    };
    let footer = Footer::decode(tail.get(start..).unwrap_or_default())?;
    if footer.length() != Some(length) {
        return Err(Error::Damaged("its footer disagrees about its length"));
    }
    Ok(Tail::Ready(footer))
}

/// Reads the index from the last bytes of an archive of this length, and compares it with the digest in the footer.
pub fn read_index(tail: &[u8], length: u64) -> Result<Tail<Index<'_>>, Error> {
    let footer = match read_footer(tail, length)? {
        Tail::More(more) => return Ok(Tail::More(more)),
        Tail::Ready(footer) => footer,
    };
    let needed = footer.index_length + FOOTER_LENGTH as u64;
    let start = usize::try_from(needed).ok().and_then(|needed| tail.len().checked_sub(needed));
    let Some(start) = start else { return Ok(Tail::More(needed)) };
    let bytes = tail.get(start..tail.len() - FOOTER_LENGTH).unwrap_or_default();
    if blake3::hash(bytes) != footer.index_digest {
        return Err(Error::Damaged("its index disagrees with its footer"));
    }
    Ok(Tail::Ready(Index { footer, bytes }))
}

/// Proves that a stored archive of this length is the one of the summary, as far as its index goes.
pub fn verify(tail: &[u8], length: u64, written: &Summary) -> Result<Tail<Footer>, Error> {
    if length != written.bytes {
        return Err(Error::Differs("length"));
    }
    match read_index(tail, length)? {
        Tail::More(more) => Ok(Tail::More(more)),
        Tail::Ready(index) if written.agrees(&index.footer) => Ok(Tail::Ready(index.footer)),
        Tail::Ready(_) => Err(Error::Differs("index")),
    }
}

impl Index<'_> {
    /// Calls `take` for each record in order, with one part of the index decoded at a time.
    pub fn each(&self, mut take: impl FnMut(IndexRecord) -> Result<(), Error>) -> Result<(), Error> {
        const WRONG: Error = Error::Damaged("a part of its index is malformed");
        let mut decoder = Decompressor::new().map_err(Error::reading)?;
        let mut rest = self.bytes;
        while !rest.is_empty() {
            let (magic, after) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
            let (length, _) = after.split_first_chunk::<4>().ok_or(WRONG)?;
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| WRONG)?;
            if u32::from_le_bytes(*magic) != INDEX_MAGIC {
                return Err(WRONG);
            }
            let (part, after) = rest.split_at_checked(length.saturating_add(8)).ok_or(WRONG)?;
            index::each_record(&mut decoder, part, |record, _| take(record))?;
            rest = after;
        }
        Ok(())
    }

    /// All records, for a caller that knows that there are not too many.
    pub fn records(&self) -> Result<Vec<IndexRecord>, Error> {
        let mut records = Vec::new();
        self.each(|record| {
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }
}
