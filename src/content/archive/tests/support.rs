//! Trees on disk, and comparing them entry by entry with means of the standard library.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::archive::{Error, Limits, RestoreOptions, Restored, Summary, WriteOptions, restore, write};
use crate::tree::{Excludes, xattr};

pub(super) fn limits() -> Limits {
    Limits::of_bytes(1 << 30)
}

pub(super) fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

pub(super) fn archive(root: &Path) -> (Vec<u8>, Summary) {
    archive_with(root, &Excludes::none(), WriteOptions::default()).unwrap()
}

pub(super) fn archive_with(
    root: &Path,
    excludes: &Excludes,
    options: WriteOptions,
) -> Result<(Vec<u8>, Summary), Error> {
    let mut bytes = Vec::new();
    let summary = write(open(root).as_fd(), excludes, options, &mut bytes, None)?;
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!(summary.digest, *blake3::hash(&bytes).as_bytes());
    Ok((bytes, summary))
}

/// Restores into a new folder.
pub(super) fn restored(bytes: &[u8]) -> Result<(TempDir, Restored), Error> {
    let folder = tempfile::tempdir().unwrap();
    let done = restore(bytes, open(folder.path()).as_fd(), &RestoreOptions::new(limits()))?;
    Ok((folder, done))
}

/// Restores with the programs of the system.
pub(super) fn restored_by_tar(bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = "zstd -d -q -c | tar -x -p --same-owner --numeric-owner --xattrs --xattrs-include='*' --warning=no-timestamp -f -";
    let mut shell = Command::new("sh")
        .args(["-c", program])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    folder
}

/// An entry as the standard library sees it.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Seen {
    pub(super) kind: &'static str,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) mtime: (i64, i64),
    pub(super) size: u64,
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
    pub(super) target: Option<PathBuf>,
    pub(super) content: Option<blake3::Hash>,
    /// First path of the same file.
    pub(super) same_as: Option<PathBuf>,
}

pub(super) type Tree = BTreeMap<PathBuf, Seen>;

/// All entries below a folder, and the folder itself as an empty path.
pub(super) fn seen(root: &Path) -> Tree {
    let (mut tree, mut links) = (BTreeMap::new(), BTreeMap::new());
    let mut folders = vec![PathBuf::new()];
    let mut paths = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut names: Vec<PathBuf> = fs::read_dir(root.join(&folder))
            .unwrap()
            .map(|entry| folder.join(entry.unwrap().file_name()))
            .collect();
        names.sort();
        for path in names {
            if fs::symlink_metadata(root.join(&path)).unwrap().is_dir() {
                folders.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let entry = one(root, &path, &mut links);
        tree.insert(path, entry);
    }
    tree
}

fn one(root: &Path, path: &Path, links: &mut BTreeMap<u64, PathBuf>) -> Seen {
    let full = root.join(path);
    let meta = fs::symlink_metadata(&full).unwrap();
    let kind = match meta.file_type() {
        kind if kind.is_dir() => "directory",
        kind if kind.is_file() => "file",
        kind if kind.is_symlink() => "symlink",
        kind if kind.is_fifo() => "fifo",
        kind if kind.is_socket() => "socket",
        _ => "device",
    };
    let shared = kind == "file" && meta.nlink() > 1;
    let same_as = shared.then(|| links.entry(meta.ino()).or_insert_with(|| path.to_owned()).clone());
    let xattrs = match kind {
        "file" | "directory" => xattr::read(open(&full).as_fd()).unwrap().0,
        _ => Vec::new(),
    };
    Seen {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        size: if kind == "file" { meta.size() } else { 0 },
        xattrs: xattrs
            .into_iter()
            .map(|xattr| (String::from_utf8_lossy(&xattr.name).into_owned(), xattr.value))
            .collect(),
        target: (kind == "symlink").then(|| fs::read_link(&full).unwrap()),
        content: (kind == "file").then(|| content(&full, meta.size())),
        same_as,
    }
}

fn content(path: &Path, size: u64) -> blake3::Hash {
    if size > 1 << 30 {
        // Sparse: its first and last mebibyte.
        use std::os::unix::fs::FileExt as _;
        let file = open(path);
        let mut bytes = vec![0; 2 << 20];
        let (start, end) = bytes.split_at_mut(1 << 20);
        file.read_exact_at(start, 0).unwrap();
        file.read_exact_at(end, size - (1 << 20)).unwrap();
        return blake3::hash(&bytes);
    }
    blake3::hash(&fs::read(path).unwrap())
}

#[track_caller]
pub(super) fn assert_same(expected: &Tree, found: &Tree) {
    let names =
        |tree: &Tree| tree.keys().map(|path| path.as_os_str().as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(names(expected), names(found), "names");
    for (path, seen) in expected {
        assert_eq!(seen, &found[path], "{}", path.display());
    }
}
