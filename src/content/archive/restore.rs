//! Restoring an archive into a directory while it streams in.

use std::hash::Hasher as _;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::thread::{self, Scope};

use flate2::read::MultiGzDecoder;

use super::decode::{self, Decoding};
use super::error::Error;
use super::footer::Footer;
use super::member::{Body, Member};
use super::parse::{Limits, Parser};
use super::proof::Proof;
use super::stream::{Pieces, Stream};
use crate::tree::extract::{self, Extractor, Node, SMALL, Ticket};
use crate::tree::{Notes, Segment};

/// Most bytes after the end of a plain tar, which is padded to a record.
const LONGEST_END: u64 = 1 << 20;

/// How an archive is restored.
#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions {
    /// What the archive may have.
    pub limits: Limits,
    /// Threads that decompress.
    pub decoders: usize,
    /// Threads that make files.
    pub writers: usize,
    /// Paths that are not made. What is in the archive there is proven all the same.
    pub skip: &'static [&'static [u8]],
}

impl RestoreOptions {
    /// Two threads of each kind, and nothing is skipped.
    pub fn new(limits: Limits) -> Self {
        RestoreOptions { limits, decoders: 2, writers: 2, skip: &[] }
    }
}

/// The format of an archive, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.tar.zst` with an index.
    Indexed,
    /// Plain tar.
    Tar,
    /// Gzipped tar.
    TarGz,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The format.
    pub format: Format,
    /// Count of entries.
    pub entries: u64,
    /// Bytes of all files, without holes.
    pub bytes: u64,
    /// The footer of an indexed archive; its index agrees with every entry and its content.
    pub footer: Option<Footer>,
    /// What is worth reporting about single entries.
    pub notes: Notes,
}

/// Restores a stream into an open directory. After an error the directory holds a part of the content: wipe it.
pub fn restore<R: Read + Send>(
    mut source: R,
    root: BorrowedFd<'_>,
    options: &RestoreOptions,
) -> Result<Restored, Error> {
    let start = sniff(&mut source)?;
    let format = match start[..] {
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Format::Indexed,
        [0x1f, 0x8b, ..] => Format::TarGz,
        _ => Format::Tar,
    };
    let source = std::io::Cursor::new(start).chain(source);
    thread::scope(|scope| match format {
        Format::Indexed => indexed(scope, source, root, options),
        Format::TarGz => plain(scope, MultiGzDecoder::new(source), format, root, options),
        Format::Tar => plain(scope, source, format, root, options),
    })
}

/// The first bytes of the stream, at most four.
fn sniff(source: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut start = Vec::new();
    source.take(4).read_to_end(&mut start).map_err(Error::reading)?;
    if start.len() < 4 {
        return Err(Error::Early("it has no content"));
    }
    Ok(start)
}

fn plain<'s>(
    scope: &'s Scope<'s, '_>,
    source: impl Read + 's,
    format: Format,
    root: BorrowedFd<'_>,
    options: &RestoreOptions,
) -> Result<Restored, Error> {
    let stream = Stream::new(Pieces::Plain(Box::new(source)));
    let mut restore = Restore::new(scope, stream, root, options, false)?;
    let done = restore.all().and_then(|()| restore.drain());
    let (restored, _) = restore.end(done, format)?;
    Ok(restored)
}

fn indexed<'s>(
    scope: &'s Scope<'s, '_>,
    source: impl Read + Send + 's,
    root: BorrowedFd<'_>,
    options: &RestoreOptions,
) -> Result<Restored, Error> {
    let Decoding { pieces, trailing, scanner } = decode::start(scope, source, options.decoders)?;
    let stream = Stream::new(Pieces::Decoders(pieces));
    let mut restore = Restore::new(scope, stream, root, options, true)?;
    let mut done = restore.all().and_then(|()| restore.parser.stream.is_at_end());
    if let Ok(false) = done {
        done = Err(Error::Damaged("it has data after the end of its tar"));
    }
    let done = done.map(|_| ());
    let proven = restore.end(done, Format::Indexed).and_then(|(mut restored, hashes)| {
        let mut proof = Proof::new(&hashes)?;
        for (magic, bytes) in &trailing {
            proof.take(magic, &bytes)?;
        }
        restored.footer = Some(proof.finish()?);
        Ok(restored)
    });
    drop(trailing);
    match scanner.join() {
        Ok(Ok(())) => proven,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Stopped),
    }
}

struct Restore<'s> {
    parser: Parser<'s>,
    extractor: Extractor<'s>,
    /// A hash of each entry, to compare with the index.
    hashes: Vec<u64>,
    hashed: bool,
    skip: &'static [&'static [u8]],
}

impl<'s> Restore<'s> {
    fn new<'p: 's>(
        scope: &'s Scope<'s, '_>,
        stream: Stream<'p>,
        root: BorrowedFd<'_>,
        options: &RestoreOptions,
        hashed: bool,
    ) -> Result<Self, Error> {
        let extractor = Extractor::new(root, extract::scope(scope, options.writers))?;
        let parser = Parser::new(stream, options.limits);
        Ok(Restore { parser, extractor, hashes: Vec::new(), hashed, skip: options.skip })
    }

    fn all(&mut self) -> Result<(), Error> {
        while let Some(member) = self.parser.next()? {
            self.entry(member)?;
        }
        Ok(())
    }

    fn entry(&mut self, member: Member) -> Result<(), Error> {
        let hasher = member.hasher();
        let number = self.hashes.len();
        if self.hashed {
            self.hashes.push(hasher.finish());
        }
        let ticket = self.hashed.then_some(Ticket { number, hasher });
        let stored = member.body.stored();
        let Member { path, meta, body } = member;
        if self.skip.contains(&path.strip_prefix(b"./").unwrap_or(&path)) {
            let digest = self.discard(stored)?;
            if let (Some(ticket), Body::File { .. }) = (ticket, &body) {
                let (number, hash) = ticket.seal(&digest);
                self.seal(number, hash);
            }
            return Ok(());
        }
        match body {
            Body::Directory => self.extractor.directory(&path, meta)?,
            Body::HardLink(target) => self.extractor.hard_link(&path, &target)?,
            Body::Symlink(target) => self.extractor.node(&path, Node::Symlink(target), meta, None)?,
            Body::Fifo => self.extractor.node(&path, Node::Fifo, meta, None)?,
            Body::File { size, segments } if stored <= SMALL => {
                let data = self.parser.stream.exact(usize::try_from(stored).unwrap_or(usize::MAX))?;
                let node = Node::File { size, segments, data };
                self.extractor.node(&path, node, meta, ticket)?;
            }
            Body::File { size, segments } => {
                let file = self.extractor.large_file(&path)?;
                let whole = [Segment { offset: 0, length: size }];
                let digest = self.copy(&file, segments.as_deref().unwrap_or(&whole))?;
                self.extractor.complete(file, size, &meta)?;
                if let Some((number, hash)) = ticket.map(|ticket| ticket.seal(&digest)) {
                    self.seal(number, hash);
                }
            }
        }
        Ok(())
    }

    /// Copies the data of a file from the stream.
    fn copy(&mut self, file: &extract::LargeFile, segments: &[Segment]) -> Result<blake3::Hash, Error> {
        let mut hasher = blake3::Hasher::new();
        for segment in segments {
            let (mut offset, end) = (segment.offset, segment.offset + segment.length);
            while offset < end {
                let piece = self.parser.stream.some(end - offset)?;
                if self.hashed {
                    hasher.update(&piece);
                }
                file.write(&piece, offset)?;
                offset += piece.len() as u64;
            }
        }
        Ok(hasher.finalize())
    }

    /// Reads the data of a file that is not made.
    fn discard(&mut self, stored: u64) -> Result<blake3::Hash, Error> {
        let (mut hasher, mut left) = (blake3::Hasher::new(), stored);
        while left > 0 {
            let piece = self.parser.stream.some(left)?;
            hasher.update(&piece);
            left -= piece.len() as u64;
        }
        Ok(hasher.finalize())
    }

    fn seal(&mut self, number: usize, hash: u64) {
        if let Some(place) = self.hashes.get_mut(number) {
            *place = hash;
        }
    }

    /// Reads what comes after the end of a plain tar.
    fn drain(&mut self) -> Result<(), Error> {
        let mut left = LONGEST_END;
        while !self.parser.stream.is_at_end()? {
            let piece = self.parser.stream.some(left)?;
            left = left.saturating_sub(piece.len() as u64);
            if left == 0 || piece.iter().any(|byte| *byte != 0) {
                return Err(Error::Damaged("it has data after the end of its tar"));
            }
        }
        Ok(())
    }

    /// Completes the files, and returns the hashes of all entries.
    fn end(mut self, done: Result<(), Error>, format: Format) -> Result<(Restored, Vec<u64>), Error> {
        let outcome = match done {
            Ok(()) => self.extractor.finish()?,
            Err(Error::Tree(error)) => return Err(self.extractor.abandon(error).into()),
            Err(error) => {
                self.extractor.abandon(crate::tree::Error::Stopped);
                return Err(error);
            }
        };
        for (number, hash) in &outcome.sealed {
            if let Some(place) = self.hashes.get_mut(*number) {
                *place = *hash;
            }
        }
        let (entries, bytes) = (self.parser.entries, self.parser.bytes);
        Ok((Restored { format, entries, bytes, footer: None, notes: outcome.notes }, self.hashes))
    }
}
