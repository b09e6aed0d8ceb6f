//! Archives that were cut or changed anywhere.

use std::fs;
use std::os::unix::fs::symlink;

use super::support::{archive, restored, seen};
use crate::archive::{Error, Rule, Tail, read_footer, read_index, verify};

fn small() -> (Vec<u8>, crate::archive::Summary, super::support::Tree) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/file"), "content of a file").unwrap();
    fs::hard_link(folder.path().join("d/file"), folder.path().join("again")).unwrap();
    symlink("d/file", folder.path().join("link")).unwrap();
    let (bytes, summary) = archive(folder.path());
    (bytes, summary, seen(folder.path()))
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused() {
    let (bytes, ..) = small();
    for length in 0..bytes.len() {
        let error = restored(&bytes[..length]).unwrap_err();
        assert!(matches!(error, Error::Early(_) | Error::Damaged(_)), "{length}: {error}");
    }
    assert!(restored(&[&bytes[..], b"more"].concat()).is_err());
    assert!(restored(&[&bytes[..], &bytes[..]].concat()).is_err());
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let (bytes, _, expected) = small();
    let mut unseen = Vec::new();
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            if let Ok((folder, _)) = restored(&changed) {
                super::support::assert_same(&expected, &seen(folder.path()));
                unseen.push(at);
            }
        }
    }
    // Some bits of zstd's headers mean nothing for small frames; nothing else may go unseen.
    assert!(unseen.len() < 16, "{unseen:?}");
}

#[test]
fn a_changed_tail_is_never_proven() {
    let (bytes, summary, _) = small();
    let length = bytes.len() as u64;
    let Tail::Ready(footer) = verify(&bytes, length, &summary).unwrap() else { panic!() };
    let start = usize::try_from(footer.data_length).unwrap();
    for at in start..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(verify(&changed[start..], length, &summary).is_err(), "{at}");
            assert!(read_index(&changed[start..], length).is_err(), "{at}");
        }
    }
    assert!(read_footer(&bytes, length + 1).is_err());
    assert!(read_footer(&bytes, 3).is_err());
}

#[test]
fn an_index_of_another_archive_is_refused_by_the_name_of_the_entry() {
    let (bytes, summary, _) = small();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("other"), "other").unwrap();
    let (other, other_summary) = archive(folder.path());
    let data = |bytes: &[u8]| {
        let Tail::Ready(footer) = read_footer(bytes, bytes.len() as u64).unwrap() else { panic!() };
        usize::try_from(footer.data_length).unwrap()
    };
    let mixed = [&other[..data(&other)], &bytes[data(&bytes)..]].concat();
    let error = restored(&mixed).unwrap_err();
    assert!(matches!(&error, Error::Refused { entry, rule: Rule::Index } if entry == b"again"), "{error}");
    assert!(matches!(verify(&bytes, bytes.len() as u64, &other_summary), Err(Error::Differs("length"))));
    let same_length = crate::archive::Summary { bytes: bytes.len() as u64, ..other_summary };
    assert!(matches!(verify(&bytes, bytes.len() as u64, &same_length), Err(Error::Differs("index"))));
    assert!(verify(&bytes, bytes.len() as u64, &summary).is_ok());
}
