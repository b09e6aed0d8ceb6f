//! Files of the workspace, by folder descriptors that never leave it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat, unlinkat,
};

/// Folders within each other that a walk enters.
const DEPTH_MAX: usize = 512;

/// Creates a file, and the folders above it. No link is followed, and what is in its place is replaced, unless it is a folder.
pub(super) fn create(root: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut at: OwnedFd = root.try_clone_to_owned()?;
    for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
        match mkdirat(&at, folder, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = within(at.as_fd(), folder, OFlags::DIRECTORY | OFlags::RDONLY)?;
    }
    match unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(openat(&at, name, flags, Mode::from_raw_mode(0o644))?))
}

/// Opens what is below a folder, without following any link.
pub(super) fn within(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Bytes on disk of all that is below a folder. What cannot be read counts nothing.
pub(super) fn size(folder: &Path) -> u64 {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(folder, flags, Mode::empty()).map_or(0, |folder| size_of(&folder, 0))
}

fn size_of(folder: &OwnedFd, depth: usize) -> u64 {
    let Ok(entries) = Dir::read_from(folder) else { return 0 };
    let mut total = 0;
    for entry in entries.flatten() {
        let name: CString = entry.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        total += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth < DEPTH_MAX {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            total +=
                openat(folder, &name, flags, Mode::empty()).map_or(0, |inner| size_of(&inner, depth + 1));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_created_below_its_root_only() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let opened = File::open(root.path()).unwrap();
        create(opened.as_fd(), "a/b/c").unwrap().write_all(b"x").unwrap();
        assert_eq!(std::fs::read(root.path().join("a/b/c")).unwrap(), b"x");
        symlink(other.path(), root.path().join("link")).unwrap();
        assert!(create(opened.as_fd(), "link/c").is_err());
        std::fs::write(other.path().join("kept"), "kept").unwrap();
        symlink(other.path().join("kept"), root.path().join("file")).unwrap();
        create(opened.as_fd(), "file").unwrap().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(other.path().join("kept")).unwrap(), b"kept");
        assert_eq!(std::fs::read(root.path().join("file")).unwrap(), b"new");
        assert!(create(opened.as_fd(), "a/b").is_err());
        assert!(size(root.path()) >= 4096);
    }
}
