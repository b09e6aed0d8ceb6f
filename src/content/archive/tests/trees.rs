//! Tree X: hard links, a sparse file of 10 GiB, attributes, setuid, closed directories, odd names; and trees that
//! change while they are read.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

use super::support::{archive, archive_with, assert_same, open, restored, restored_by_tar, seen};
use crate::archive::{Error, Unreadable, WriteOptions, write};
use crate::tree::{self, Comparison, Excludes, Note, Reason, StateWriter, Xattr, compare, record, xattr};

fn set(path: &Path, name: &str, value: &[u8]) {
    let attribute = Xattr { name: name.as_bytes().to_vec(), value: value.to_vec() };
    xattr::set(open(path).as_fd(), &attribute).unwrap();
}

/// `cap_net_bind_service+ep` as the kernel stores it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn tree_x(root: &Path) {
    let at = |name: &str| root.join(name);
    for (name, mode) in [("closed", 0), ("read-only", 0o555), ("shared", 0o2775), ("sticky", 0o1777)] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("inside"), name).unwrap();
        set(&at(name), "user.folder", name.as_bytes());
        chown(at(name), Some(1000), Some(1001)).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::write(at("first"), "linked").unwrap();
    for name in ["second", "closed/third", "zz"] {
        fs::hard_link(at("first"), at(name)).unwrap();
    }
    let sparse = File::create(at("sparse")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(b"middle", 5 << 30).unwrap();
    sparse.write_all_at(b"end", (10 << 30) - 3).unwrap();
    File::create(at("all-hole")).unwrap().set_len(1 << 20).unwrap();
    fs::write(at("setuid"), "program").unwrap();
    chown(at("setuid"), Some(1234), Some(2_500_000)).unwrap();
    set(&at("setuid"), "security.capability", &CAPABILITY);
    fs::set_permissions(at("setuid"), Permissions::from_mode(0o6755)).unwrap();
    set(&at("setuid"), "user.long", &[b'v'; 3000]);
    set(&at("setuid"), "user.=%", b"a\n=%\0b");
    for name in
        [&b"\xff\xfe not utf-8"[..], b"new\nline", b"-rf", b"back\\slash", b" ", b"\x01", b"caf\xc3\xa9"]
    {
        fs::write(root.join(OsString::from_vec(name.to_vec())), name).unwrap();
    }
    fs::write(at(&"n".repeat(255)), "long").unwrap();
    symlink(OsString::from_vec(b"/no\xffwhere".to_vec()), at("link")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    fs::create_dir_all(at(&format!("{}deep", "level/".repeat(120)))).unwrap();
    fs::write(at(&format!("{}deep/file", "level/".repeat(120))), "deep").unwrap();
}

#[test]
fn tree_x_comes_back_by_our_reader_and_by_the_programs_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    tree_x(folder.path());
    let expected = seen(folder.path());
    let (bytes, summary) = archive(folder.path());
    assert_eq!(summary.notes.count(), 0);
    assert!(bytes.len() < 1 << 20, "holes are not stored: {}", bytes.len());
    let (ours, done) = restored(&bytes).unwrap();
    assert_eq!(done.notes.lines(), Vec::<String>::new());
    let by_tar = restored_by_tar(&bytes);
    for copy in [ours.path(), by_tar.path()] {
        assert_same(&expected, &seen(copy));
        assert!(fs::metadata(copy.join("sparse")).unwrap().blocks() < 1000);
        assert!(fs::metadata(copy.join("all-hole")).unwrap().blocks() < 16);
    }
}

#[test]
fn sockets_and_device_nodes_are_noted_and_left_away() {
    let folder = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    mknodat(CWD, folder.path().join("null"), FileType::CharacterDevice, Mode::RUSR, 0x103).unwrap();
    fs::write(folder.path().join("file"), "kept").unwrap();
    let (bytes, summary) = archive(folder.path());
    let notes = [(b"null".to_vec(), Note::Device), (b"socket".to_vec(), Note::Socket)];
    assert_eq!(summary.notes.listed(), notes);
    let (copy, _) = restored(&bytes).unwrap();
    assert_eq!(seen(copy.path()).len(), 2);
}

#[test]
fn a_tree_deeper_than_a_path_may_be_long_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory: OwnedFd = open(folder.path()).into();
    let name = "d".repeat(100);
    for _ in 0..600 {
        mkdirat(&directory, &*name, Mode::RWXU).unwrap();
        directory = openat(&directory, &*name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let (bytes, summary) = archive(folder.path());
    assert_eq!(summary.entries, 601);
    let copy = tempfile::tempdir().unwrap();
    let options = crate::archive::RestoreOptions::new(super::support::limits());
    let done = crate::archive::restore(&bytes[..], open(copy.path()).as_fd(), &options);
    assert_eq!(done.unwrap().entries, 601);
    let (_, again) = archive(copy.path());
    assert_eq!(again.content_digest, summary.content_digest);
}

/// Cuts a file when the first frame is written, which is long before the end of the file was read.
struct Cutting<'p> {
    bytes: Vec<u8>,
    path: &'p Path,
    size: u64,
}

impl Write for Cutting<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() {
            File::options().write(true).open(self.path)?.set_len(self.size)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noted_and_keeps_the_size_of_its_header() {
    const SIZE: usize = 60 << 20;
    for size in [1, (SIZE + 10) as u64] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![b'x'; SIZE]).unwrap();
        fs::write(folder.path().join("next"), "next").unwrap();
        let mut out = Cutting { bytes: Vec::new(), path: &path, size };
        let options = WriteOptions::default();
        let summary = write(open(folder.path()).as_fd(), &Excludes::none(), options, &mut out, None).unwrap();
        assert_eq!(summary.notes.listed(), [(b"file".to_vec(), Note::Changed)]);
        let (copy, _) = restored(&out.bytes).unwrap();
        assert_eq!(fs::metadata(copy.path().join("file")).unwrap().len(), SIZE as u64);
        assert_eq!(fs::read(copy.path().join("next")).unwrap(), b"next");
    }
}

#[test]
fn a_writer_that_fails_ends_the_archive_with_its_error() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 =
                self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("the pipe is closed"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for number in 0..40 {
        let content: Vec<u8> = (0..1_000_000).map(|_| random.u8(..)).collect();
        fs::write(folder.path().join(number.to_string()), content).unwrap();
    }
    for room in [0, 100, 5_000_000, 39_000_000] {
        let options = WriteOptions::default();
        let done = write(open(folder.path()).as_fd(), &Excludes::none(), options, Full(room), None);
        let error = done.unwrap_err();
        assert_eq!(error.to_string(), "writing the archive failed: the pipe is closed");
    }
}

/// Runs as nobody; the identity of a thread is its own.
fn as_nobody<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let nobody = Uid::from_raw(65534);
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                set_thread_res_uid(nobody, nobody, nobody).unwrap();
                run()
            })
            .join()
            .unwrap()
    })
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("closed"), "x").unwrap();
    fs::set_permissions(folder.path().join("closed"), Permissions::from_mode(0o0)).unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::set_permissions(folder.path().join("folder"), Permissions::from_mode(0o0)).unwrap();
    fs::write(folder.path().join("open"), "x").unwrap();
    let path = folder.path();
    let error = as_nobody(|| archive_with(path, &Excludes::none(), WriteOptions::default()).map(|_| ()));
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::Tree(tree::Error::Io { path, .. }) if path == b"closed"), "{error}");
    let listed = || WriteOptions { unreadable: Unreadable::List, ..WriteOptions::default() };
    let (bytes, summary) = as_nobody(|| archive_with(path, &Excludes::none(), listed())).unwrap();
    let denied = Note::Unreadable(rustix::io::Errno::ACCESS);
    assert_eq!(summary.notes.listed(), [(b"closed".to_vec(), denied), (b"folder".to_vec(), denied)]);
    let (copy, _) = restored(&bytes).unwrap();
    assert_eq!(seen(copy.path()).len(), 3);
}

#[test]
fn an_owner_that_cannot_be_set_costs_setuid_and_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("program"), "x").unwrap();
    fs::set_permissions(folder.path().join("program"), Permissions::from_mode(0o6755)).unwrap();
    let (bytes, _) = archive(folder.path());
    let copy = tempfile::tempdir().unwrap();
    chown(copy.path(), Some(65534), Some(65534)).unwrap();
    let (root, options) = (open(copy.path()), crate::archive::RestoreOptions::new(super::support::limits()));
    // One thread: the identity of a thread is inherited by those that it starts.
    let done = as_nobody(|| crate::archive::restore(&bytes[..], root.as_fd(), &options)).unwrap();
    assert!(
        done.notes.listed().contains(&(b"program".to_vec(), Note::Owner(0, 0))),
        "{:?}",
        done.notes.lines()
    );
    assert_eq!(seen(copy.path())[Path::new("program")].mode, 0o755);
}

#[test]
fn the_state_of_a_backup_is_the_state_of_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/file"), "x").unwrap();
    let (mut state, mut again) = (Vec::new(), Vec::new());
    let root = open(folder.path());
    let excludes = Excludes::none();
    let writer = StateWriter::begin(&mut state as &mut dyn Write, &excludes).unwrap();
    let summary =
        write(root.as_fd(), &excludes, WriteOptions::default(), std::io::sink(), Some(writer)).unwrap();
    assert_eq!(record(root.as_fd(), &excludes, &mut again).unwrap(), summary.entries);
    assert_eq!(state.len(), again.len());
    let compared = || compare(root.as_fd(), &excludes, &state[..], &[]).unwrap();
    assert_eq!(compared(), Comparison::Unchanged { entries: 3 });
    fs::write(folder.path().join("d/file"), "y").unwrap();
    let changed = Comparison::Changed { path: b"d/file".to_vec(), reason: Reason::Metadata };
    assert_eq!(compared(), changed);
}

#[test]
fn skipped_paths_are_not_made_and_are_proven_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for (name, size) in [("small", 10), ("large", 1 << 20), ("other", 10)] {
        fs::write(folder.path().join(name), vec![7; size]).unwrap();
    }
    let (bytes, _) = archive(folder.path());
    let copy = tempfile::tempdir().unwrap();
    let options = crate::archive::RestoreOptions {
        skip: &[b"small", b"large"],
        ..crate::archive::RestoreOptions::new(super::support::limits())
    };
    let done = crate::archive::restore(&bytes[..], open(copy.path()).as_fd(), &options).unwrap();
    assert!(done.footer.is_some());
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 1);
    assert!(copy.path().join("other").exists());
}

#[test]
fn a_plain_tar_has_the_same_tree_for_us_and_for_tar() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/file"), vec![7; 5 << 20]).unwrap();
    fs::hard_link(folder.path().join("d/file"), folder.path().join("link")).unwrap();
    let mut bytes = Vec::new();
    let root = open(folder.path());
    let options = WriteOptions::default();
    let written =
        crate::archive::write_plain(root.as_fd(), &Excludes::none(), options, &mut bytes, None).unwrap();
    assert_eq!((written.bytes, written.digest), (bytes.len() as u64, *blake3::hash(&bytes).as_bytes()));
    let (copy, done) = super::support::restored(&bytes).unwrap();
    assert_eq!(done.format, crate::archive::Format::Tar);
    assert_eq!(seen(copy.path()), seen(folder.path()));
    let mut tar = std::process::Command::new("tar");
    tar.args(["-tf", "-"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut tar = tar.spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(tar.wait().unwrap().success());
}
