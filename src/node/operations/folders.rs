//! Folders of workspaces as a whole. The agent reads the names at their top and renames; it opens nothing below, except directories
//! in the trash, which nothing else uses any more.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, SeekFrom, Timestamps, Uid, fchmod, fchown,
    fstat, fsync, futimens, openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::quota::is_subvolume_root;
use crate::state::{Layout, unless_missing};

/// The workspace's user on the node: user 0 of the container.
pub(super) const USER: u32 = 33_333;

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, directory(), Mode::empty())?)
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Makes the folder of a workspace, for the workspace's user. The kubelet may have made it before, as root.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let folder = open(path)?;
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    fchown(&folder, Some(user), Some(group))?;
    fchmod(&folder, Mode::from_raw_mode(0o755))?;
    Ok(())
}

/// Calls `take` with each name at the top of a folder, which may take it out of there. Holds some of them at a time: a folder may have
/// millions. Returns how many there were; those that come meanwhile may be left out.
fn each_name(folder: BorrowedFd<'_>, mut take: impl FnMut(&CStr) -> io::Result<()>) -> io::Result<u64> {
    // An open directory goes on where it was read last.
    rustix::fs::seek(folder, SeekFrom::Start(0))?;
    let mut count = 0;
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            take(name)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Whether there is nothing in an open folder.
fn has_nothing(folder: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = Vec::with_capacity(1 << 10);
    rustix::fs::seek(folder, SeekFrom::Start(0))?;
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether there is nothing in a folder; one that is not there is empty.
pub(super) fn is_empty(path: &Path) -> io::Result<bool> {
    match open(path) {
        Ok(folder) => has_nothing(folder.as_fd()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// A path below `parent` that is free.
fn free_name(parent: &Path, name: &str) -> io::Result<PathBuf> {
    for number in 0..1_000_000_u32 {
        let path = parent.join(format!("{name}.{number}"));
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(io::Error::other(format!("{} is full", parent.display())))
}

/// Empties a folder: what is in it moves below `parent`. The folder itself stays, because a container may have mounted it.
pub(super) fn empty(path: &Path, parent: &Path, name: &str) -> io::Result<()> {
    let folder = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if has_nothing(folder.as_fd())? {
        return Ok(());
    }
    let target = free_name(parent, name)?;
    fs::create_dir(&target)?;
    let target = open(&target)?;
    move_all(folder.as_fd(), target.as_fd())
}

fn move_all(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // A file system may leave out names of a folder that changes while it is read.
    while each_name(from, |name| Ok(renameat(from, name, to, name)?))? > 0 {}
    fsync(to)?;
    fsync(from)?;
    Ok(())
}

/// Moves a folder below `parent` under a free name; one that is not there is moved.
pub(super) fn discard(path: &Path, parent: &Path, name: &str) -> io::Result<()> {
    unless_missing(fs::rename(path, free_name(parent, name)?))
}

/// Moves a folder where none is, and writes that to the disk.
pub(super) fn relocate(from: &Path, to: &Path) -> io::Result<()> {
    let parent = to.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    fs::create_dir_all(parent)?;
    fs::rename(from, to)?;
    fsync(open(parent)?)?;
    if let Some(before) = from.parent() {
        fsync(open(before)?)?;
    }
    Ok(())
}

/// How a kept folder became the folder of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adopted {
    /// By one rename: its tree state still holds.
    Whole,
    /// Entry by entry, because the kubelet had made the folder, and may have mounted it. That moves the times of the entries.
    EachEntry,
}

/// Makes a kept folder the folder of a workspace.
pub(super) fn adopt(kept: &Path, to: &Path) -> io::Result<Adopted> {
    match renameat_with(rustix::fs::CWD, kept, rustix::fs::CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(Adopted::Whole),
        Err(Errno::EXIST | Errno::NOTEMPTY) => {}
        Err(error) => return Err(error.into()),
    }
    let (from, to) = (open(kept)?, open(to)?);
    let before = fstat(&from)?;
    move_all(from.as_fd(), to.as_fd())?;
    fchown(&to, Some(Uid::from_raw(before.st_uid)), Some(Gid::from_raw(before.st_gid)))?;
    fchmod(&to, Mode::from_raw_mode(before.st_mode & 0o7777))?;
    let time = |seconds: i64, nanos: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    let modified = time(before.st_mtime, before.st_mtime_nsec);
    futimens(&to, &Timestamps { last_access: modified, last_modification: modified })?;
    fs::remove_dir(kept)?;
    Ok(Adopted::EachEntry)
}

/// Deletes everything in the trash, however deep it is: directories move up to the trash itself, so that no more than two are open
/// and no path is long. Returns how many entries were deleted. Ends early if it has to. `remove` deletes a subvolume as a whole, and
/// says whether it did.
pub(super) fn empty_trash(
    layout: &Layout,
    is_ending: &AtomicBool,
    remove: &dyn Fn(&Path) -> bool,
) -> io::Result<u64> {
    let path = layout.trash();
    let trash = open(&path)?;
    let (mut deleted, mut number) = (0, 0_u64);
    loop {
        let (mut problem, mut has_deleted) = (None, false);
        each_name(trash.as_fd(), |name| {
            if is_ending.load(Ordering::Relaxed) {
                return Ok(());
            }
            let whole = || remove(&path.join(OsStr::from_bytes(name.to_bytes())));
            match delete(trash.as_fd(), name, &mut number, is_ending, &whole) {
                Ok(count) => {
                    deleted += count;
                    has_deleted = true;
                }
                // The others are deleted all the same.
                Err(error) => problem = problem.take().or(Some(error)),
            }
            Ok(())
        })?;
        if is_ending.load(Ordering::Relaxed) {
            return Ok(deleted);
        }
        match (has_deleted, problem) {
            (true, _) => {}
            (false, Some(problem)) => return Err(problem),
            (false, None) => return Ok(deleted),
        }
    }
}

/// Deletes a file, or the files of a directory whose own directories move to the trash.
fn delete(
    trash: BorrowedFd<'_>,
    name: &CStr,
    number: &mut u64,
    is_ending: &AtomicBool,
    whole: &dyn Fn() -> bool,
) -> io::Result<u64> {
    if !is_directory(trash, name)? {
        unlinkat(trash, name, AtFlags::empty())?;
        return Ok(1);
    }
    let folder = openat(trash, name, directory(), Mode::empty())?;
    let deleted = if !is_subvolume_root(&folder)? {
        flatten(folder.as_fd(), trash, trash, number, is_ending)?
    } else if whole() {
        return Ok(1);
    } else {
        hollow(folder.as_fd(), trash, number, is_ending)?
    };
    unlinkat(trash, name, AtFlags::REMOVEDIR)?;
    Ok(deleted + 1)
}

/// Deletes the files of a directory. Its own directories move up, subvolumes to the trash: nothing else leaves its subvolume.
fn flatten(
    folder: BorrowedFd<'_>,
    up: BorrowedFd<'_>,
    trash: BorrowedFd<'_>,
    number: &mut u64,
    is_ending: &AtomicBool,
) -> io::Result<u64> {
    let mut deleted = 0;
    let mut inner = |name: &CStr| {
        go_on(is_ending)?;
        if is_directory(folder, name)? {
            let is_subvolume = is_subvolume_root(openat(folder, name, directory(), Mode::empty())?)?;
            return move_up(folder, name, if is_subvolume { trash } else { up }, number);
        }
        deleted += 1;
        Ok(unlinkat(folder, name, AtFlags::empty())?)
    };
    while each_name(folder, &mut inner)? > 0 {}
    Ok(deleted)
}

/// Deletes what is in a subvolume that holds other ones, as it is done in the trash.
fn hollow(
    root: BorrowedFd<'_>,
    trash: BorrowedFd<'_>,
    number: &mut u64,
    is_ending: &AtomicBool,
) -> io::Result<u64> {
    let mut deleted = 0;
    let mut inner = |name: &CStr| {
        go_on(is_ending)?;
        if !is_directory(root, name)? {
            deleted += 1;
            return Ok(unlinkat(root, name, AtFlags::empty())?);
        }
        let folder = openat(root, name, directory(), Mode::empty())?;
        if is_subvolume_root(&folder)? {
            return move_up(root, name, trash, number);
        }
        deleted += 1 + flatten(folder.as_fd(), root, trash, number, is_ending)?;
        Ok(unlinkat(root, name, AtFlags::REMOVEDIR)?)
    };
    while each_name(root, &mut inner)? > 0 {}
    Ok(deleted)
}

fn go_on(is_ending: &AtomicBool) -> io::Result<()> {
    if is_ending.load(Ordering::Relaxed) {
        return Err(io::Error::other("the agent ends"));
    }
    Ok(())
}

fn move_up(from: BorrowedFd<'_>, name: &CStr, trash: BorrowedFd<'_>, number: &mut u64) -> io::Result<()> {
    loop {
        *number += 1;
        let to = format!("deep.{number}");
        match renameat_with(from, name, trash, to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Bytes that are free on the file system of the workspaces.
pub(super) fn available(layout: &Layout) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(layout.root())?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::fs::symlink;

    use super::*;

    fn layout(root: &Path) -> Layout {
        let layout = Layout::new(root);
        fs::create_dir_all(layout.trash()).unwrap();
        layout
    }

    #[test]
    fn the_trash_is_emptied_whatever_its_depth_and_nothing_behind_a_link_is_touched() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("file"), "x").unwrap();
        let layout = layout(root.path());
        let here = layout.trash().join("a.0");
        fs::create_dir(&here).unwrap();
        symlink(other.path(), here.join("link")).unwrap();
        fs::write(here.join("file"), "x").unwrap();
        // Deeper than a path can be long, and than a process may have files open.
        let deep = CString::new("d".repeat(200)).unwrap();
        let mut folder = open(&here).unwrap();
        for _ in 0..1100 {
            rustix::fs::mkdirat(&folder, &deep, Mode::from_raw_mode(0o755)).unwrap();
            folder = openat(&folder, &deep, directory(), Mode::empty()).unwrap();
        }
        assert_eq!(empty_trash(&layout, &AtomicBool::new(false), &|_| false).unwrap(), 1103);
        assert_eq!(fs::read_dir(layout.trash()).unwrap().count(), 0);
        assert!(other.path().join("file").exists());
    }

    #[test]
    fn a_kept_folder_is_adopted_by_one_rename_or_into_the_folder_that_is_there() {
        let root = tempfile::tempdir().unwrap();
        for (is_there, expected) in [(false, Adopted::Whole), (true, Adopted::EachEntry)] {
            let (kept, to) = (root.path().join("kept"), root.path().join(format!("to-{is_there}")));
            fs::create_dir_all(kept.join("a/b")).unwrap();
            fs::write(kept.join("a/b/file"), "x").unwrap();
            let inode = is_there.then(|| {
                fs::create_dir(&to).unwrap();
                open(&to).unwrap()
            });
            assert_eq!(adopt(&kept, &to).unwrap(), expected);
            assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "x");
            assert!(!kept.exists());
            if let Some(folder) = inode {
                assert_eq!(fstat(folder).unwrap().st_ino, fstat(open(&to).unwrap()).unwrap().st_ino);
            }
        }
    }

    /// As many as fill the buffer of a listing several times.
    #[test]
    fn folders_of_many_names_are_moved_and_deleted_whole() {
        let root = tempfile::tempdir().unwrap();
        let layout = layout(root.path());
        let (folder, other) = (root.path().join("ws"), root.path().join("other"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&other).unwrap();
        for number in 0..5000 {
            fs::write(folder.join(format!("{number:0200}")), "").unwrap();
        }
        let kept = root.path().join("kept");
        fs::rename(&folder, &kept).unwrap();
        assert_eq!(adopt(&kept, &other).unwrap(), Adopted::EachEntry);
        assert_eq!(fs::read_dir(&other).unwrap().count(), 5000);
        empty(&other, &layout.trash(), "ws").unwrap();
        assert!(is_empty(&other).unwrap());
        assert_eq!(empty_trash(&layout, &AtomicBool::new(false), &|_| false).unwrap(), 5001);
        assert!(is_empty(&layout.trash()).unwrap());
    }

    #[test]
    fn a_folder_is_emptied_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let layout = layout(root.path());
        let folder = root.path().join("ws");
        fs::create_dir_all(folder.join("a/b")).unwrap();
        for _ in 0..2 {
            fs::write(folder.join("file"), "x").unwrap();
            empty(&folder, &layout.trash(), "ws").unwrap();
            assert!(is_empty(&folder).unwrap());
        }
        assert_eq!(fs::read_dir(layout.trash()).unwrap().count(), 2);
        assert!(is_empty(&root.path().join("none")).unwrap());
    }
}
