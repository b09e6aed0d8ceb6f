use std::cmp::Reverse;

use super::double::Fail;
use super::*;
use crate::store::catalog::{Entry, Page};

async fn put(store: &Store, key: &Key, content: &[u8]) {
    store.upload(key, content, UploadOptions::default()).await.unwrap();
}

/// Names of all entries, read in pages of `size`.
async fn names(store: &Store, keys: &WorkspaceKeys, size: usize) -> Vec<String> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let Page { listed, next } = store.catalog(keys, after.as_ref(), size).await.unwrap();
        assert!(listed.len() <= size);
        names.extend(listed.iter().map(|listed| listed.entry.name()));
        match next {
            Some(next) => after = Some(next),
            None => return names,
        }
    }
}

async fn filled(store: &Store) -> WorkspaceKeys {
    let keys = keys("jane", "ws-1");
    for (generation, sequence) in [(1, 9), (2, 1), (2, 3)] {
        back_up(store, &keys, BackupId { generation, sequence }, &content(500)).await;
    }
    for (nanos, format) in [(9, Format::Zst), (10, Format::Tar)] {
        put(store, &keys.snapshot(nanos, format), b"snapshot").await;
    }
    // What is no entry: logs, trails of existing agents, another workspace.
    put(store, &keys.log(&"i-1".parse().unwrap(), "0").unwrap(), b"log").await;
    put(store, &keys.named("trail-7.tar").unwrap(), b"trail").await;
    let other = super::keys("jane", "ws-10");
    back_up(store, &other, BackupId::first(7), &content(500)).await;
    put(store, &other.snapshot(7, Format::Zst), b"other").await;
    keys
}

#[tokio::test]
async fn the_catalog_has_heads_then_snapshots_the_newest_first_on_pages_of_any_size() {
    let (store, _) = faulty();
    let keys = filled(&store).await;
    let head = |generation, sequence| format!("heads/{}", BackupId { generation, sequence });
    let all =
        [head(2, 3), head(2, 1), head(1, 9), "snapshot-10.tar".to_owned(), "snapshot-9.tar.zst".to_owned()];
    for size in [1, 2, 3, 5, 100] {
        assert_eq!(names(&store, &keys, size).await, all, "pages of {size}");
    }
    let listed = store.catalog(&keys, None, 10).await.unwrap().listed;
    let newest: Vec<_> = listed.iter().map(|one| one.newest).collect();
    assert_eq!(newest, [true, false, false, false, false]);
    assert_eq!(listed[0].key, Some(keys.archive(BackupId { generation: 2, sequence: 3 })));
    assert_eq!((listed[0].size, listed[0].format), (500, "zst"));
    assert_eq!(listed[0].instance.as_deref(), Some("instance-1"));
    assert_eq!(listed[4].made_at, Some(Timestamp::from_nanosecond(9).unwrap()));
    assert_eq!((listed[3].format, listed[3].size), ("tar", 8));
    assert!(listed.iter().all(|one| one.problem.is_none()), "{listed:?}");
    assert_eq!(store.catalog(&super::keys("jane", "ws"), None, 10).await.unwrap(), Page::default());
}

#[tokio::test]
async fn full_tar_comes_between_and_is_the_newest_if_the_store_wrote_it_last() {
    let (store, _) = faulty();
    let keys = filled(&store).await;
    put(&store, &keys.full_tar(), b"tar").await;
    let listed = store.catalog(&keys, None, 10).await.unwrap().listed;
    let full = &listed[3];
    assert_eq!((full.entry.clone(), full.newest, full.size, full.format), (Entry::FullTar, true, 3, "tar"));
    assert!(!listed[0].newest);
    let Some(Choice::FullTar { .. }) = store.newest_backup(&keys).await.unwrap() else { panic!() };
}

#[tokio::test]
async fn entries_that_cannot_be_restored_say_why() {
    let (store, _) = faulty();
    let keys = filled(&store).await;
    let id = |generation, sequence| BackupId { generation, sequence };
    store.delete(&keys.archive(id(2, 3))).await.unwrap();
    put(&store, &keys.archive(id(2, 1)), b"cut").await;
    put(&store, &keys.head(id(1, 9)), b"{\"version\": 2}").await;
    put(&store, &keys.snapshot(9, Format::Zst), b"").await;
    let listed = store.catalog(&keys, None, 10).await.unwrap().listed;
    let problems: Vec<_> = listed.iter().map(|one| one.problem.as_deref().unwrap_or_default()).collect();
    assert_eq!(problems[0], "its archive is not in the store");
    assert_eq!(problems[1], "its archive has 3 bytes instead of 500");
    assert!(problems[2].contains("version 2"), "{problems:?}");
    assert_eq!((problems[3], problems[4]), ("", "the object is empty"));
    assert!(listed[2].key.is_none() && listed[2].made_at.is_none());
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_and_no_short_list() {
    let (store, double) = faulty();
    let keys = filled(&store).await;
    double.fail("get", Fail::Denied, 100);
    assert!(store.catalog(&keys, None, 10).await.is_err());
}

#[test]
fn a_name_is_the_place_of_its_entry_and_nothing_else_is_one() {
    for entry in [
        Entry::Head(Reverse(BackupId::first(3))),
        Entry::FullTar,
        Entry::Snapshot(Reverse(7), "snapshot-7.tar.gz".to_owned()),
    ] {
        assert_eq!(Entry::parse(&entry.name()), Some(entry));
    }
    for name in ["", "heads/1", "archives/x", "instances/i-1/logs/0", "../full.tar", "snapshot-x.tar"] {
        assert_eq!(Entry::parse(name), None, "{name}");
    }
}

#[tokio::test]
async fn the_logs_of_an_instance_are_its_tasks() {
    let (store, _) = faulty();
    let keys = keys("jane", "ws-1");
    for (instance, task) in [("i-1", "0"), ("i-1", "build"), ("i-10", "1")] {
        put(&store, &keys.log(&instance.parse().unwrap(), task).unwrap(), b"log").await;
    }
    put(&store, &keys.instance_object(&"i-1".parse().unwrap(), "logs/deep/2").unwrap(), b"log").await;
    assert_eq!(store.list_logs(&keys, &"i-1".parse().unwrap()).await.unwrap(), ["0", "build"]);
    assert!(store.list_logs(&keys, &"i-2".parse().unwrap()).await.unwrap().is_empty());
    for task in ["", ".", "..", "a/b", "a\0", "a b", "ü"] {
        assert!(keys.log(&"i-1".parse().unwrap(), task).is_err(), "{task:?}");
    }
}
