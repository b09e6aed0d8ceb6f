//! Making one file, symbolic link or named pipe.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ftruncate, mknodat, openat2, symlinkat, unlinkat};
use rustix::io::{Errno, pwrite};

use super::super::error::{Error, Rule};
use super::super::holes::Segment;
use super::super::meta::{Meta, Owner, Target, apply_to_symlink};
use super::super::notes::Notes;
use super::directory::{BENEATH, Directory};

const LONGEST_TARGET: usize = 4095;

/// What an entry becomes.
#[derive(Debug)]
pub(crate) enum Node {
    /// A regular file with all of its data.
    File {
        /// Size with holes.
        size: u64,
        /// Where the data belongs; `None` if there are no holes.
        segments: Option<Vec<Segment>>,
        /// The data without holes.
        data: Bytes,
    },
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
}

/// An entry with its place.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) directory: &'a Directory,
    pub(super) name: &'a [u8],
    pub(super) owner: Owner,
}

impl Place<'_> {
    pub(super) fn path(&self) -> Vec<u8> {
        match &self.directory.path[..] {
            b"." => self.name.to_vec(),
            path => [path, b"/", self.name].concat(),
        }
    }

    /// Makes the entry with its data and metadata.
    pub(super) fn make(&self, node: &Node, meta: &Meta, notes: &mut Notes) -> Result<(), Error> {
        match node {
            Node::File { size, segments, data } => {
                let file = self.create()?;
                self.fill(&file, *size, segments.as_deref(), data)?;
                self.complete(&file, meta, notes)
            }
            Node::Symlink(target) => self.symlink(target, meta, notes),
            Node::Fifo => self.fifo(meta, notes),
        }
    }

    /// Creates an empty file for writing. What has the name and is no directory is removed.
    pub(super) fn create(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        self.replacing("create", || openat2(&self.directory.file, self.name, flags, mode, BENEATH))
    }

    /// Sets the metadata of a file whose data is complete.
    pub(super) fn complete(&self, file: &OwnedFd, meta: &Meta, notes: &mut Notes) -> Result<(), Error> {
        self.target(file.as_fd(), &self.path()).apply(meta, notes)
    }

    fn fill(
        &self,
        file: &OwnedFd,
        size: u64,
        segments: Option<&[Segment]>,
        data: &[u8],
    ) -> Result<(), Error> {
        let Some(segments) = segments else { return self.write(file, data, 0) };
        let mut rest = data;
        for segment in segments {
            let length = usize::try_from(segment.length).unwrap_or(usize::MAX).min(rest.len());
            let (part, after) = rest.split_at(length);
            self.write(file, part, segment.offset)?;
            rest = after;
        }
        ftruncate(file, size).map_err(Error::io("set the size of", &self.path()))
    }

    pub(super) fn write(&self, file: &OwnedFd, mut data: &[u8], mut offset: u64) -> Result<(), Error> {
        while !data.is_empty() {
            match pwrite(file, data, offset) {
                Ok(count) => {
                    data = data.get(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("write", &self.path())(error)),
            }
        }
        Ok(())
    }

    fn symlink(&self, target: &[u8], meta: &Meta, notes: &mut Notes) -> Result<(), Error> {
        if target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0) {
            return Err(Error::refused(&self.path(), Rule::SymlinkTarget));
        }
        let directory = &self.directory.file;
        self.replacing("make symbolic link", || symlinkat(target, directory, self.name))?;
        let path = self.path();
        let place = self.target(directory.as_fd(), &path);
        apply_to_symlink(directory.as_fd(), self.name, &place, meta, notes)
    }

    fn fifo(&self, meta: &Meta, notes: &mut Notes) -> Result<(), Error> {
        let (directory, mode) = (&self.directory.file, Mode::RUSR | Mode::WUSR);
        self.replacing("make named pipe", || mknodat(directory, self.name, FileType::Fifo, mode, 0))?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat2(directory, self.name, flags, Mode::empty(), BENEATH);
        let file = opened.map_err(Error::io("open", &self.path()))?;
        self.complete(&file, meta, notes)
    }

    /// Runs `make`; if the name is taken by something else than a directory, removes that and runs it again.
    pub(super) fn replacing<T>(
        &self,
        action: &'static str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Error> {
        match make() {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|error| Error::io(action, &self.path())(error)),
        }
        match unlinkat(&self.directory.file, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Err(Error::refused(&self.path(), Rule::ReplacesDirectory)),
            Err(error) => return Err(Error::io("remove", &self.path())(error)),
        }
        make().map_err(|error| Error::io(action, &self.path())(error))
    }

    fn target<'t>(&self, file: BorrowedFd<'t>, path: &'t [u8]) -> Target<'t> {
        Target { file, path, owner: self.owner, setgid_parent: self.directory.setgid }
    }
}
