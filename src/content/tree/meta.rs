//! Metadata that an archive keeps, and setting it on an open file.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, chownat, fchmod, fchown, futimens, utimensat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::error::Error;
use super::notes::{Note, Notes};
use super::stat::{Stat, Time};
use super::xattr::{self, Xattr};

/// Metadata of an archived file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification of the content.
    pub mtime: Time,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

impl Meta {
    pub(crate) fn of(stat: &Stat) -> Self {
        Meta { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs: Vec::new() }
    }
}

/// Who a new file belongs to before its owner is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    pub(crate) fn of_this_process() -> Self {
        Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// Whether a new file has the wanted owner already. In a directory with setgid its group is another one.
    fn is(self, meta: &Meta, setgid_parent: bool) -> bool {
        !setgid_parent && self.uid == meta.uid && self.gid == meta.gid
    }
}

/// A new file that gets its metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) file: BorrowedFd<'a>,
    pub(crate) path: &'a [u8],
    pub(crate) owner: Owner,
    pub(crate) setgid_parent: bool,
}

impl Target<'_> {
    /// Sets owner, attributes, mode and time, in the order in which none undoes another: a change of the owner takes
    /// setuid and capabilities away.
    pub(crate) fn apply(&self, meta: &Meta, notes: &mut Notes) -> Result<(), Error> {
        let mut mode = meta.mode & 0o7777;
        if !self.owner.is(meta, self.setgid_parent)
            && !owned(ids(meta).and_then(|(uid, gid)| fchown(self.file, uid, gid)), self.path, meta, notes)?
        {
            mode &= 0o1777;
        }
        for xattr in &meta.xattrs {
            match xattr::set(self.file, xattr) {
                Ok(()) => {}
                Err(error @ (Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL)) => {
                    notes.add(self.path, Note::Xattr(error));
                }
                Err(error) => return Err(Error::io("set an extended attribute of", self.path)(error)),
            }
        }
        fchmod(self.file, Mode::from_raw_mode(mode)).map_err(Error::io("set the mode of", self.path))?;
        futimens(self.file, &times(meta.mtime)).map_err(Error::io("set the time of", self.path))
    }
}

/// Owner and time of a symbolic link, which has neither mode nor kept attributes.
pub(crate) fn apply_to_symlink(
    directory: BorrowedFd<'_>,
    name: &[u8],
    target: &Target<'_>,
    meta: &Meta,
    notes: &mut Notes,
) -> Result<(), Error> {
    if !target.owner.is(meta, target.setgid_parent) {
        let set =
            ids(meta).and_then(|(uid, gid)| chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW));
        owned(set, target.path, meta, notes)?;
    }
    utimensat(directory, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Error::io("set the time of", target.path))
}

/// Whether the owner was set; a user namespace may lack it.
fn owned(set: Result<(), Errno>, path: &[u8], meta: &Meta, notes: &mut Notes) -> Result<bool, Error> {
    match set {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL) => {
            notes.add(path, Note::Owner(meta.uid, meta.gid));
            Ok(false)
        }
        Err(error) => Err(Error::io("set the owner of", path)(error)),
    }
}

/// The largest number means "leave it" to the kernel, so no file can have it.
fn ids(meta: &Meta) -> Result<(Option<Uid>, Option<Gid>), Errno> {
    if meta.uid == u32::MAX || meta.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    Ok((Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid))))
}

pub(crate) fn times(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) },
    }
}
