//! The thread that takes the entries in their order.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, linkat, openat2, statat};
use rustix::io::Errno;

use super::super::error::{Error, Rule};
use super::super::meta::{Meta, Owner};
use super::super::notes::Notes;
use super::super::stat::{Kind, Stat};
use super::super::walk::{DEEP, raise_file_limit};
use super::directory::{BENEATH, Directory, Finish};
use super::node::{Node, Place};
use super::path::components;
use super::pool::{Job, Lanes, New, Outcome, Ticket};

/// Largest file that a thread of the pool makes; larger ones are written while they are read.
pub(crate) const SMALL: u64 = 128 << 10;
/// Mode of a parent that the archive does not have.
const IMPLICIT: u32 = 0o755;
/// Mode of a directory until its own is set.
const WHILE_EXTRACTING: u32 = 0o700;

/// Puts entries below a root.
pub(crate) struct Extractor<'s> {
    lanes: Lanes<'s>,
    root: Arc<Directory>,
    /// The open directories on the way to the last entry, with their names.
    open: Vec<(Vec<u8>, Arc<Directory>)>,
    root_meta: Option<Meta>,
    owner: Owner,
    next_lane: usize,
    notes: Notes,
}

/// A file that is being written.
pub(crate) struct LargeFile {
    directory: Arc<Directory>,
    name: Vec<u8>,
    file: OwnedFd,
    owner: Owner,
}

impl<'s> Extractor<'s> {
    pub(crate) fn new(root: BorrowedFd<'_>, lanes: Lanes<'s>) -> Result<Self, Error> {
        let owner = Owner::of_this_process();
        let root = Arc::new(Directory::root(root, owner, Finish::Nothing)?);
        let notes = Notes::default();
        Ok(Extractor { lanes, root, open: Vec::new(), root_meta: None, owner, next_lane: 0, notes })
    }

    /// Makes a directory, or takes one that is there. Its metadata is set after the last entry in it.
    pub(crate) fn directory(&mut self, path: &[u8], meta: Meta) -> Result<(), Error> {
        let names = components(path)?;
        let Some((name, parents)) = names.split_last() else {
            self.root_meta = Some(meta);
            return Ok(());
        };
        let parent = self.parent(parents)?;
        let new = parent.make(name, path, WHILE_EXTRACTING)?;
        if !new {
            self.lanes.wait()?;
        }
        let lane = self.lane();
        let opened = parent.open(name, path, lane, new)?;
        let mut directory = opened.ok_or_else(|| Error::io("open", path)(Errno::NOENT))?;
        directory.set_finish(meta);
        self.push(name, directory);
        self.release(parent)
    }

    /// Makes a small file, a symbolic link or a named pipe, soon.
    pub(crate) fn node(
        &mut self,
        path: &[u8],
        node: Node,
        meta: Meta,
        ticket: Option<Ticket>,
    ) -> Result<(), Error> {
        let names = components(path)?;
        let (name, parents) = named(path, &names)?;
        let directory = self.parent(parents)?;
        let lane = directory.lane;
        let new = New { directory, name: name.to_vec(), node, meta, ticket };
        self.lanes.send(lane, Job::Make(Box::new(new)))
    }

    /// Creates a file that the caller fills. Blocks until all small files are made, which bounds their memory.
    pub(crate) fn large_file(&mut self, path: &[u8]) -> Result<LargeFile, Error> {
        let names = components(path)?;
        let (name, parents) = named(path, &names)?;
        let directory = self.parent(parents)?;
        self.lanes.wait()?;
        let file = Place { directory: &directory, name, owner: self.owner }.create()?;
        Ok(LargeFile { directory, name: name.to_vec(), file, owner: self.owner })
    }

    /// Sets size and metadata of a filled file.
    pub(crate) fn complete(&mut self, file: LargeFile, size: u64, meta: &Meta) -> Result<(), Error> {
        let place = file.place();
        ftruncate(&file.file, size).map_err(|error| Error::io("set the size of", &place.path())(error))?;
        place.complete(&file.file, meta, &mut self.notes)?;
        self.release(file.directory)
    }

    /// Makes a hard link to a regular file of the tree.
    pub(crate) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        let (names, to) = (components(path)?, components(target)?);
        let (name, parents) = named(path, &names)?;
        let refused = || Error::refused(path, Rule::HardLinkTarget);
        let (to_name, to_parents) = to.split_last().ok_or_else(refused)?;
        if names == to {
            return Err(refused());
        }
        let directory = self.parent(parents)?;
        self.lanes.wait()?;
        let other = self.open_below(to_parents).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => refused(),
            error => Error::io("open the parent of", target)(error),
        })?;
        let stat = statat(&other, *to_name, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from);
        if !stat.is_ok_and(|stat| stat.kind == Kind::File) {
            return Err(refused());
        }
        let place = Place { directory: &directory, name, owner: self.owner };
        place.replacing("make hard link", || {
            linkat(&other, *to_name, &directory.file, name, AtFlags::empty())
        })?;
        self.release(directory)
    }

    /// Sets the metadata of the open directories and of the root, and ends the threads.
    pub(crate) fn finish(mut self) -> Result<Outcome, Error> {
        let closed = self.close(0);
        let waited = closed.and_then(|()| self.lanes.wait());
        let mut outcome = self.lanes.join()?;
        waited?;
        if let (Some(mut root), Some(meta)) = (Arc::into_inner(self.root), self.root_meta) {
            root.set_finish(meta);
            root.finish(&mut self.notes)?;
        }
        outcome.notes.append(self.notes);
        Ok(outcome)
    }

    /// Ends the threads after a failure and returns the error that came first.
    pub(crate) fn abandon(self, error: Error) -> Error {
        match (self.lanes.join(), error) {
            (Err(first), Error::Stopped) => first,
            (_, error) => error,
        }
    }

    /// The open directory of these names. What is missing is made.
    fn parent(&mut self, names: &[&[u8]]) -> Result<Arc<Directory>, Error> {
        let same = self.open.iter().zip(names).take_while(|((open, _), name)| open == *name).count();
        if self.open.len() > names.len() || same < self.open.len() {
            self.close(same)?;
        }
        for depth in same..names.len() {
            let Some(name) = names.get(depth) else { break };
            self.enter(name, &names.get(..=depth).unwrap_or_default().join(&b'/'))?;
        }
        Ok(Arc::clone(self.open.last().map_or(&self.root, |(_, directory)| directory)))
    }

    /// Opens a directory that is not open; it is not the one of the last entries, so it is there or has no entry.
    fn enter(&mut self, name: &[u8], path: &[u8]) -> Result<(), Error> {
        self.lanes.wait()?;
        let parent = Arc::clone(self.open.last().map_or(&self.root, |(_, directory)| directory));
        let lane = self.lane();
        let mut directory = parent.open(name, path, lane, false)?;
        if directory.is_none() {
            parent.make(name, path, IMPLICIT)?;
            directory = parent.open(name, path, lane, true)?;
        }
        let directory = directory.ok_or_else(|| Error::io("open", path)(Errno::NOENT))?;
        self.push(name, directory);
        self.release(parent)
    }

    fn push(&mut self, name: &[u8], directory: Directory) {
        if self.open.len() == DEEP {
            raise_file_limit();
        }
        self.open.push((name.to_vec(), Arc::new(directory)));
    }

    /// Closes the open directories from this depth on, the deepest first.
    fn close(&mut self, depth: usize) -> Result<(), Error> {
        while self.open.len() > depth {
            let Some((_, directory)) = self.open.pop() else { break };
            self.release(directory)?;
        }
        Ok(())
    }

    fn release(&mut self, directory: Arc<Directory>) -> Result<(), Error> {
        match Arc::into_inner(directory) {
            Some(directory) => directory.finish(&mut self.notes),
            None => Ok(()),
        }
    }

    fn lane(&mut self) -> usize {
        self.next_lane = self.next_lane.wrapping_add(1);
        self.next_lane
    }

    fn open_below(&self, names: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = openat2(&self.root.file, c".", flags, Mode::empty(), BENEATH)?;
        for name in names {
            directory = openat2(&directory, *name, flags, Mode::empty(), BENEATH)?;
        }
        Ok(directory)
    }
}

impl LargeFile {
    fn place(&self) -> Place<'_> {
        Place { directory: &self.directory, name: &self.name, owner: self.owner }
    }

    /// Writes data at its place in the file.
    pub(crate) fn write(&self, data: &Bytes, offset: u64) -> Result<(), Error> {
        self.place().write(&self.file, data, offset)
    }
}

/// The name of an entry that is no directory, and its parents.
fn named<'n, 'p>(path: &[u8], names: &'n [&'p [u8]]) -> Result<(&'p [u8], &'n [&'p [u8]]), Error> {
    names
        .split_last()
        .map(|(name, parents)| (*name, parents))
        .ok_or_else(|| Error::refused(path, Rule::RootIsDirectory))
}
