//! Reading tar headers: one entry after the other, with every rule of the format and every limit.

use std::borrow::Cow;

use tar::Header;

use super::error::{Error, Rule};
use super::header::{BLOCK, LARGEST_OCTAL, padding};
use super::member::{Body, Member};
use super::pax::{self, Pax, Sparse};
use super::stream::Stream;
use crate::tree::holes::MOST_SEGMENTS;
use crate::tree::{MAX_DEPTH, Meta, Segment, Time, Xattr, xattr};

/// Longest pax header besides paths and attributes.
const PAX_SLACK: usize = 16 << 10;
/// Name of an entry that has none yet.
const UNNAMED: &[u8] = b"(a header)";

/// What an archive may have; the caller knows the quota.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Count of entries.
    pub entries: u64,
    /// Bytes of all files, without holes.
    pub bytes: u64,
    /// Bytes of one path or target of a link.
    pub path: usize,
    /// Bytes of names and values of all attributes of one entry.
    pub xattrs: usize,
}

impl Limits {
    /// Limits for content of so many bytes, which accept everything else that the writer makes. An entry takes at
    /// least 256 bytes of a quota, however small its file.
    pub fn of_bytes(bytes: u64) -> Self {
        let path = MAX_DEPTH * 256;
        Limits { entries: (bytes / 256).max(100_000), bytes, path, xattrs: xattr::MOST }
    }
}

/// Reads entries. After a file, its data must be taken from [`Parser::stream`], whole.
pub(super) struct Parser<'s> {
    pub(super) stream: Stream<'s>,
    limits: Limits,
    padding: usize,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// Names from headers that come before an entry.
#[derive(Default)]
struct Before {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'s> Parser<'s> {
    pub(super) fn new(stream: Stream<'s>, limits: Limits) -> Self {
        Parser { stream, limits, padding: 0, entries: 0, bytes: 0 }
    }

    /// The next entry; `None` after the two blocks of zeros at the end.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Error> {
        self.stream.skip(self.padding)?;
        self.padding = 0;
        let mut before = Before::default();
        loop {
            let block = self.stream.exact(BLOCK)?;
            if block.iter().all(|byte| *byte == 0) {
                return self.end(&before);
            }
            let header = Header::from_byte_slice(&block);
            check(&block, header)?;
            let size = number(header.entry_size(), UNNAMED)?;
            match block.get(156) {
                Some(b'x') => {
                    let records = self.extension(size)?;
                    let pax = Pax::read(&records).map_err(|rule| Error::refused(UNNAMED, rule))?;
                    once(&mut before.pax, pax)?;
                }
                Some(b'g') => {
                    let records = self.extension(size)?;
                    pax::check_global(&records).map_err(|rule| Error::refused(UNNAMED, rule))?;
                }
                Some(b'L') => once(&mut before.name, self.long_name(size)?)?,
                Some(b'K') => once(&mut before.link, self.long_name(size)?)?,
                _ => return self.member(header, size, before).map(Some),
            }
        }
    }

    fn end(&mut self, before: &Before) -> Result<Option<Member>, Error> {
        let dangling = before.pax.is_some() || before.name.is_some() || before.link.is_some();
        if dangling || self.stream.exact(BLOCK)?.iter().any(|byte| *byte != 0) {
            return Err(Error::Damaged("its tar has a header without an entry, or half an end"));
        }
        Ok(None)
    }

    /// The content of a header that describes another one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let most = 2 * self.limits.path + self.limits.xattrs + PAX_SLACK;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > most {
            return Err(Error::refused(UNNAMED, Rule::Xattrs(self.limits.xattrs)));
        }
        let content = self.stream.exact(size)?.to_vec();
        self.stream.skip(padding(size as u64))?;
        Ok(content)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut name = self.extension(size)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn member(&mut self, header: &Header, size: u64, before: Before) -> Result<Member, Error> {
        let pax = before.pax.unwrap_or_default();
        let path = pax.path.or(before.name).unwrap_or_else(|| header.path_bytes().into_owned());
        let path = pax.sparse.name.clone().unwrap_or(path);
        let refused = |rule| Error::refused(&path, rule);
        let link = pax.link.or(before.link).or_else(|| header.link_name_bytes().map(Cow::into_owned));
        let link = link.unwrap_or_default();
        if path.len().max(link.len()) > self.limits.path {
            return Err(refused(Rule::LongPath(self.limits.path)));
        }
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(refused(Rule::Entries(self.limits.entries)));
        }
        let stored = agreed(size, pax.size).ok_or_else(|| refused(Rule::SizesDisagree))?;
        let sparse = pax.sparse;
        let ids = (pax.uid, pax.gid);
        let meta = self.meta(header, &path, ids, pax.mtime, pax.xattrs)?;
        let kind = header.as_bytes().get(156).copied().unwrap_or_default();
        let is_file = matches!(kind, b'0' | b'7') || kind == 0 && !path.ends_with(b"/");
        let body = match kind {
            _ if sparse != Sparse::default() => match (sparse.major, sparse.minor, sparse.size) {
                (Some(1), Some(0), Some(size)) if is_file => self.sparse(&path, size, stored)?,
                _ => return Err(refused(Rule::SparseMap)),
            },
            _ if is_file => self.dense(&path, stored)?,
            _ if stored != 0 => return Err(refused(Rule::Content)),
            b'5' | 0 => Body::Directory,
            b'1' => Body::HardLink(trimmed(link)),
            b'2' => Body::Symlink(link),
            b'6' => Body::Fifo,
            b'3' | b'4' => return Err(refused(Rule::Device)),
            other => return Err(refused(Rule::Unsupported(other))),
        };
        Ok(Member { path: trimmed(path), meta, body })
    }

    fn meta(
        &self,
        header: &Header,
        path: &[u8],
        ids: (Option<u32>, Option<u32>),
        mtime: Option<Time>,
        xattrs: Vec<Xattr>,
    ) -> Result<Meta, Error> {
        let field = |field: std::io::Result<u64>| number(field, path);
        let small = |value: u64| u32::try_from(value).map_err(|_| Error::refused(path, Rule::Number));
        let mtime = if let Some(mtime) = mtime {
            mtime
        } else {
            let seconds = i64::try_from(field(header.mtime())?);
            Time { seconds: seconds.map_err(|_| Error::refused(path, Rule::Number))?, nanos: 0 }
        };
        let meta = Meta {
            mode: small(field(header.mode().map(u64::from))? & 0o7777)?,
            uid: ids.0.map_or_else(|| field(header.uid()).and_then(small), Ok)?,
            gid: ids.1.map_or_else(|| field(header.gid()).and_then(small), Ok)?,
            mtime,
            xattrs: xattrs.into_iter().filter(|xattr| xattr::is_kept(&xattr.name)).collect(),
        };
        let lengths = meta.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len());
        if lengths.sum::<usize>() > self.limits.xattrs {
            return Err(Error::refused(path, Rule::Xattrs(self.limits.xattrs)));
        }
        Ok(meta)
    }

    fn dense(&mut self, path: &[u8], size: u64) -> Result<Body, Error> {
        self.data(path, size)?;
        Ok(Body::File { size, segments: None })
    }

    /// Counts the data of a file.
    fn data(&mut self, path: &[u8], size: u64) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(Error::refused(path, Rule::Bytes(self.limits.bytes)));
        }
        self.padding = padding(size);
        Ok(())
    }

    /// Reads the list of segments before the data: a count, then offset and length of each, one number a line.
    fn sparse(&mut self, path: &[u8], size: u64, stored: u64) -> Result<Body, Error> {
        let refused = || Error::refused(path, Rule::SparseMap);
        let (mut map, mut length) = (Vec::new(), 0_u64);
        let (mut numbers, mut wanted) = (Vec::new(), 1);
        while numbers.len() < wanted {
            if length >= stored || numbers.len() > 2 * MOST_SEGMENTS + 3 {
                return Err(refused());
            }
            map.extend_from_slice(&self.stream.exact(BLOCK)?);
            length += BLOCK as u64;
            while let Some(end) = map.iter().position(|byte| *byte == b'\n')
                && numbers.len() < wanted
            {
                let line: Vec<u8> = map.drain(..=end).collect();
                numbers.push(pax::number(line.get(..end).unwrap_or_default()).ok_or_else(refused)?);
                if let [count] = numbers[..] {
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    if count > MOST_SEGMENTS + 1 {
                        return Err(refused());
                    }
                    wanted = 1 + 2 * count;
                }
            }
            // A number has at most 20 digits.
            if map.len() > BLOCK {
                return Err(refused());
            }
        }
        let pairs = numbers.get(1..).unwrap_or_default().chunks_exact(2);
        let pairs = pairs.filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
        let segments = checked(pairs, size).ok_or_else(refused)?;
        let data: u64 = segments.iter().map(|segment| segment.length).sum();
        if data.checked_add(length) != Some(stored) {
            return Err(refused());
        }
        self.data(path, data)?;
        Ok(Body::File { size, segments: Some(segments) })
    }
}

/// Segments in rising order within the size, without empty ones.
fn checked(pairs: impl Iterator<Item = (u64, u64)>, size: u64) -> Option<Vec<Segment>> {
    let (mut segments, mut end) = (Vec::new(), 0_u64);
    for (offset, length) in pairs {
        if offset < end {
            return None;
        }
        end = offset.checked_add(length)?;
        if length > 0 {
            segments.push(Segment { offset, length });
        }
    }
    (end <= size).then_some(segments)
}

/// The size on which both headers agree. A size that is too large for the tar header is 0 or the largest there.
fn agreed(header: u64, pax: Option<u64>) -> Option<u64> {
    match pax {
        None => Some(header),
        Some(size) if size == header => Some(size),
        Some(size) if size > LARGEST_OCTAL && (header == 0 || header == LARGEST_OCTAL) => Some(size),
        Some(_) => None,
    }
}

/// The checksum counts its own field as spaces.
fn check(block: &[u8], header: &Header) -> Result<(), Error> {
    let total = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let field = block.get(148..156).unwrap_or_default();
    let sum = total(block) - total(field) + 8 * u32::from(b' ');
    match header.cksum() {
        Ok(expected) if expected == sum => Ok(()),
        _ => Err(Error::refused(&shown(header), Rule::Checksum)),
    }
}

fn shown(header: &Header) -> Vec<u8> {
    match header.path_bytes().into_owned() {
        path if path.is_empty() => UNNAMED.to_vec(),
        path => path,
    }
}

fn number(field: std::io::Result<u64>, entry: &[u8]) -> Result<u64, Error> {
    field.map_err(|_| Error::refused(entry, Rule::Number))
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), Error> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::refused(UNNAMED, Rule::Pax)),
    }
}

/// Without slashes at the end; a path of slashes alone stays absolute.
fn trimmed(mut path: Vec<u8>) -> Vec<u8> {
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    path
}
