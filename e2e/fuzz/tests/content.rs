//! Targets for archives: whatever the bytes, nothing is written outside of the folder, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a panic is how a target reports that it cannot be set up")]

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use content::archive::{Limits, RestoreOptions, Tail, WriteOptions, read_footer, read_index, restore, write};
use content::tree::{Excludes, StateReader};
use spaceport_fuzz::target;
use tempfile::TempDir;

/// A folder `inner` beside a file, and the times of everything outside of `inner`.
struct Target {
    outer: TempDir,
}

impl Target {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "outside").unwrap();
        Target { outer }
    }

    /// Restores, and returns the text of the error.
    fn restore(&self, bytes: &[u8]) -> Option<String> {
        let inner = self.outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let limits = Limits { entries: 1000, bytes: 1 << 20, path: 5000, xattrs: 100_000 };
        let done = restore(bytes, File::open(&inner).unwrap().as_fd(), &RestoreOptions::new(limits));
        let mut names: Vec<_> =
            fs::read_dir(self.outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["inner", "secret"]);
        assert_eq!(fs::read(self.outer.path().join("secret")).unwrap(), b"outside");
        assert_eq!(fs::symlink_metadata(self.outer.path().join("secret")).map(|meta| meta.len()).unwrap(), 7);
        remove(&inner);
        done.err().map(|error| error.to_string())
    }
}

fn remove(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
}

fn check(target: &Target, bytes: &[u8]) {
    if let Some(error) = target.restore(bytes) {
        assert!(error.len() < 4096 && !error.contains('\n'), "{error:?}");
    }
}

fn seed_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/file"), "content").unwrap();
    fs::hard_link(folder.path().join("d/file"), folder.path().join("again")).unwrap();
    std::os::unix::fs::symlink("d", folder.path().join("link")).unwrap();
    File::create(folder.path().join("sparse")).unwrap().set_len(1 << 20).unwrap();
    folder
}

fn seed_archive() -> Vec<u8> {
    let folder = seed_folder();
    let mut bytes = Vec::new();
    let root = File::open(folder.path()).unwrap();
    write(root.as_fd(), &Excludes::none(), WriteOptions::default(), &mut bytes, None).unwrap();
    bytes
}

#[test]
fn a_tar_writes_nothing_outside_of_its_folder() {
    let outside = Target::new();
    target("content-tar", &[], |bytes| check(&outside, bytes));
}

#[test]
fn an_archive_writes_nothing_outside_of_its_folder() {
    let (outside, seed) = (Target::new(), seed_archive());
    target("content-archive", &[&seed], |bytes| check(&outside, bytes));
}

#[test]
fn the_tail_of_an_archive_is_read_or_refused() {
    let seed = seed_archive();
    target("content-archive", &[&seed], |bytes| {
        let length = bytes.len() as u64;
        if let Ok(Tail::More(more)) = read_footer(bytes, length) {
            assert!(more > length);
        }
        if let Ok(Tail::Ready(index)) = read_index(bytes, length) {
            let _ = index.records();
        }
    });
}

#[test]
fn a_state_file_is_read_or_refused() {
    let folder = seed_folder();
    let mut seed = Vec::new();
    let root = File::open(folder.path()).unwrap();
    content::tree::record(root.as_fd(), &Excludes::none(), &mut seed).unwrap();
    target("content-state", &[&seed], |bytes| {
        let Ok(mut reader) = StateReader::open(bytes) else { return };
        while let Ok(Some(_)) = reader.next() {}
    });
}
