//! Where a sparse file has data.

use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::stat::Stat;

/// Most segments of one file; the rest of a file with more is archived as data.
pub(crate) const MOST_SEGMENTS: usize = 10_000;

/// A part of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First byte.
    pub offset: u64,
    /// Count of bytes.
    pub length: u64,
}

/// The data of a file, or `None` if it has no holes.
pub(crate) fn segments(file: BorrowedFd<'_>, stat: &Stat) -> Result<Option<Vec<Segment>>, Errno> {
    if stat.size == 0 || stat.blocks.saturating_mul(512) >= stat.size {
        return Ok(None);
    }
    let size = stat.size;
    let mut found: Vec<Segment> = Vec::new();
    let mut end = 0;
    while end < size {
        let start = match seek(file, SeekFrom::Data(end)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(None),
            Err(error) => return Err(error),
        };
        end = match seek(file, SeekFrom::Hole(start)) {
            _ if found.len() + 1 == MOST_SEGMENTS => size,
            // `start` may have become the end of the file meanwhile.
            Ok(end) if end > start => end.min(size),
            _ => size,
        };
        found.push(Segment { offset: start, length: end - start });
    }
    let dense = matches!(found[..], [Segment { offset: 0, length }] if length == size);
    Ok((!dense).then_some(found))
}
