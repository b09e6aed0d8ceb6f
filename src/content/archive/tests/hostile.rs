//! Hostile archives, each with the rule that refuses it, and nothing outside of the folder.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use tar::{EntryType, Header};

use super::support::{limits, open, restored, seen};
use crate::archive::header::{BLOCK, encode, padding};
use crate::archive::{Body, Error, Format, Limits, Member, RestoreOptions, Restored, Rule, restore};
use crate::tree::{self, Meta, Segment, Time, Xattr};

/// A tar of raw parts.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(self, name: &[u8], kind: u8, size: u64, link: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name);
        ustar.linkname[..link.len()].copy_from_slice(link);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header.set_entry_type(EntryType::new(kind));
        header.set_cksum();
        self.raw(header.as_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn data(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len() + padding(bytes.len() as u64), 0);
        self
    }

    fn file(self, name: &[u8], content: &[u8]) -> Self {
        self.header(name, b'0', content.len() as u64, b"").data(content)
    }

    fn link(self, kind: u8, name: &[u8], target: &[u8]) -> Self {
        self.header(name, kind, 0, target)
    }

    fn pax(self, records: &[(&[u8], &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..10_000).find(|length: &usize| length.to_string().len() + rest == *length).unwrap();
            write!(text, "{length} ").unwrap();
            text.extend_from_slice(key);
            text.push(b'=');
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.header(b"pax", b'x', text.len() as u64, b"").data(&text)
    }

    fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

fn tar() -> Tar {
    Tar::default()
}

/// A folder in a folder: what is beside it must stay as it is.
fn attacked(bytes: &[u8], limits: Limits, before: impl FnOnce(&Path)) -> Result<(), Error> {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(outer.path().join("secret"), "outside").unwrap();
    before(&inner);
    let done = restore(bytes, open(&inner).as_fd(), &RestoreOptions::new(limits));
    let names: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"outside");
    done.map(|_| ())
}

#[track_caller]
fn refused(tar: Tar, rule: Rule) {
    refused_with(tar, limits(), rule);
}

#[track_caller]
fn refused_with(tar: Tar, limits: Limits, expected: Rule) {
    match attacked(&tar.end(), limits, |_| {}) {
        Err(Error::Refused { rule, .. }) => assert_eq!(rule, expected),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused_by_tree(tar: Tar, expected: tree::Rule) {
    match attacked(&tar.end(), limits(), |_| {}) {
        Err(Error::Tree(tree::Error::Refused { rule, .. })) => assert_eq!(rule, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn device_nodes_are_refused() {
    refused(tar().link(b'3', b"null", b""), Rule::Device);
    refused(tar().link(b'4', b"disk", b""), Rule::Device);
}

#[test]
fn types_that_nobody_needs_are_refused() {
    refused(tar().link(b'S', b"old-sparse", b""), Rule::Unsupported(b'S'));
    refused(tar().link(b'V', b"label", b""), Rule::Unsupported(b'V'));
}

#[test]
fn absolute_and_parent_paths_are_refused() {
    refused_by_tree(tar().file(b"/etc/passwd", b"x"), tree::Rule::AbsolutePath);
    refused_by_tree(tar().file(b"../secret", b"x"), tree::Rule::ParentPath);
    refused_by_tree(tar().link(b'5', b"a/../../b/", b""), tree::Rule::ParentPath);
    refused_by_tree(tar().pax(&[(b"path", b"../secret")]).file(b"fine", b"x"), tree::Rule::ParentPath);
    refused_by_tree(tar().pax(&[(b"path", b"a\0b")]).file(b"fine", b"x"), tree::Rule::EmptyPath);
    refused_by_tree(tar().file(b"./", b"x"), tree::Rule::RootIsDirectory);
    refused_by_tree(tar().pax(&[(b"path", &[b'n'; 300])]).file(b"fine", b"x"), tree::Rule::LongName);
}

#[test]
fn nothing_goes_through_a_symbolic_link() {
    for target in [&b".."[..], b"/tmp", b"real"] {
        let base = tar().link(b'5', b"real/", b"").link(b'2', b"link", target);
        match attacked(&base.clone().file(b"link/secret", b"x").end(), limits(), |_| {}) {
            Err(Error::Tree(tree::Error::Refused { rule, .. })) => {
                assert_eq!(rule, tree::Rule::NotThroughDirectory);
            }
            other => panic!("{other:?}"),
        }
        // Whichever of the two is made first, the other one is refused.
        match attacked(&base.link(b'5', b"link/", b"").end(), limits(), |_| {}) {
            Err(Error::Tree(tree::Error::Refused { rule, .. })) => {
                assert!(matches!(rule, tree::Rule::NotThroughDirectory | tree::Rule::ReplacesDirectory));
            }
            other => panic!("{other:?}"),
        }
    }
    // One that was in the folder before.
    let bytes = tar().file(b"link/secret", b"x").end();
    let done = attacked(&bytes, limits(), |inner| symlink("..", inner.join("link")).unwrap());
    assert!(matches!(
        done,
        Err(Error::Tree(tree::Error::Refused { rule: tree::Rule::NotThroughDirectory, .. }))
    ));
}

#[test]
fn a_file_replaces_a_symbolic_link_and_not_its_target() {
    let bytes = tar().link(b'2', b"link", b"../secret").file(b"link", b"mine").end();
    attacked(&bytes, limits(), |_| {}).unwrap();
    let (folder, _) = restored(&bytes).unwrap();
    assert_eq!(fs::read(folder.path().join("link")).unwrap(), b"mine");
    assert!(fs::symlink_metadata(folder.path().join("link")).unwrap().is_file());
    // The same with a file that is written while it is read.
    let large = vec![b'x'; 200_000];
    attacked(&tar().link(b'2', b"link", b"../secret").file(b"link", &large).end(), limits(), |_| {}).unwrap();
}

#[test]
fn hard_links_stay_inside() {
    refused_by_tree(tar().link(b'1', b"mine", b"../secret"), tree::Rule::ParentPath);
    refused_by_tree(tar().link(b'1', b"mine", b"/etc/passwd"), tree::Rule::AbsolutePath);
    refused_by_tree(tar().link(b'1', b"mine", b"missing"), tree::Rule::HardLinkTarget);
    refused_by_tree(tar().link(b'1', b"mine", b"mine"), tree::Rule::HardLinkTarget);
    let through = tar().link(b'2', b"up", b"..").link(b'1', b"mine", b"up/secret");
    refused_by_tree(through, tree::Rule::HardLinkTarget);
    let of_link = tar().link(b'2', b"up", b"../secret").link(b'1', b"mine", b"up");
    refused_by_tree(of_link, tree::Rule::HardLinkTarget);
    let of_itself = tar().file(b"a", b"x").link(b'1', b"./a", b"a");
    refused_by_tree(of_itself, tree::Rule::HardLinkTarget);
}

#[test]
fn a_directory_is_not_replaced() {
    refused_by_tree(tar().link(b'5', b"d/", b"").file(b"d", b"x"), tree::Rule::ReplacesDirectory);
    refused_by_tree(tar().link(b'5', b"d/", b"").link(b'2', b"d", b".."), tree::Rule::ReplacesDirectory);
    refused_by_tree(tar().file(b"f", b"x").file(b"f/g", b"x"), tree::Rule::NotThroughDirectory);
}

#[test]
fn symbolic_links_have_a_target_that_the_kernel_takes() {
    refused_by_tree(tar().link(b'2', b"link", b""), tree::Rule::SymlinkTarget);
    let long = tar().pax(&[(b"linkpath", &[b'a'; 5000])]).link(b'2', b"link", b"x");
    refused_by_tree(long, tree::Rule::SymlinkTarget);
}

#[test]
fn headers_that_disagree_are_refused() {
    refused(tar().pax(&[(b"size", b"3")]).file(b"f", b"four"), Rule::SizesDisagree);
    refused(tar().pax(&[(b"size", b"0")]).file(b"f", b"four"), Rule::SizesDisagree);
    refused(tar().header(b"d/", b'5', 5, b"").data(b"12345"), Rule::Content);
    refused(tar().header(b"l", b'1', 5, b"d").data(b"12345"), Rule::Content);
    let mut wrong = tar().file(b"f", b"x");
    wrong.0[0] = b'g';
    refused(wrong, Rule::Checksum);
    let mut digits = [0; 512];
    digits.copy_from_slice(&tar().file(b"f", b"").0[..512]);
    let mut header = Header::from_byte_slice(&digits).clone();
    header.as_ustar_mut().unwrap().size = *b"00000000zz\0\0";
    header.set_cksum();
    refused(tar().raw(header.as_bytes()), Rule::Number);
}

#[test]
fn pax_headers_are_read_strictly() {
    for text in
        [&b"9 path=a"[..], b"99 path=a\n", b"x path=a\n", b"8 path\n\n", b"12 size=abc\n ", b"0 a=b\n"]
    {
        refused(tar().header(b"pax", b'x', text.len() as u64, b"").data(text).file(b"f", b"x"), Rule::Pax);
    }
    refused(tar().pax(&[(b"path", b"a"), (b"path", b"b")]).file(b"f", b"x"), Rule::Pax);
    refused(tar().pax(&[(b"path", b"a")]).pax(&[(b"path", b"b")]).file(b"f", b"x"), Rule::Pax);
    refused(tar().pax(&[(b"uid", b"-1")]).file(b"f", b"x"), Rule::Pax);
    refused(tar().pax(&[(b"GNU.sparse.map", b"0,1")]).file(b"f", b"x"), Rule::Pax);
    let global = b"13 path=evil\n";
    refused(tar().header(b"g", b'g', 13, b"").data(global).file(b"f", b"x"), Rule::Pax);
    let comment = tar().header(b"g", b'g', 14, b"").data(b"14 comment=ab\n").file(b"f", b"x");
    attacked(&comment.end(), limits(), |_| {}).unwrap();
}

#[test]
fn lists_of_holes_must_fit() {
    let sparse = |size: &[u8], map: &[u8], data: &[u8]| {
        let mut content = map.to_vec();
        content.resize(content.len() + padding(map.len() as u64), 0);
        content.extend_from_slice(data);
        let records: [(&[u8], &[u8]); 4] = [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", b"s"),
            (b"GNU.sparse.realsize", size),
        ];
        tar().pax(&records).file(b"GNUSparseFile.0/s", &content)
    };
    attacked(&sparse(b"100", b"1\n10\n4\n", b"data").end(), limits(), |_| {}).unwrap();
    for (size, map) in [
        (&b"100"[..], &b"1\n10\n5\n"[..]),
        (b"100", b"1\n10\n3\n"),
        (b"12", b"1\n10\n4\n"),
        (b"100", b"2\n10\n2\n11\n2\n"),
        (b"100", b"2\n50\n2\n10\n2\n"),
        (b"100", b"1\n18446744073709551615\n4\n"),
        (b"100", b"99999\n1\n"),
        (b"100", b"x\n"),
        (b"100", b"1 10 4"),
        (b"100", b""),
    ] {
        refused(sparse(size, map, b"data"), Rule::SparseMap);
    }
    let half = tar().pax(&[(b"GNU.sparse.major", b"1")]).file(b"f", b"x");
    refused(half, Rule::SparseMap);
}

#[test]
fn limits_hold() {
    let small = Limits { entries: 2, bytes: 10, path: 20, xattrs: 20 };
    refused_with(tar().file(b"a", b"").file(b"b", b"").file(b"c", b""), small, Rule::Entries(2));
    refused_with(tar().file(b"a", b"12345").file(b"b", b"123456"), small, Rule::Bytes(10));
    refused_with(tar().header(b"a", b'0', 1 << 40, b""), small, Rule::Bytes(10));
    refused_with(tar().file(&[b'a'; 21], b""), small, Rule::LongPath(20));
    refused_with(tar().link(b'2', b"a", &[b'a'; 21]), small, Rule::LongPath(20));
    let attribute = tar().pax(&[(b"SCHILY.xattr.user.a", &[b'v'; 20])]).file(b"a", b"");
    refused_with(attribute, small, Rule::Xattrs(20));
    let huge = tar().header(b"pax", b'x', 1 << 33, b"");
    refused_with(huge, small, Rule::Xattrs(20));
}

#[test]
fn a_bomb_of_zeros_ends_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("zeros")).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..64).for_each(|_| (&file).write_all(&zeros).unwrap());
    let (bytes, _) = super::support::archive(folder.path());
    assert!(bytes.len() < 64 << 10);
    let small = Limits { bytes: 1 << 20, ..limits() };
    let done = attacked(&bytes, small, |_| {});
    assert!(matches!(done, Err(Error::Refused { rule: Rule::Bytes(_), .. })), "{done:?}");
}

#[test]
fn attributes_of_other_namespaces_are_left_away() {
    let records: [(&[u8], &[u8]); 3] = [
        (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
        (b"SCHILY.xattr.security.selinux", b"y"),
        (b"SCHILY.xattr.user.mine", b"line\nline"),
    ];
    let (folder, _) = restored(&tar().pax(&records).file(b"f", b"x").end()).unwrap();
    let tree = seen(folder.path());
    assert_eq!(tree[Path::new("f")].xattrs, [("user.mine".to_owned(), b"line\nline".to_vec())]);
}

#[test]
fn plain_and_gzipped_archives_of_other_programs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b").join("n".repeat(200)), vec![1; 300_000]).unwrap();
    fs::write(folder.path().join("a/small"), "small").unwrap();
    fs::hard_link(folder.path().join("a/small"), folder.path().join("z")).unwrap();
    symlink("t".repeat(150), folder.path().join("long-link")).unwrap();
    let expected = seen(folder.path());
    for (arguments, format) in [
        (["-c", "-H", "gnu", "-f-"], Format::Tar),
        (["-c", "-H", "pax", "-f-"], Format::Tar),
        (["-cz", "-H", "gnu", "-f-"], Format::TarGz),
        (["-cz", "-H", "pax", "-f-"], Format::TarGz),
    ] {
        let output = std::process::Command::new("tar")
            .args(arguments)
            .arg("-C")
            .arg(folder.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(output.status.success());
        let (copy, done): (_, Restored) = restored(&output.stdout).unwrap();
        assert_eq!((done.format, done.footer), (format, None));
        let mut found = seen(copy.path());
        // GNU's own format has whole seconds.
        for (path, seen) in &mut found {
            assert_eq!(seen.mtime.0, expected[path].mtime.0);
            seen.mtime = expected[path].mtime;
        }
        super::support::assert_same(&expected, &found);
        let cut = &output.stdout[..output.stdout.len() / 2];
        assert!(restored(cut).is_err());
    }
}

#[test]
fn entries_may_come_in_any_order() {
    // Parents without an entry, a folder that is entered again, and its entry at the end.
    let bytes = tar()
        .file(b"a/b/one", b"1")
        .file(b"c/two", b"2")
        .file(b"a/b/three", b"3")
        .link(b'5', b"a/b/", b"")
        .link(b'1', b"c/four", b"a/b/one")
        .file(b"a/b/one", b"again")
        .end();
    let (folder, done) = restored(&bytes).unwrap();
    assert_eq!(done.entries, 6);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(
        (read("a/b/one"), read("a/b/three"), read("c/two"), read("c/four")),
        ("again".into(), "3".into(), "2".into(), "1".into())
    );
    assert_eq!(seen(folder.path())[Path::new("a/b")].mode, 0o644);
    assert_eq!(seen(folder.path())[Path::new("a/b")].mtime, (0, 0));
}

fn member() -> impl Strategy<Value = Member> {
    let text = |most| prop::collection::vec(1..=255u8, 1..most);
    let segments = prop::collection::vec((1..1u64 << 40, 1..1u64 << 30), 0..6).prop_map(|parts| {
        let mut end = 0;
        parts
            .into_iter()
            .map(|(gap, length)| {
                let segment = Segment { offset: end + gap, length };
                end += gap + length;
                segment
            })
            .collect::<Vec<_>>()
    });
    let body = prop_oneof![
        (0..1u64 << 40).prop_map(|size| Body::File { size, segments: None }),
        (segments, 0..1u64 << 40).prop_map(|(segments, hole)| {
            let end = segments.last().map_or(0, |last| last.offset + last.length);
            Body::File { size: end + hole, segments: Some(segments) }
        }),
        Just(Body::Directory),
        text(300).prop_map(Body::Symlink),
        text(300).prop_map(|target| Body::HardLink([&b"t"[..], &target, b"t"].concat())),
        Just(Body::Fifo),
    ];
    let xattr = ("user\\.[a-z=%]{1,9}", prop::collection::vec(any::<u8>(), 0..200));
    let meta = (
        0..0o10000u32,
        any::<u32>(),
        any::<u32>(),
        any::<i32>(),
        0..1_000_000_000u32,
        prop::collection::btree_map(xattr.0, xattr.1, 0..3),
    );
    let meta = meta.prop_map(|(mode, uid, gid, seconds, nanos, xattrs)| Meta {
        mode,
        uid,
        gid,
        mtime: Time { seconds: i64::from(seconds), nanos },
        xattrs: xattrs.into_iter().map(|(name, value)| Xattr { name: name.into_bytes(), value }).collect(),
    });
    (text(400), meta, body).prop_map(|(path, meta, body)| Member {
        path: [&b"p"[..], &path, b"p"].concat(),
        meta,
        body,
    })
}

proptest! {
    #[test]
    fn headers_come_back(member in member()) {
        let mut bytes = Vec::new();
        encode(&member, &mut bytes);
        prop_assert_eq!(bytes.len() % BLOCK, 0);
        let limits = Limits { entries: 1, bytes: u64::MAX, path: 1000, xattrs: 10_000 };
        let stream = crate::archive::stream::Stream::new(crate::archive::stream::Pieces::Plain(Box::new(&bytes[..])));
        let mut parser = crate::archive::parse::Parser::new(stream, limits);
        let found = parser.next().unwrap().unwrap();
        prop_assert!(parser.stream.is_at_end().unwrap());
        prop_assert_eq!(found, member);
    }
}
