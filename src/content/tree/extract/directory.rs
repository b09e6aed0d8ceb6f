//! An open directory of an extraction.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, ResolveFlags, fchmod, fstat, futimens, mkdirat, openat2};
use rustix::io::Errno;

use super::super::error::{Error, Rule};
use super::super::meta::{Meta, Owner, Target, times};
use super::super::notes::Notes;
use super::super::stat::{Stat, Time};
use super::super::walk::directory_flags;

/// How every file is opened: by one name, below the directory, through no symbolic link.
pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// What a directory gets after the last entry in it.
#[derive(Debug)]
pub(super) enum Finish {
    /// Nothing: it has no entry of its own.
    Nothing,
    /// Metadata of its entry.
    Meta(Meta),
    /// Mode and time from before something was added to it.
    Again(u32, Time),
}

/// An open directory. Whoever drops the last reference must call [`Directory::finish`].
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) file: OwnedFd,
    pub(super) path: Vec<u8>,
    /// The thread that makes its files.
    pub(super) lane: usize,
    /// New files get the group of the directory.
    pub(super) setgid: bool,
    owner: Owner,
    setgid_parent: bool,
    finish: Finish,
}

impl Directory {
    /// The root of an extraction.
    pub(super) fn root(root: BorrowedFd<'_>, owner: Owner, finish: Finish) -> Result<Self, Error> {
        let path = b".".to_vec();
        let file = openat2(root, c".", directory_flags(), Mode::empty(), BENEATH)
            .map_err(Error::io("open", &path))?;
        let stat = Stat::from(fstat(&file).map_err(Error::io("stat", &path))?);
        let setgid = stat.mode & 0o2000 != 0;
        Ok(Directory { file, path, lane: 0, setgid, owner, setgid_parent: true, finish })
    }

    pub(super) fn set_finish(&mut self, meta: Meta) {
        self.finish = Finish::Meta(meta);
    }

    /// Makes a directory in this one; false if the name is taken.
    pub(super) fn make(&self, name: &[u8], path: &[u8], mode: u32) -> Result<bool, Error> {
        match mkdirat(&self.file, name, Mode::from_raw_mode(mode)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(Error::io("make directory", path)(error)),
        }
    }

    /// Opens a directory in this one. `new` says that it was just made; `None` means that there is nothing.
    pub(super) fn open(
        &self,
        name: &[u8],
        path: &[u8],
        lane: usize,
        new: bool,
    ) -> Result<Option<Self>, Error> {
        let file = match openat2(&self.file, name, directory_flags(), Mode::empty(), BENEATH) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Error::refused(path, Rule::NotThroughDirectory)),
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        let mut directory = Directory {
            file,
            path: path.to_vec(),
            lane,
            setgid: self.setgid,
            owner: self.owner,
            setgid_parent: self.setgid,
            finish: Finish::Nothing,
        };
        if !new {
            directory.reopen()?;
        }
        Ok(Some(directory))
    }

    /// Notes mode and time of a directory that was there, and makes it writable.
    fn reopen(&mut self) -> Result<(), Error> {
        let stat = Stat::from(fstat(&self.file).map_err(Error::io("stat", &self.path))?);
        self.setgid = stat.mode & 0o2000 != 0;
        // Its owner may be anyone.
        self.setgid_parent = true;
        self.finish = Finish::Again(stat.mode, stat.mtime);
        if stat.mode & 0o700 != 0o700 {
            let mode = Mode::from_raw_mode(stat.mode | 0o700);
            fchmod(&self.file, mode).map_err(Error::io("set the mode of", &self.path))?;
        }
        Ok(())
    }

    /// Sets what must come after the last entry of the directory.
    pub(super) fn finish(self, notes: &mut Notes) -> Result<(), Error> {
        let failed = |action| Error::io(action, &self.path);
        match &self.finish {
            Finish::Nothing => Ok(()),
            Finish::Meta(meta) => self.target().apply(meta, notes),
            Finish::Again(mode, mtime) => {
                if mode & 0o700 != 0o700 {
                    fchmod(&self.file, Mode::from_raw_mode(*mode)).map_err(failed("set the mode of"))?;
                }
                futimens(&self.file, &times(*mtime)).map_err(failed("set the time of"))
            }
        }
    }

    fn target(&self) -> Target<'_> {
        Target {
            file: self.file.as_fd(),
            path: &self.path,
            owner: self.owner,
            setgid_parent: self.setgid_parent,
        }
    }
}
