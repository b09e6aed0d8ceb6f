use std::os::unix::fs::MetadataExt as _;

use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;
use crate::workspace::copy::pack::pack;

/// An archive of entries: kind, name, and content or link. Names are written as they are.
fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let mut data = content.as_bytes();
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            data = b"";
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        archive.append(&header, data).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Unpacks entries below `top` to `target` in a new folder that also has `outside`; returns what was skipped.
fn unpacked(entries: &[(EntryType, &str, &str)]) -> (TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/secret"), "secret").unwrap();
    let all: Vec<_> =
        std::iter::once((EntryType::Directory, "./top", "")).chain(entries.iter().copied()).collect();
    let bytes = archive(&all);
    let skipped = unpack(bytes.as_slice(), &dir.path().join("target"), Some("top")).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("outside/secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1, "nothing is added outside");
    assert_eq!(fs::metadata(dir.path().join("outside/secret")).unwrap().nlink(), 1);
    (dir, skipped.texts())
}

#[test]
fn names_that_lead_elsewhere_are_not_copied() {
    let evil = [
        "../outside/new",
        "./top/../../outside/new",
        "/tmp/spaceport-never",
        "./other/new",
        "./top/../new",
        "..",
        "/",
    ];
    for name in evil {
        let (dir, skipped) =
            unpacked(&[(EntryType::Regular, name, "evil"), (EntryType::Regular, "./top/ok", "ok")]);
        assert_eq!(skipped.len(), 1, "{name}: {skipped:?}");
        assert_eq!(fs::read_to_string(dir.path().join("target/ok")).unwrap(), "ok");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{name}");
    }
}

#[test]
fn nothing_is_written_through_a_link_of_the_archive_or_of_the_user() {
    for link in ["../outside", "/tmp", "..", "a/../../outside"] {
        let entries =
            [(EntryType::Symlink, "./top/link", link), (EntryType::Regular, "./top/link/new", "evil")];
        let (dir, skipped) = unpacked(&entries);
        assert_eq!(skipped.len(), 2, "{link}: {skipped:?}");
        assert!(fs::symlink_metadata(dir.path().join("target/link")).is_err());
    }
    // A link that stays below is made, and still nothing is written through it.
    let entries = [
        (EntryType::Directory, "./top/real", ""),
        (EntryType::Symlink, "./top/link", "real"),
        (EntryType::Regular, "./top/link/new", "evil"),
        (EntryType::Directory, "./top/link", ""),
    ];
    let (dir, skipped) = unpacked(&entries);
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert_eq!(fs::read_link(dir.path().join("target/link")).unwrap(), Path::new("real"));
    assert_eq!(fs::read_dir(dir.path().join("target/real")).unwrap().count(), 0);
    // A link of the user in the way is replaced, not written to.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("target")).unwrap();
    fs::write(dir.path().join("mine"), "mine").unwrap();
    symlink("../mine", dir.path().join("target/file")).unwrap();
    let bytes = archive(&[(EntryType::Regular, "./top/file", "theirs")]);
    unpack(bytes.as_slice(), &dir.path().join("target"), Some("top")).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("mine")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(dir.path().join("target/file")).unwrap(), "theirs");
}

#[test]
fn links_stay_below_the_target_and_so_does_every_chain_of_them() {
    let below = |inner: &str, link: &str| stays_below(Path::new(inner), Path::new(link));
    assert!(below("link", "file") && below("a/link", "../file") && below("a/b/link", "../../x/y"));
    assert!(below("a/link", "./file"));
    for (inner, link) in [
        ("link", "../x"),
        ("a/link", "../../x"),
        ("link", "/x"),
        ("a/link", "b/../x"),
        ("link", ".."),
        ("link", ""),
        ("", "x"),
    ] {
        assert!(!below(inner, link), "{inner} -> {link}");
    }
}

#[test]
fn hard_links_name_only_what_was_copied() {
    for link in ["../outside/secret", "outside/secret", "/etc/passwd", "./top/none", "./top", "./top/dir"] {
        let entries = [(EntryType::Directory, "./top/dir", ""), (EntryType::Link, "./top/link", link)];
        let (dir, skipped) = unpacked(&entries);
        assert_eq!(skipped.len(), 1, "{link}: {skipped:?}");
        assert!(fs::symlink_metadata(dir.path().join("target/link")).is_err());
    }
    let entries = [
        (EntryType::Regular, "./top/file", "content"),
        (EntryType::Link, "./top/link", "./top/file"),
        (EntryType::Link, "./top/link", "./top/link"),
    ];
    let (dir, skipped) = unpacked(&entries);
    assert!(skipped.is_empty(), "{skipped:?}");
    assert_eq!(fs::metadata(dir.path().join("target/link")).unwrap().nlink(), 2);
}

#[test]
fn devices_pipes_and_set_user_ids_are_not_made() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let (dir, skipped) = unpacked(&[(kind, "./top/odd", "")]);
        assert_eq!(skipped.len(), 1);
        assert!(fs::symlink_metadata(dir.path().join("target/odd")).is_err());
    }
    let mut archive = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o6755);
    header.set_size(0);
    archive.append_data(&mut header, "top", io::empty()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    unpack(archive.into_inner().unwrap().as_slice(), &file, Some("top")).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_name_without_end_costs_no_memory() {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let endless = io::Read::chain(header.as_bytes().as_slice(), io::repeat(b'a'));
    let dir = tempfile::tempdir().unwrap();
    let error = unpack(endless, &dir.path().join("target"), Some("top")).unwrap_err();
    assert!(format!("{error:#}").contains("longer than 1 MiB"), "{error:#}");
}

#[test]
fn a_tree_comes_back_as_it_was_packed() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("deep/empty")).unwrap();
    let long = "n".repeat(200);
    fs::write(from.join(&long), "long name").unwrap();
    fs::write(from.join("deep/large"), vec![7; 3_000_000]).unwrap();
    fs::write(from.join("odd\n\u{7f}name"), "").unwrap();
    fs::write(from.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("program"), Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(from.join("deep/large"), from.join("linked")).unwrap();
    symlink("deep/large", from.join("link")).unwrap();
    symlink("../program", from.join("deep/up")).unwrap();
    fs::set_permissions(from.join("deep/empty"), Permissions::from_mode(0o500)).unwrap();
    let mut bytes = Vec::new();
    assert!(pack(&from, Path::new("name"), &mut bytes).unwrap().texts().is_empty());
    let to = dir.path().join("to");
    assert!(unpack(bytes.as_slice(), &to, Some("name")).unwrap().texts().is_empty());
    assert_eq!(listed(&from), listed(&to));
    assert_eq!(fs::metadata(to.join("linked")).unwrap().nlink(), 2);
    // The content alone, into a folder.
    let (mut bytes, other) = (Vec::new(), dir.path().join("other"));
    pack(&from, Path::new("."), &mut bytes).unwrap();
    fs::create_dir(&other).unwrap();
    assert!(unpack(bytes.as_slice(), &other, None).unwrap().texts().is_empty());
    assert_eq!(listed(&from), listed(&other));
}

/// Name, mode, time, and content or link of everything.
fn listed(root: &Path) -> Vec<(PathBuf, u32, i64, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let time = if meta.is_symlink() { 0 } else { meta.mtime() };
            found.push((path.strip_prefix(root).unwrap().to_owned(), meta.mode(), time, content));
        }
    }
    found.sort();
    found
}
