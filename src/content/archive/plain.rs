//! Writing a tree as a plain tar, as existing node agents do: the archive without its compression and its index.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use zstd::stream::write::Decoder;

use super::error::Error;
use super::write::{WriteOptions, write};
use crate::tree::{Excludes, Notes, StateWriter};

/// Level of zstd for bytes that are decompressed at once.
const LEVEL: i32 = 1;

/// What was written.
#[derive(Debug, Clone)]
pub struct PlainSummary {
    /// Length of the tar.
    pub bytes: u64,
    /// Count of entries.
    pub entries: u64,
    /// BLAKE3 of all bytes.
    pub digest: [u8; 32],
    /// What is worth reporting about single entries.
    pub notes: Notes,
}

/// Writes the tree below `root` as a plain tar, and the state file as [`write`] does.
pub fn write_plain<W: Write + Send>(
    root: BorrowedFd<'_>,
    excludes: &Excludes,
    options: WriteOptions,
    out: W,
    state: Option<StateWriter<&mut dyn Write>>,
) -> Result<PlainSummary, Error> {
    let hashing = Hashing { out, hasher: blake3::Hasher::new(), bytes: 0 };
    let mut decoder = Decoder::new(hashing).map_err(Error::writing)?;
    let options = WriteOptions { level: LEVEL, threads: 1, ..options };
    let summary = write(root, excludes, options, &mut decoder, state)?;
    decoder.flush().map_err(Error::writing)?;
    let Hashing { hasher, bytes, .. } = decoder.into_inner();
    let digest = *hasher.finalize().as_bytes();
    Ok(PlainSummary { bytes, entries: summary.entries, digest, notes: summary.notes })
}

struct Hashing<W> {
    out: W,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
