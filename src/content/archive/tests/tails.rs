//! Proving and listing an archive from its last bytes.

use std::fs;

use zstd::bulk::Decompressor;

use super::support::{archive, archive_with};
use crate::archive::frames::{self, Frame};
use crate::archive::{Body, FOOTER_LENGTH, IndexRecord, Tail, WriteOptions, read_footer, read_index, verify};
use crate::tree::Excludes;

#[test]
fn a_short_tail_says_how_much_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    (0..200).for_each(|number| fs::write(folder.path().join(number.to_string()), "x").unwrap());
    let (bytes, summary) = archive(folder.path());
    let length = bytes.len() as u64;
    let last = |count: u64| &bytes[bytes.len() - usize::try_from(count).unwrap()..];
    let footer_length = FOOTER_LENGTH as u64;
    assert_eq!(read_footer(last(10), length).unwrap(), Tail::More(footer_length));
    assert_eq!(verify(last(10), length, &summary).unwrap(), Tail::More(footer_length));
    let needed = footer_length + summary.index_length;
    assert_eq!(verify(last(footer_length), length, &summary).unwrap(), Tail::More(needed));
    assert_eq!(verify(last(needed - 1), length, &summary).unwrap(), Tail::More(needed));
    for count in [needed, length] {
        let Tail::Ready(footer) = verify(last(count), length, &summary).unwrap() else { panic!() };
        assert_eq!(footer.entries, 201);
    }
}

#[test]
fn the_index_lists_every_entry_and_where_its_headers_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for number in 0..30 {
        let content: Vec<u8> = (0..number * 12_345).map(|_| random.u8(..)).collect();
        fs::write(folder.path().join(format!("file-{number}")), content).unwrap();
    }
    let large: Vec<u8> = (0..9_000_000).map(|_| random.u8(..)).collect();
    fs::write(folder.path().join("large"), large).unwrap();
    fs::write(folder.path().join("skipped.tmp"), "x").unwrap();
    let excludes = Excludes::new(&["*.tmp".to_owned()], "", &[]).unwrap();
    let (bytes, summary) = archive_with(folder.path(), &excludes, WriteOptions::default()).unwrap();
    let Tail::Ready(index) = read_index(&bytes, bytes.len() as u64).unwrap() else { panic!() };
    let records = index.records().unwrap();
    assert_eq!(records[0], IndexRecord::Exclude("*.tmp".to_owned()));
    let (mut decoder, mut source) = (Decompressor::new().unwrap(), &bytes[..]);
    let mut contents = Vec::new();
    while let Some(Frame::Data { bytes, size }) = frames::next(&mut source).unwrap() {
        let stored = bytes.len() as u64;
        contents.push(frames::decode(&mut decoder, &bytes, size).unwrap());
        assert!(records.contains(&IndexRecord::Frame { stored, size: size as u64 }));
        assert!(size <= 4 << 20);
    }
    assert!(contents[..contents.len() - 1].iter().all(|content| content.len() >= 1 << 20));
    let entries: Vec<_> = records
        .iter()
        .filter_map(|record| if let IndexRecord::Entry(entry) = record { Some(entry) } else { None })
        .collect();
    assert_eq!(entries.len() as u64, summary.entries);
    assert_eq!(entries[0].member.path, b".");
    for entry in &entries {
        let frame = &contents[usize::try_from(entry.frame).unwrap()];
        let header = &frame[usize::try_from(entry.offset).unwrap()..];
        assert_eq!(&header[257..262], b"ustar", "{entry:?}");
        if let Body::File { .. } = &entry.member.body {
            let path = String::from_utf8(entry.member.path.clone()).unwrap();
            let content = fs::read(folder.path().join(path)).unwrap();
            assert_eq!(entry.digest.unwrap(), *blake3::hash(&content).as_bytes());
        }
    }
    assert!(!entries.iter().any(|entry| entry.member.path == b"skipped.tmp"));
}

#[test]
fn the_index_is_the_same_in_memory_and_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(folder.path().join(format!("{number}-{}", "long".repeat(60))), "x").unwrap();
    }
    let (bytes, _) = archive(folder.path());
    let spill = Some(tempfile::tempfile().unwrap());
    let options = WriteOptions { spill, ..WriteOptions::default() };
    let (other, _) = archive_with(folder.path(), &Excludes::none(), options).unwrap();
    assert!(bytes == other);
    let (again, _) = archive_with(
        folder.path(),
        &Excludes::none(),
        WriteOptions { threads: 5, ..WriteOptions::default() },
    )
    .unwrap();
    assert!(bytes == again);
}
