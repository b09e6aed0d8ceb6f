//! Walks, excludes and state files on a real filesystem.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::state::StateWriter;
use super::*;

fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

fn paths(root: &Path, excludes: &Excludes) -> Vec<String> {
    let root = open(root);
    let mut walk = Walk::new(root.as_fd(), excludes);
    let mut paths = Vec::new();
    while let Some(entry) = walk.next().unwrap() {
        paths.push(String::from_utf8_lossy(entry.path).into_owned());
    }
    paths
}

fn some_tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b", "a/x", "a.b", "a/y/z"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    symlink("/", folder.path().join("a/root")).unwrap();
    folder
}

#[test]
fn a_walk_is_in_order_and_follows_no_link() {
    let folder = some_tree();
    assert_eq!(
        paths(folder.path(), &Excludes::none()),
        [".", "a", "a/root", "a/x", "a/y", "a/y/z", "a.b", "b"]
    );
}

#[test]
fn a_walk_that_may_hold_few_names_finds_the_same_entries() {
    let folder = tempfile::tempdir().unwrap();
    for (outer, middle, inner) in
        (0..6).flat_map(|o| (0..6).flat_map(move |m| (0..6).map(move |i| (o, m, i))))
    {
        let path = folder.path().join(format!("{outer}-outer/{middle}-middle/x"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("{inner}-file")), "").unwrap();
    }
    let (root, excludes) = (open(folder.path()), Excludes::none());
    let expected = paths(folder.path(), &excludes);
    assert_eq!(expected.len(), 1 + 6 + 36 + 36 + 216);
    for bounds in [(1, 1), (20, 20), (50, 100)] {
        let mut walk = Walk::new(root.as_fd(), &excludes).with_bounds(bounds);
        let mut found = Vec::new();
        while let Some(entry) = walk.next().unwrap() {
            assert!(entry.path == b"." || entry.path.ends_with(entry.name.to_bytes()));
            found.push(String::from_utf8_lossy(entry.path).into_owned());
        }
        assert_eq!(found, expected, "{bounds:?}");
    }
}

#[test]
fn patterns_of_the_class_and_of_the_workspace_leave_out() {
    let folder = some_tree();
    let class = ["*.b".to_owned(), "/a/y/".to_owned()];
    let excludes = Excludes::load(&class, open(folder.path()).as_fd(), &[]).unwrap();
    assert_eq!(paths(folder.path(), &excludes), [".", "a", "a/root", "a/x", "b"]);
    fs::write(folder.path().join(IGNORE_FILE), "# comment\n\nx\n!a.b\n[z-a]\n").unwrap();
    let excludes = Excludes::load(&class, open(folder.path()).as_fd(), &[]).unwrap();
    assert_eq!(paths(folder.path(), &excludes), [".", IGNORE_FILE, "a", "a/root", "a.b", "b"]);
    assert_eq!(excludes.patterns(), ["*.b", "/a/y/", "x", "!a.b"]);
    assert_eq!(excludes.invalid(), ["[z-a]"]);
    assert!(matches!(Excludes::new(&["[z-a]".to_owned()], "", &[]), Err(Error::Pattern { .. })));
    // A link is not followed to a list of patterns.
    fs::rename(folder.path().join(IGNORE_FILE), folder.path().join("list")).unwrap();
    symlink("list", folder.path().join(IGNORE_FILE)).unwrap();
    assert_eq!(Excludes::load(&[], open(folder.path()).as_fd(), &[]).unwrap().patterns().len(), 0);
}

fn state_of(root: &Path) -> Vec<u8> {
    let mut state = Vec::new();
    record(open(root).as_fd(), &Excludes::none(), &mut state).unwrap();
    state
}

fn compared(root: &Path, state: &[u8]) -> Comparison {
    compare(open(root).as_fd(), &Excludes::none(), state, &[]).unwrap()
}

fn reason(root: &Path, state: &[u8]) -> (String, Reason) {
    match compared(root, state) {
        Comparison::Changed { path, reason } => (String::from_utf8(path).unwrap(), reason),
        Comparison::Unchanged { .. } => panic!("unchanged"),
    }
}

#[test]
fn every_kind_of_change_is_found() {
    type Change = fn(&Path);
    let changes: [(&str, Reason, Change); 9] = [
        ("b", Reason::Metadata, |root| fs::write(root.join("b"), "c").unwrap()),
        ("b", Reason::Metadata, |root| {
            // The same size and mtime: only ctime tells.
            let before = fs::metadata(root.join("b")).unwrap().modified().unwrap();
            fs::write(root.join("b"), "c").unwrap();
            File::options().write(true).open(root.join("b")).unwrap().set_modified(before).unwrap();
        }),
        ("b", Reason::Metadata, |root| {
            fs::set_permissions(root.join("b"), Permissions::from_mode(0o600)).unwrap();
        }),
        ("a/x", Reason::Metadata, |root| {
            // Nothing but another inode under the name; the parent keeps its times.
            let parent = fs::metadata(root.join("a")).unwrap().modified().unwrap();
            fs::rename(root.join("a/x"), root.join("a/y/z")).unwrap();
            fs::write(root.join("a/x"), "a/x").unwrap();
            open(&root.join("a")).set_modified(parent).unwrap();
        }),
        (".", Reason::Metadata, |root| fs::write(root.join("c"), "").unwrap()),
        (".", Reason::Metadata, |root| fs::remove_file(root.join("b")).unwrap()),
        ("a", Reason::Metadata, |root| {
            fs::rename(root.join("a/x"), root.join("a/w")).unwrap();
        }),
        (".", Reason::Metadata, |root| fs::set_permissions(root, Permissions::from_mode(0o711)).unwrap()),
        ("a/root", Reason::Metadata, |root| {
            fs::remove_file(root.join("a/root")).unwrap();
            symlink("/x", root.join("a/root")).unwrap();
        }),
    ];
    for (number, (path, expected, change)) in changes.into_iter().enumerate() {
        let folder = some_tree();
        let state = state_of(folder.path());
        assert_eq!(compared(folder.path(), &state), Comparison::Unchanged { entries: 8 });
        change(folder.path());
        let (found, reason) = reason(folder.path(), &state);
        assert_eq!(reason, expected, "{number}");
        // A change of names shows at the directory first.
        assert!(found == path || path.starts_with(&found), "{number}: {found}");
    }
}

#[test]
fn names_are_compared_even_where_a_directory_kept_its_times() {
    let folder = some_tree();
    let entries = |skip: &str, add: Option<&str>| {
        let root = open(folder.path());
        let mut state = Vec::new();
        let excludes = Excludes::none();
        let mut writer = StateWriter::begin(&mut state, &excludes).unwrap();
        let mut walk = Walk::new(root.as_fd(), &excludes);
        while let Some(entry) = walk.next().unwrap() {
            if entry.path == b"a.b"
                && let Some(add) = add
            {
                writer.add(add.as_bytes(), &Record::from(&entry.stat)).unwrap();
            }
            if entry.path != skip.as_bytes() {
                writer.add(entry.path, &Record::from(&entry.stat)).unwrap();
            }
        }
        writer.finish().unwrap();
        state
    };
    let reason = |state: Vec<u8>| reason(folder.path(), &state);
    assert_eq!(reason(entries("a/x", None)), ("a/x".into(), Reason::Added));
    assert_eq!(reason(entries("b", None)), ("b".into(), Reason::Added));
    assert_eq!(reason(entries("", Some("a/zz"))), ("a/zz".into(), Reason::Removed));
    assert_eq!(reason(entries("", Some("a-"))), ("a-".into(), Reason::Removed));
}

#[test]
fn the_root_may_be_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    fs::create_dir(&here).unwrap();
    fs::write(here.join("file"), "x").unwrap();
    let state = state_of(&here);
    std::thread::sleep(Duration::from_millis(30));
    fs::rename(&here, &there).unwrap();
    assert_eq!(compared(&there, &state), Comparison::Unchanged { entries: 2 });
}

#[test]
fn what_was_written_close_to_the_state_file_counts_as_changed() {
    let folder = some_tree();
    let changed = fs::metadata(folder.path().join("b")).unwrap();
    let since = SystemTime::UNIX_EPOCH
        + Duration::new(changed.ctime().cast_unsigned(), u32::try_from(changed.ctime_nsec()).unwrap());
    let state_at = |time: SystemTime| {
        let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let time = Time { seconds: time.as_secs().cast_signed(), nanos: time.subsec_nanos() };
        let mut state = Vec::new();
        let excludes = Excludes::none();
        let mut writer = StateWriter::begin_at(&mut state, &excludes, time).unwrap();
        let root = open(folder.path());
        let mut walk = Walk::new(root.as_fd(), &excludes);
        while let Some(entry) = walk.next().unwrap() {
            writer.add(entry.path, &Record::from(&entry.stat)).unwrap();
        }
        writer.finish().unwrap();
        state
    };
    let close = state_at(since + Duration::from_millis(19));
    assert_eq!(reason(folder.path(), &close).1, Reason::Racy);
    let later = state_at(since + Duration::from_secs(1));
    assert_eq!(compared(folder.path(), &later), Comparison::Unchanged { entries: 8 });
}

#[test]
fn other_excludes_count_as_changed() {
    let folder = some_tree();
    let state = state_of(folder.path());
    let excludes = Excludes::new(&["*.tmp".to_owned()], "", &[]).unwrap();
    let found = compare(open(folder.path()).as_fd(), &excludes, &state[..], &[]).unwrap();
    assert_eq!(found, Comparison::Changed { path: b".".to_vec(), reason: Reason::Excludes });
}

#[test]
fn a_state_file_that_was_cut_or_changed_is_never_unchanged() {
    let folder = some_tree();
    let state = state_of(folder.path());
    let is_unchanged = |state: &[u8]| {
        let found = compare(open(folder.path()).as_fd(), &Excludes::none(), state, &[]);
        matches!(found, Ok(Comparison::Unchanged { .. }))
    };
    assert!(is_unchanged(&state));
    for at in 0..state.len() {
        assert!(!is_unchanged(&state[..at]), "{at}");
        let mut changed = state.clone();
        changed[at] ^= 1;
        assert!(!is_unchanged(&changed), "{at}");
    }
}

#[test]
fn many_names_are_read_and_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = vec![".".to_owned()];
    for number in 0..5000 {
        let name = format!("{number:05}-{}", "n".repeat(number % 100));
        fs::write(folder.path().join(&name), "").unwrap();
        expected.push(name);
    }
    expected.sort();
    assert_eq!(paths(folder.path(), &Excludes::none()), expected);
    let state = state_of(folder.path());
    assert_eq!(compared(folder.path(), &state), Comparison::Unchanged { entries: 5001 });
}

proptest! {
    #[test]
    fn records_come_back(
        records in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..40), any::<u64>(), any::<i64>(), 0..0o10000u32), 0..50
        )
    ) {
        let records: Vec<(Vec<u8>, Record)> = records
            .into_iter()
            .map(|(path, number, seconds, mode)| {
                let time = Time { seconds, nanos: mode };
                let record = Record {
                    inode: number, size: number, mtime: time, ctime: time, kind: Kind::Fifo, mode, uid: mode, gid: u32::MAX,
                };
                (path, record)
            })
            .collect();
        let mut state = Vec::new();
        let mut writer = StateWriter::begin_at(&mut state, &Excludes::none(), Time::default()).unwrap();
        for (path, record) in &records {
            writer.add(path, record).unwrap();
        }
        writer.finish().unwrap();
        let mut reader = StateReader::open(&state[..]).unwrap();
        for (path, record) in &records {
            prop_assert_eq!(reader.next().unwrap(), Some((&path[..], *record)));
        }
        prop_assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn any_bytes_are_no_state_file(bytes: Vec<u8>) {
        prop_assert!(StateReader::open(&bytes[..]).is_err());
    }
}

#[test]
fn the_times_of_the_callers_own_folders_do_not_count_and_their_entries_do() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    let excludes = Excludes::new(&[], "!/own/ready", &["/own/ready"]).unwrap();
    let mut state = Vec::new();
    record(open(folder.path()).as_fd(), &excludes, &mut state).unwrap();
    let compared = || compare(open(folder.path()).as_fd(), &excludes, &state[..], &[b"own"]).unwrap();
    fs::write(own.join("ready"), "x").unwrap();
    assert_eq!(compared(), Comparison::Unchanged { entries: 2 });
    fs::write(own.join("other"), "x").unwrap();
    assert_eq!(compared(), Comparison::Changed { path: b"own/other".to_vec(), reason: Reason::Added });
}
