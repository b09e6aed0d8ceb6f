//! Writing a tree as an archive.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::{mem, thread};

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use super::builder::Builder;
use super::error::Error;
use super::footer::Footer;
use super::header::{self, BLOCK, padding};
use super::index::Indexed;
use super::links::{Known, Links};
use super::member::{Body, Member};
use super::sink::{self, Sink};
use crate::tree::{
    self, Entry, Excludes, Kind, Meta, Note, Notes, Record, Segment, Stat, StateWriter, Walk, Xattr, holes,
    xattr,
};

/// What to do about a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreadable {
    /// The archive fails with an error that names the file.
    #[default]
    Fail,
    /// The file is left out and listed in [`Summary::notes`].
    List,
}

/// How an archive is written.
#[derive(Debug)]
pub struct WriteOptions {
    /// Level of zstd.
    pub level: i32,
    /// Threads that compress.
    pub threads: usize,
    /// What to do about a file that cannot be read.
    pub unreadable: Unreadable,
    /// An empty file for an index of more than 4 MiB while it grows, best one without a name. Without it, or once it has no space
    /// left, the index stays in memory: about 60 bytes an entry.
    pub spill: Option<File>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions { level: 3, threads: 2, unreadable: Unreadable::Fail, spill: None }
    }
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Length of the archive.
    pub bytes: u64,
    /// Count of entries.
    pub entries: u64,
    /// Length of the index, without the footer.
    pub index_length: u64,
    /// BLAKE3 of the index as it is stored.
    pub index_digest: [u8; 32],
    /// BLAKE3 of all entries of the index: equal for equal content.
    pub content_digest: [u8; 32],
    /// BLAKE3 of all bytes of the archive.
    pub digest: [u8; 32],
    /// What is worth reporting about single entries.
    pub notes: Notes,
}

impl Summary {
    /// The footer that the archive must have.
    pub(super) fn agrees(&self, footer: &Footer) -> bool {
        self.entries == footer.entries
            && self.index_length == footer.index_length
            && self.index_digest == footer.index_digest
            && self.content_digest == footer.content_digest
    }
}

/// Writes the tree below `root`. With `state`, also the state file of unchanged content for the case that the tree is
/// at rest; it has every entry as it was before its content was read.
pub fn write<W: Write + Send>(
    root: BorrowedFd<'_>,
    excludes: &Excludes,
    mut options: WriteOptions,
    out: W,
    state: Option<StateWriter<&mut dyn Write>>,
) -> Result<Summary, Error> {
    let index = Builder::new(options.level, options.spill.take(), excludes.patterns())?;
    thread::scope(|scope| {
        let (sink, pipeline) = sink::start(scope, out, options.level, options.threads)?;
        let mut packer = Packer {
            sink,
            index,
            links: Links::default(),
            notes: Notes::default(),
            unreadable: options.unreadable,
            state,
            header: Vec::new(),
        };
        let packed = packer.all(Walk::new(root, excludes));
        let Packer { mut sink, index, notes, .. } = packer;
        // Two blocks of zeros end a tar.
        let ended = packed.and_then(|()| sink.zeros(2 * BLOCK as u64)).and_then(|()| sink.finish());
        let mut written = match pipeline.join() {
            Ok(written) => written,
            Err(Error::Stopped) => return Err(ended.err().unwrap_or(Error::Stopped)),
            Err(error) => return Err(error),
        };
        let footer = index.finish(&mut written, ended?)?;
        Ok(Summary {
            bytes: written.length,
            entries: footer.entries,
            index_length: footer.index_length,
            index_digest: footer.index_digest,
            content_digest: footer.content_digest,
            digest: *written.hasher.finalize().as_bytes(),
            notes,
        })
    })
}

struct Packer<'s> {
    sink: Sink,
    index: Builder,
    links: Links,
    notes: Notes,
    unreadable: Unreadable,
    state: Option<StateWriter<&'s mut dyn Write>>,
    header: Vec<u8>,
}

impl Packer<'_> {
    fn all(&mut self, mut walk: Walk<'_, '_>) -> Result<(), Error> {
        while let Some(entry) = walk.next()? {
            if let Some(failure) = entry.failure {
                self.failed(entry.path, failure)?;
            }
            if let Some(state) = &mut self.state {
                state.add(entry.path, &Record::from(&entry.stat))?;
            }
            self.entry(&entry)?;
        }
        for _ in 0..walk.vanished() {
            self.notes.add(b"(an entry)", Note::Vanished);
        }
        if let Some(state) = self.state.take() {
            state.finish()?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let body = match entry.stat.kind {
            Kind::Socket | Kind::Device => {
                let note = if entry.stat.kind == Kind::Socket { Note::Socket } else { Note::Device };
                self.notes.add(entry.path, note);
                return Ok(());
            }
            Kind::File => return self.file(entry),
            Kind::Directory => Body::Directory,
            Kind::Fifo => Body::Fifo,
            Kind::Symlink => match readlinkat(entry.parent, entry.name, Vec::new()) {
                Ok(target) => Body::Symlink(target.into_bytes()),
                Err(error) => return self.failed(entry.path, error),
            },
        };
        let mut meta = Meta::of(&entry.stat);
        if let Some(directory) = entry.directory {
            let xattrs = xattr::read(directory).map_err(failed_at("read attributes of", entry))?;
            meta.xattrs = self.attributes(entry, xattrs);
        }
        self.plain(entry.path, meta, body, 0)
    }

    /// Adds an entry without data.
    fn plain(&mut self, path: &[u8], meta: Meta, body: Body, group: u64) -> Result<(), Error> {
        let member = Member { path: path.to_vec(), meta, body };
        let (frame, offset) = self.begin(&member)?;
        self.index.add(&Indexed { member, frame, offset, group, digest: None })
    }

    /// Puts the headers of an entry.
    fn begin(&mut self, member: &Member) -> Result<(u64, u64), Error> {
        let mut header = mem::take(&mut self.header);
        header.clear();
        header::encode(member, &mut header);
        let stored = member.body.stored();
        let place = self.sink.begin(header.len() as u64 + stored + padding(stored) as u64)?;
        self.sink.put(&header)?;
        self.header = header;
        Ok(place)
    }

    fn file(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let mut group = 0;
        if entry.stat.links > 1 {
            match self.links.look(&entry.stat, entry.path) {
                Known::First(number) => group = number,
                Known::Full => self.notes.add(entry.path, Note::LinkTableFull),
                Known::Again(target, number) => {
                    let body = Body::HardLink(target);
                    return self.plain(entry.path, Meta::of(&entry.stat), body, number);
                }
            }
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(entry.parent, entry.name, flags, Mode::empty()).and_then(|file| {
            let xattrs = xattr::read(file.as_fd())?;
            let segments = holes::segments(file.as_fd(), &entry.stat)?;
            Ok((file, xattrs, segments))
        });
        match opened {
            Ok((file, xattrs, segments)) => {
                let xattrs = self.attributes(entry, xattrs);
                let meta = Meta { xattrs, ..Meta::of(&entry.stat) };
                self.content(entry, &file, meta, segments, group)
            }
            Err(error) => {
                self.links.forget(&entry.stat);
                self.failed(entry.path, error)
            }
        }
    }

    fn content(
        &mut self,
        entry: &Entry<'_>,
        file: &OwnedFd,
        meta: Meta,
        segments: Option<Vec<Segment>>,
        group: u64,
    ) -> Result<(), Error> {
        let body = Body::File { size: entry.stat.size, segments };
        let member = Member { path: entry.path.to_vec(), meta, body };
        let (frame, offset) = self.begin(&member)?;
        let whole = [Segment { offset: 0, length: entry.stat.size }];
        let segments = match &member.body {
            Body::File { segments: Some(segments), .. } => &segments[..],
            _ => &whole,
        };
        let mut hasher = blake3::Hasher::new();
        let mut complete = true;
        for segment in segments {
            complete &= self.segment(entry, file, *segment, &mut hasher)?;
        }
        self.sink.zeros(padding(member.body.stored()) as u64)?;
        let after = rustix::fs::fstat(file).map(Stat::from).map_err(failed_at("stat", entry))?;
        if !complete || !unchanged(&entry.stat, &after) {
            self.notes.add(entry.path, Note::Changed);
        }
        let digest = Some(*hasher.finalize().as_bytes());
        self.index.add(&Indexed { member, frame, offset, group, digest })
    }

    /// Copies a part of a file; false if the file ended early and zeros stand for the rest.
    fn segment(
        &mut self,
        entry: &Entry<'_>,
        file: &OwnedFd,
        segment: Segment,
        hasher: &mut blake3::Hasher,
    ) -> Result<bool, Error> {
        let (mut offset, end) = (segment.offset, segment.offset + segment.length);
        let mut complete = true;
        while offset < end {
            let space = self.sink.space()?;
            let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(space.len());
            let space = space.get_mut(..wanted).unwrap_or_default();
            let answer = rustix::io::pread(file, &mut *space, offset);
            let (count, failure) = match answer {
                Err(Errno::INTR) => continue,
                Ok(count) if count > 0 => (count, None),
                // It became shorter, or cannot be read: zeros keep the size of the header.
                answer => {
                    space.fill(0);
                    (wanted, Some(answer.err()))
                }
            };
            hasher.update(space.get(..count).unwrap_or_default());
            self.sink.advance(count);
            offset += count as u64;
            if let Some(error) = failure {
                if let (true, Some(error)) = (complete, error) {
                    self.failed(entry.path, error)?;
                }
                complete = false;
            }
        }
        Ok(complete)
    }

    fn attributes(&mut self, entry: &Entry<'_>, (xattrs, all): (Vec<Xattr>, bool)) -> Vec<Xattr> {
        if !all {
            self.notes.add(entry.path, Note::XattrsTooLarge);
        }
        xattrs
    }

    fn failed(&mut self, path: &[u8], error: Errno) -> Result<(), Error> {
        match (self.unreadable, error) {
            (_, Errno::NOENT) => self.notes.add(path, Note::Vanished),
            (Unreadable::List, error) => self.notes.add(path, Note::Unreadable(error)),
            (Unreadable::Fail, source) => {
                return Err(tree::Error::Io { action: "read", path: path.to_vec(), source }.into());
            }
        }
        Ok(())
    }
}

fn unchanged(before: &Stat, after: &Stat) -> bool {
    (before.inode, before.size, before.mtime, before.ctime)
        == (after.inode, after.size, after.mtime, after.ctime)
}

fn failed_at(action: &'static str, entry: &Entry<'_>) -> impl FnOnce(Errno) -> Error {
    let path = entry.path.to_vec();
    move |source| tree::Error::Io { action, path, source }.into()
}
