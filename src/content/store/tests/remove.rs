use super::*;

async fn put(store: &Store, key: &Key) {
    store.upload(key, b"content".as_slice(), UploadOptions::default()).await.unwrap();
}

/// A store with two owners, of whom one has two workspaces with similar names.
async fn filled(store: &Store) -> [WorkspaceKeys; 3] {
    let all = [keys("jane", "ws-1"), keys("jane", "ws-10"), keys("jane2", "ws-1")];
    for keys in &all {
        back_up(store, keys, BackupId::first(1), &content(500)).await;
        put(store, &keys.full_tar()).await;
        put(store, &keys.snapshot(7, Format::Tar)).await;
        put(store, &keys.instance_object(&"i-1".parse().unwrap(), "logs/task-0").unwrap()).await;
        put(store, &Key::blob(keys.owner(), &"a/b".parse().unwrap())).await;
    }
    all
}

async fn count(store: &Store, prefix: &Prefix) -> usize {
    store.listed(prefix, Some).await.unwrap().len()
}

#[tokio::test]
async fn deletion_removes_everything_it_names_and_nothing_else() {
    let (store, _) = faulty();
    let [one, ten, other] = filled(&store).await;
    let deleted = store.delete_workspace(&one, false).await.unwrap();
    assert_eq!((deleted.objects, count(&store, &one.all()).await), (4, 1), "the snapshot stays");
    assert_eq!(count(&store, &ten.all()).await, 5);
    assert_eq!(store.delete_workspace(&one, true).await.unwrap().objects, 1);
    assert_eq!(store.delete_workspace(&one, true).await.unwrap().objects, 0);
    assert_eq!(store.delete_blobs(one.owner(), &"a".parse().unwrap()).await.unwrap().objects, 1);
    assert_eq!(store.delete_owner(one.owner()).await.unwrap().objects, 5);
    assert_eq!(count(&store, &Prefix::of_owner(one.owner())).await, 0);
    assert_eq!(count(&store, &Prefix::of_owner(other.owner())).await, 6);
    store.delete(&one.full_tar()).await.unwrap();
}

#[tokio::test]
async fn the_quota_counts_blobs_of_one_owner_only() {
    let (store, _) = faulty();
    let [one, ..] = filled(&store).await;
    put(&store, &Key::blob(one.owner(), &"c".parse().unwrap())).await;
    let usage = store.blob_usage(one.owner(), u64::MAX).await.unwrap();
    assert_eq!(usage, BlobUsage { count: 2, bytes: 14 });
    store.check_blob_quota(one.owner(), 15).await.unwrap();
    let error = store.check_blob_quota(one.owner(), 14).await.unwrap_err();
    assert_eq!((error.fault(), error.is_retryable()), (Fault::User, false), "{error}");
    let signed = store.presign_put(one.owner(), &"c".parse().unwrap(), None).await.unwrap_err();
    assert!(matches!(signed, Error::Unsupported { .. }), "{signed}");
}
