//! A walk over a tree: each directory before what is in it, names in the order of their bytes.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::Error;
use super::excludes::Excludes;
use super::names::{Names, WINDOW};
use super::stat::{Kind, Stat};

/// Most levels of a tree: the deepest that a path of `PATH_MAX` can address. A level holds a file descriptor open.
pub const MAX_DEPTH: usize = 2048;
/// Bytes of the names of all open directories: those of the last two, and of others as long as there is space.
const HELD: usize = 2 * WINDOW;
/// Depth from which on the usual limit of 1024 descriptors may be too low.
pub(crate) const DEEP: usize = 500;

/// Flags to open a directory by its name in another one.
pub(crate) fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Raises the limit of open files of this process for a tree of [`MAX_DEPTH`].
pub(crate) fn raise_file_limit() {
    let wanted = MAX_DEPTH as u64 + 1024;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        // Without the right to do so the walk reports EMFILE with the path.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    }
}

/// A walk. It holds one file descriptor and names of each directory on the way to the current entry, of all together at most about
/// 48 MiB.
#[derive(Debug)]
pub struct Walk<'r, 'e> {
    root: BorrowedFd<'r>,
    excludes: &'e Excludes,
    levels: Vec<Level>,
    path: Vec<u8>,
    buffer: Vec<MaybeUninit<u8>>,
    begun: bool,
    vanished: u64,
    /// Bytes of the names of all levels.
    held: usize,
    /// Bytes of the names that are read at once, and of all names.
    bounds: (usize, usize),
}

#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    names: Names,
    next: usize,
    /// Length of the path of this directory with the slash after it.
    prefix: usize,
}

/// An entry of a walk.
#[derive(Debug)]
pub struct Entry<'w> {
    /// Path below the root; `.` is the root itself.
    pub path: &'w [u8],
    /// The directory that has the entry.
    pub parent: BorrowedFd<'w>,
    /// Name in the parent.
    pub name: &'w CStr,
    /// Metadata.
    pub stat: Stat,
    /// The open directory, if it is one and can be opened.
    pub directory: Option<BorrowedFd<'w>>,
    /// Why a directory could not be read.
    pub failure: Option<Errno>,
}

/// The next entry: the level of its parent, its number there, and what the kernel said.
struct Found {
    level: usize,
    name: usize,
    stat: Stat,
    failure: Option<Errno>,
}

impl<'r, 'e> Walk<'r, 'e> {
    /// A walk from an open directory.
    pub fn new(root: BorrowedFd<'r>, excludes: &'e Excludes) -> Self {
        Walk {
            root,
            excludes,
            levels: Vec::new(),
            path: Vec::new(),
            buffer: Vec::new(),
            begun: false,
            vanished: 0,
            held: 0,
            bounds: (WINDOW, HELD),
        }
    }

    #[cfg(test)]
    pub(super) fn with_bounds(self, bounds: (usize, usize)) -> Self {
        Walk { bounds, ..self }
    }

    /// Count of entries that were removed between the reading of their directory and their `stat`.
    pub fn vanished(&self) -> u64 {
        self.vanished
    }

    /// The next entry; `None` at the end. The root comes first.
    #[allow(clippy::should_implement_trait, reason = "an entry borrows from the walk")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        if !self.begun {
            self.begun = true;
            return self.first().map(Some);
        }
        let Some(found) = self.advance()? else { return Ok(None) };
        let Some(level) = self.levels.get(found.level) else { return Ok(None) };
        let opened = self.levels.get(found.level + 1).map(|level| level.directory.as_fd());
        Ok(Some(Entry {
            path: &self.path,
            parent: level.directory.as_fd(),
            name: level.names.get(found.name).unwrap_or_default(),
            stat: found.stat,
            directory: opened.filter(|_| found.stat.kind == Kind::Directory && found.failure.is_none()),
            failure: found.failure,
        }))
    }

    fn first(&mut self) -> Result<Entry<'_>, Error> {
        let failed = |action| Error::io(action, b".");
        let directory = openat(self.root, c".", directory_flags(), Mode::empty()).map_err(failed("open"))?;
        let stat = statat(&directory, c"", AtFlags::EMPTY_PATH).map_err(failed("stat"))?;
        let names = Names::read(directory.as_fd(), &mut self.buffer, None, self.bounds.0);
        let names = names.map_err(failed("list"))?;
        self.push(Level { directory, names, next: 0, prefix: 0 });
        Ok(Entry {
            path: b".",
            parent: self.root,
            name: c".",
            stat: stat.into(),
            directory: self.levels.first().map(|level| level.directory.as_fd()),
            failure: None,
        })
    }

    fn advance(&mut self) -> Result<Option<Found>, Error> {
        loop {
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let number = level.next;
            level.next += 1;
            let Some(name) = level.names.get(number) else {
                self.refill()?;
                continue;
            };
            self.path.truncate(level.prefix.saturating_sub(1));
            if level.prefix > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            let stat: Stat = match statat(&level.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat.into(),
                Err(Errno::NOENT) => {
                    self.vanished += 1;
                    continue;
                }
                Err(error) => return Err(Error::io("stat", &self.path)(error)),
            };
            let is_directory = stat.kind == Kind::Directory;
            if self.excludes.excludes(&self.path, is_directory) {
                continue;
            }
            let failure = if is_directory { self.enter(number)? } else { None };
            return Ok(Some(Found { level: depth - 1, name: number, stat, failure }));
        }
    }

    /// Opens the directory that the path names and reads its names.
    fn enter(&mut self, number: usize) -> Result<Option<Errno>, Error> {
        if self.levels.len() >= MAX_DEPTH {
            return Ok(Some(Errno::NAMETOOLONG));
        }
        if self.levels.len() == DEEP {
            raise_file_limit();
        }
        let Some(level) = self.levels.last() else { return Ok(None) };
        let name = level.names.get(number).unwrap_or_default();
        let opened = openat(&level.directory, name, directory_flags(), Mode::empty());
        let read = opened.and_then(|directory| {
            let names = Names::read(directory.as_fd(), &mut self.buffer, None, self.bounds.0)?;
            Ok(Level { directory, names, next: 0, prefix: self.path.len() + 1 })
        });
        match read {
            Ok(level) => {
                self.push(level);
                Ok(None)
            }
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                Err(Error::io("open", &self.path)(error))
            }
            Err(error) => Ok(Some(error)),
        }
    }

    /// Reads the next names of the last directory, or leaves it.
    fn refill(&mut self) -> Result<(), Error> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        self.held = self.held.saturating_sub(level.names.size());
        if let Some(after) = level.names.resume() {
            let path = self.path.get(..level.prefix.saturating_sub(1)).unwrap_or_default();
            level.names = Names::read(level.directory.as_fd(), &mut self.buffer, Some(&after), self.bounds.0)
                .map_err(Error::io("list", path))?;
            level.next = 0;
            self.push(level);
        }
        Ok(())
    }

    /// Adds a directory. If the names of all are too many, those of outer ones are given up, to be read again; the current entry
    /// needs its own name in the last but one.
    fn push(&mut self, level: Level) {
        self.held += level.names.size();
        self.levels.push(level);
        let outer = self.levels.len().saturating_sub(2);
        for level in self.levels.iter_mut().take(outer) {
            if self.held <= self.bounds.1 {
                return;
            }
            let before = level.names.size();
            level.names.shrink(level.next.saturating_sub(1));
            level.next = 1;
            self.held = self.held.saturating_sub(before).saturating_add(level.names.size());
        }
    }
}
