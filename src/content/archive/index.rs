//! The index: one record for each entry, in parts that are decoded one by one.
//!
//! A part is a skippable frame that holds one zstd frame. A record is a type, a length and that many bytes; readers
//! skip records of a type that they do not know.

use zstd::bulk::Decompressor;

use super::error::Error;
use super::footer::INDEX_MAGIC;
use super::frames::{self, Frame};
use super::member::{Body, Member};
use crate::tree::coding::{Cursor, put, put_bytes, put_signed};
use crate::tree::{Meta, Segment, Time, Xattr};

const ENTRY: u8 = 1;
const EXCLUDE: u8 = 2;
const FRAME: u8 = 3;

/// An entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// Path, metadata and kind.
    pub member: Member,
    /// Number of the frame in which its headers begin.
    pub frame: u64,
    /// Offset of its headers in the content of that frame.
    pub offset: u64,
    /// Entries with the same number above 0 are hard links of one file.
    pub group: u64,
    /// BLAKE3 of the stored data of a regular file.
    pub digest: Option<[u8; 32]>,
}

/// A record of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexRecord {
    /// An entry, in the order of the archive.
    Entry(Box<Indexed>),
    /// A pattern of what was left out.
    Exclude(String),
    /// A frame with data, in the order of the archive.
    Frame {
        /// Length as it is stored.
        stored: u64,
        /// Length of its content.
        size: u64,
    },
}

/// Appends a record and returns its payload.
pub(super) fn put_entry<'o>(out: &'o mut Vec<u8>, payload: &mut Vec<u8>, entry: &Indexed) -> &'o [u8] {
    payload.clear();
    encode(entry, payload);
    let start = out.len();
    put_record(out, ENTRY, payload);
    out.get(start..).unwrap_or_default()
}

pub(super) fn put_exclude(out: &mut Vec<u8>, pattern: &str) {
    put_record(out, EXCLUDE, pattern.as_bytes());
}

pub(super) fn put_frame(out: &mut Vec<u8>, stored: u64, size: u64) {
    let mut payload = Vec::new();
    put(&mut payload, stored);
    put(&mut payload, size);
    put_record(out, FRAME, &payload);
}

fn put_record(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(kind);
    put_bytes(out, payload);
}

fn encode(entry: &Indexed, out: &mut Vec<u8>) {
    let Member { path, meta, body } = &entry.member;
    out.push(body.code());
    put_bytes(out, path);
    put(out, u64::from(meta.mode));
    put(out, u64::from(meta.uid));
    put(out, u64::from(meta.gid));
    put_signed(out, meta.mtime.seconds);
    put(out, u64::from(meta.mtime.nanos));
    put(out, entry.frame);
    put(out, entry.offset);
    put(out, entry.group);
    match body {
        Body::File { size, segments } => {
            put(out, *size);
            out.extend_from_slice(&entry.digest.unwrap_or_default());
            // 0 says that there are no holes.
            put(out, segments.as_ref().map_or(0, |segments| segments.len() as u64 + 1));
            for segment in segments.iter().flatten() {
                put(out, segment.offset);
                put(out, segment.length);
            }
        }
        Body::Symlink(target) | Body::HardLink(target) => put_bytes(out, target),
        Body::Directory | Body::Fifo => {}
    }
    put(out, meta.xattrs.len() as u64);
    for Xattr { name, value } in &meta.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn decode(payload: &[u8]) -> Option<Indexed> {
    let mut cursor = Cursor::new(payload);
    let code = cursor.byte()?;
    let path = cursor.bytes()?.to_vec();
    let mut meta = Meta {
        mode: cursor.number32()?,
        uid: cursor.number32()?,
        gid: cursor.number32()?,
        mtime: Time { seconds: cursor.signed()?, nanos: cursor.number32()? },
        xattrs: Vec::new(),
    };
    let (frame, offset, group) = (cursor.number()?, cursor.number()?, cursor.number()?);
    let mut digest = None;
    let body = match code {
        0 => {
            let size = cursor.number()?;
            digest = Some(cursor.array()?);
            let count = cursor.number()?.checked_sub(1);
            let segments = match count {
                Some(count) => Some(segments(&mut cursor, count, size)?),
                None => None,
            };
            Body::File { size, segments }
        }
        1 => Body::Directory,
        2 => Body::Symlink(cursor.bytes()?.to_vec()),
        3 => Body::HardLink(cursor.bytes()?.to_vec()),
        4 => Body::Fifo,
        _ => return None,
    };
    for _ in 0..cursor.number()? {
        meta.xattrs.push(Xattr { name: cursor.bytes()?.to_vec(), value: cursor.bytes()?.to_vec() });
    }
    Some(Indexed { member: Member { path, meta, body }, frame, offset, group, digest })
}

/// Segments in rising order within the size.
fn segments(cursor: &mut Cursor<'_>, count: u64, size: u64) -> Option<Vec<Segment>> {
    let (mut found, mut end) = (Vec::new(), 0_u64);
    for _ in 0..count {
        let segment = Segment { offset: cursor.number()?, length: cursor.number()? };
        if segment.offset < end {
            return None;
        }
        end = segment.offset.checked_add(segment.length)?;
        found.push(segment);
    }
    (end <= size).then_some(found)
}

/// Calls `take` for each known record of a part, which is a whole skippable frame.
pub(super) fn each_record(
    decoder: &mut Decompressor<'_>,
    part: &[u8],
    mut take: impl FnMut(IndexRecord, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    const WRONG: Error = Error::Damaged("a part of its index is malformed");
    let mut inner = part.get(8..).unwrap_or_default();
    let Some(Frame::Data { bytes, size }) = frames::next(&mut inner)? else { return Err(WRONG) };
    if !inner.is_empty() {
        return Err(WRONG);
    }
    let records = frames::decode(decoder, &bytes, size)?;
    let mut cursor = Cursor::new(&records);
    while !cursor.is_empty() {
        let before = cursor.rest();
        let kind = cursor.byte().ok_or(WRONG)?;
        let payload = cursor.bytes().ok_or(WRONG)?;
        let whole = before.get(..before.len() - cursor.rest().len()).unwrap_or_default();
        if (ENTRY..=FRAME).contains(&kind) {
            take(known(kind, payload).ok_or(WRONG)?, whole)?;
        }
    }
    Ok(())
}

fn known(kind: u8, payload: &[u8]) -> Option<IndexRecord> {
    Some(match kind {
        ENTRY => IndexRecord::Entry(Box::new(decode(payload)?)),
        EXCLUDE => IndexRecord::Exclude(String::from_utf8(payload.to_vec()).ok()?),
        _ => {
            let mut cursor = Cursor::new(payload);
            IndexRecord::Frame { stored: cursor.number()?, size: cursor.number()? }
        }
    })
}

/// Wraps a compressed part into its skippable frame.
pub(super) fn wrap(compressed: &[u8]) -> Result<Vec<u8>, Error> {
    let length =
        u32::try_from(compressed.len()).map_err(|_| Error::Damaged("a part of its index is too long"))?;
    let mut part = INDEX_MAGIC.to_le_bytes().to_vec();
    part.extend_from_slice(&length.to_le_bytes());
    part.extend_from_slice(compressed);
    Ok(part)
}
