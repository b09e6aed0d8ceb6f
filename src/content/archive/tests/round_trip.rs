//! Random trees come back, by our reader and by the programs of the system.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use super::support::{archive, assert_same, restored, restored_by_tar, seen};
use crate::archive::Format;
use crate::tree::{Xattr, xattr};

#[derive(Debug, Clone)]
enum Kind {
    File(Vec<u8>),
    Long(usize, u8),
    Sparse(Vec<(u32, u16)>, u32),
    Directory,
    Symlink(Vec<u8>),
    HardLink(Index),
    Fifo,
}

#[derive(Debug, Clone)]
struct Plan {
    parent: Index,
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(
        any::<u8>().prop_map(|byte| if byte == b'/' || byte == 0 { b'_' } else { byte }),
        1..12,
    );
    prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        2 => any_bytes,
        1 => Just(vec![b'n'; 255]),
        1 => Just(b"-rf \n\\ *".to_vec()),
    ]
    .prop_filter("names of the kernel", |name| name != b"." && name != b"..")
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..2000).prop_map(Kind::File),
        1 => (0..3_000_000usize, any::<u8>()).prop_map(|(size, byte)| Kind::Long(size, byte)),
        2 => (prop::collection::vec((0..4_000_000u32, any::<u16>()), 0..5), 0..5_000_000u32)
            .prop_map(|(parts, size)| Kind::Sparse(parts, size)),
        4 => Just(Kind::Directory),
        2 => prop::collection::vec(1..=255u8, 1..300).prop_map(Kind::Symlink),
        3 => any::<Index>().prop_map(Kind::HardLink),
        1 => Just(Kind::Fifo),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let mode = prop_oneof![Just(0), Just(0o555), Just(0o4755), Just(0o2775), Just(0o1777), 0..0o10000u32];
    let owner = prop_oneof![Just((0, 0)), (0..70_000u32, 0..70_000u32), Just((3_000_000, 4_000_000_000))];
    let mtime = (prop_oneof![-5..5i64, 0..2_000_000_000i64, Just(10_000_000_000)], 0..1_000_000_000i64);
    // ext4 keeps all attributes of a file in one block.
    let xattrs =
        prop::collection::vec(("user\\.[a-z=%]{1,9}", prop::collection::vec(any::<u8>(), 0..60)), 0..3)
            .prop_map(|all| all.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect());
    (any::<Index>(), name(), kind(), mode, owner, mtime, xattrs).prop_map(
        |(parent, name, kind, mode, owner, mtime, xattrs)| Plan {
            parent,
            name,
            kind,
            mode,
            owner,
            mtime,
            xattrs,
        },
    )
}

/// Makes what can be made of the plans.
fn build(root: &Path, plans: &[Plan]) {
    let (mut folders, mut files) = (vec![PathBuf::new()], Vec::<PathBuf>::new());
    let mut made = BTreeSet::new();
    let mut finish: Vec<(PathBuf, &Plan)> = Vec::new();
    for plan in plans {
        let parent = plan.parent.get(&folders).clone();
        let path = parent.join(OsString::from_vec(plan.name.clone()));
        if path.as_os_str().len() > 1500 || !made.insert(path.clone()) {
            continue;
        }
        let full = root.join(&path);
        match &plan.kind {
            Kind::File(bytes) => fs::write(&full, bytes).unwrap(),
            Kind::Long(size, byte) => fs::write(&full, vec![*byte; *size]).unwrap(),
            Kind::Sparse(parts, size) => {
                let file = File::create(&full).unwrap();
                for (at, length) in parts {
                    file.write_all_at(&vec![7; usize::from(*length)], u64::from(*at)).unwrap();
                }
                file.set_len(u64::from(*size)).unwrap();
            }
            Kind::Directory => {
                fs::create_dir(&full).unwrap();
                folders.push(path.clone());
            }
            Kind::Symlink(target) => symlink(OsString::from_vec(target.clone()), &full).unwrap(),
            Kind::HardLink(_) if files.is_empty() => continue,
            Kind::HardLink(other) => {
                fs::hard_link(root.join(other.get(&files)), &full).unwrap();
                continue;
            }
            Kind::Fifo => mknodat(CWD, &full, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        }
        if matches!(plan.kind, Kind::File(_) | Kind::Long(..) | Kind::Sparse(..)) {
            files.push(path.clone());
        }
        finish.push((path, plan));
    }
    for (path, plan) in finish.iter().rev() {
        decorate(&root.join(path), plan);
    }
}

fn decorate(path: &Path, plan: &Plan) {
    lchown(path, Some(plan.owner.0), Some(plan.owner.1)).unwrap();
    if !matches!(plan.kind, Kind::Symlink(_)) {
        if !matches!(plan.kind, Kind::Fifo) {
            let file = OpenOptions::new().read(true).open(path).unwrap();
            for (name, value) in &plan.xattrs {
                let attribute = Xattr { name: name.clone(), value: value.clone() };
                xattr::set(file.as_fd(), &attribute).unwrap();
            }
        }
        chown(path, Some(plan.owner.0), Some(plan.owner.1)).unwrap();
        fs::set_permissions(path, Permissions::from_mode(plan.mode)).unwrap();
    }
    let time = Timespec { tv_sec: plan.mtime.0, tv_nsec: plan.mtime.1 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_come_back_entry_by_entry(plans in prop::collection::vec(plan(), 0..40)) {
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), &plans);
        let expected = seen(folder.path());
        let (bytes, summary) = archive(folder.path());
        prop_assert_eq!(summary.entries, expected.len() as u64);
        prop_assert_eq!(summary.notes.count(), 0);
        let (ours, done) = restored(&bytes).unwrap();
        prop_assert_eq!(done.format, Format::Indexed);
        prop_assert_eq!(done.notes.count(), 0);
        prop_assert_eq!(done.entries, summary.entries);
        assert_same(&expected, &seen(ours.path()));
        assert_same(&expected, &seen(restored_by_tar(&bytes).path()));
        let (again, second) = archive(ours.path());
        prop_assert_eq!(second.content_digest, summary.content_digest);
        prop_assert_eq!(again.len(), bytes.len());
    }
}
