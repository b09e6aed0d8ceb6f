use super::double::Fail;
use super::*;

const FIRST: BackupId = BackupId::first(1);

#[tokio::test]
async fn the_newest_backup_is_the_greatest_head() {
    let (store, _) = faulty();
    let keys = keys("jane", "ws-1");
    assert!(store.newest_backup(&keys).await.unwrap().is_none());
    for id in [FIRST, BackupId { generation: 2, sequence: 1 }, FIRST.next().unwrap()] {
        back_up(&store, &keys, id, &content(1000)).await;
    }
    let Some(Choice::Head(head)) = store.newest_backup(&keys).await.unwrap() else { panic!() };
    assert_eq!(head.id(), BackupId { generation: 2, sequence: 1 });
    assert_eq!(head.archive().proof(), Proof::Before);
    assert_eq!((head.head().store.as_str(), head.head().version), ("memory", 1));
    let listed = store.list_backups(&keys).await.unwrap().backups;
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0].key, keys.archive(head.id()));
    assert_eq!(store.list_heads(&keys).await.unwrap()[2], head.id());
}

#[tokio::test]
async fn a_head_is_created_once_and_a_lost_answer_is_recognized() {
    let (store, double) = faulty();
    let keys = keys("jane", "ws-1");
    store.check_conditional_create(keys.owner()).await.unwrap();
    double.fail("create", Fail::After, 3);
    let head = back_up(&store, &keys, FIRST, &content(1000)).await;
    assert_eq!(double.calls("create"), 2 + 4, "three answers are lost, and the fourth says that it exists");
    let again = store.write_head(&keys, FIRST, head.archive().clone(), meta("node-1")).await.unwrap();
    assert_eq!(again, head);
    let error = store.write_head(&keys, FIRST, head.archive().clone(), meta("node-2")).await.unwrap_err();
    assert!(matches!(&error, Error::HeadTaken { agent, .. } if agent == "node-1"), "{error}");
    // Unchanged content: a head that names the archive of before.
    let next = FIRST.next().unwrap();
    let unchanged = store.write_head(&keys, next, head.archive().clone(), meta("node-1")).await.unwrap();
    assert_eq!(unchanged.head().archive, head.head().archive);
    assert!(
        matches!(store.newest_backup(&keys).await.unwrap(), Some(Choice::Head(head)) if head.id() == next)
    );
}

#[tokio::test]
async fn a_head_belongs_to_the_instance_that_it_names_and_without_a_name_to_its_agent() {
    let (store, _) = faulty();
    let keys = keys("jane", "ws-1");
    let own = async |instance, agent| store.own_head(&keys, FIRST, instance, agent).await;
    assert!(own("instance-1", "node-1").await.unwrap().is_none());
    let head = back_up(&store, &keys, FIRST, &content(1000)).await;
    assert_eq!(own("instance-1", "node-1").await.unwrap().unwrap().head(), head.head());
    let taken = own("instance-2", "node-1").await.unwrap_err();
    assert!(
        matches!(&taken, NotProven::Store(error) if matches!(**error, Error::HeadTaken { .. })),
        "{taken}"
    );
    // As an earlier version wrote it.
    let mut text = serde_json::to_value(head.head()).unwrap();
    assert_eq!(text.as_object_mut().unwrap().remove("instance").unwrap(), "instance-1");
    let text = text.to_string();
    store.upload(&keys.head(FIRST), text.as_bytes(), UploadOptions::default()).await.unwrap();
    assert!(own("instance-1", "node-1").await.unwrap().is_some());
    own("instance-1", "node-2").await.unwrap_err();
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_is_refused() {
    let (store, double) = faulty();
    let keys = keys("jane", "ws-1");
    double.fail("create", Fail::Unconditional, 2);
    let uploaded =
        store.upload(&keys.archive(FIRST), b"x".as_slice(), UploadOptions::default()).await.unwrap();
    let proven = store.prove(&keys.archive(FIRST), &Expectation::uploaded(&uploaded)).await.unwrap();
    let error = store.write_head(&keys, FIRST, proven.clone(), meta("node-1")).await.unwrap_err();
    assert!(matches!(error, Error::Unconditional(_)) && error.fault() == Fault::Configuration, "{error}");
    assert_eq!(store.list_heads(&keys).await.unwrap(), []);
    // The failure is not kept: the next call checks again.
    store.write_head(&keys, FIRST, proven.clone(), meta("node-1")).await.unwrap();
    store.write_head(&keys, FIRST.next().unwrap(), proven, meta("node-1")).await.unwrap();
    assert_eq!(double.calls("create"), 2 + 2 + 2, "a bucket is checked once");
}

#[tokio::test]
async fn a_head_names_only_archives_of_its_workspace() {
    let (store, _) = faulty();
    let (mine, other) = (keys("jane", "ws-1"), keys("joe", "ws-1"));
    let foreign = back_up(&store, &other, FIRST, &content(100)).await;
    let error = store.write_head(&mine, FIRST, foreign.archive().clone(), meta("node-1")).await.unwrap_err();
    assert!(matches!(error, Error::BadHead { .. }), "{error}");
    for archive in ["workspaces/ws-2/archives/x.tar.zst", "../joe/full.tar", "blobs/x", "", "/", "a\nb"] {
        let mut head = foreign.head().clone();
        head.archive = archive.to_owned();
        let text = serde_json::to_vec(&head).unwrap();
        store.upload(&mine.head(FIRST), text.as_slice(), UploadOptions::default()).await.unwrap();
        let NotProven::Store(error) = store.prove_head(&mine, FIRST).await.unwrap_err() else { panic!() };
        assert!(matches!(*error, Error::BadHead { .. }), "{error}");
        assert_eq!(error.fault(), Fault::Platform, "no user wrote it: {error}");
        let error = store.newest_backup(&mine).await.unwrap_err();
        assert!(matches!(error, Error::BadHead { .. }) && error.fault() == Fault::Platform, "{error}");
        assert_eq!(store.list_backups(&mine).await.unwrap().unreadable, [FIRST]);
    }
    for text in [r#"{"version": 2}"#, r#"{"version": 1}"#, "no JSON"] {
        store.upload(&mine.head(FIRST), text.as_bytes(), UploadOptions::default()).await.unwrap();
        let error = store.read_head(&mine, FIRST).await.unwrap_err();
        assert!(matches!(error, Error::BadHead { .. }), "{error}");
        assert_eq!(store.list_backups(&mine).await.unwrap().unreadable, [FIRST]);
    }
}

#[tokio::test]
async fn of_a_head_and_full_tar_the_newer_proven_one_wins() {
    let (store, _) = faulty();
    let keys = keys("jane", "ws-1");
    let full =
        async || store.upload(&keys.full_tar(), b"tar".as_slice(), UploadOptions::default()).await.unwrap();
    let pause = async || tokio::time::sleep(Duration::from_millis(5)).await;
    full().await;
    assert!(matches!(
        store.newest_backup(&keys).await.unwrap(),
        Some(Choice::FullTar { unproven: None, .. })
    ));
    pause().await;
    let head = back_up(&store, &keys, FIRST, &content(1000)).await;
    assert!(matches!(store.newest_backup(&keys).await.unwrap(), Some(Choice::Head(_))));
    // The archive of the newer head is damaged.
    store.upload(&keys.archive(FIRST), content(999).as_slice(), UploadOptions::default()).await.unwrap();
    let Some(Choice::FullTar { unproven: Some(not), backup }) = store.newest_backup(&keys).await.unwrap()
    else {
        panic!()
    };
    assert!(matches!(not, NotProven::Size { .. }), "{not}");
    assert_eq!((backup.key, backup.format), (keys.full_tar(), Format::Tar));
    // Replaced by the same content: the ETag differs, so it is read back.
    store.upload(&keys.archive(FIRST), content(1000).as_slice(), UploadOptions::default()).await.unwrap();
    let Some(Choice::Head(again)) = store.newest_backup(&keys).await.unwrap() else { panic!() };
    assert_eq!((again.id(), again.archive().proof()), (head.id(), Proof::ReadBack));
    pause().await;
    full().await;
    assert!(matches!(
        store.newest_backup(&keys).await.unwrap(),
        Some(Choice::FullTar { unproven: None, .. })
    ));
    assert_eq!(store.list_backups(&keys).await.unwrap().backups.len(), 2);
    // Without full.tar a damaged newest head is an error, not an older head.
    back_up(&store, &keys, FIRST.next().unwrap(), &content(1001)).await;
    store.delete(&keys.archive(FIRST.next().unwrap())).await.unwrap();
    store.delete(&keys.full_tar()).await.unwrap();
    let error = store.newest_backup(&keys).await.unwrap_err();
    assert!(matches!(error, Error::NotProven(NotProven::Missing(_))), "{error}");
}

#[tokio::test]
async fn only_an_archive_that_is_proven_damaged_makes_an_older_full_tar_the_newest() {
    let (store, double) = faulty();
    let keys = keys("jane", "ws-1");
    store.upload(&keys.full_tar(), b"tar".as_slice(), UploadOptions::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    back_up(&store, &keys, FIRST, &content(1000)).await;
    // Nothing is known: the store refuses, or the object is replaced while it is read.
    for fail in [Fail::Denied, Fail::Replaced] {
        double.fail("get", fail, 2);
        let error = store.newest_backup(&keys).await.unwrap_err();
        assert!(!matches!(error, Error::NotProven(_)), "{error}");
    }
    double.forget();
    let damaged = async |content: &[u8]| {
        store.upload(&keys.archive(FIRST), content, UploadOptions::default()).await.unwrap();
        matches!(store.newest_backup(&keys).await.unwrap(), Some(Choice::FullTar { unproven: Some(_), .. }))
    };
    assert!(damaged(&content(999)).await);
    let mut other = content(1000);
    other[9] ^= 1;
    assert!(damaged(&other).await);
    store.delete(&keys.archive(FIRST)).await.unwrap();
    assert!(matches!(store.newest_backup(&keys).await.unwrap(), Some(Choice::FullTar { .. })));
    // A head that a newer version wrote says nothing of its archive.
    store.upload(&keys.head(FIRST), br#"{"version": 2}"#.as_slice(), UploadOptions::default()).await.unwrap();
    let error = store.newest_backup(&keys).await.unwrap_err();
    assert!(matches!(error, Error::BadHead { .. }), "{error}");
}
