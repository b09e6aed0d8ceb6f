use std::path::Path;

use super::*;

async fn open(folder: &Path) -> Store {
    let settings = serde_json::json!({"kind": "local", "local": {"path": folder.join("content")}});
    let settings = Settings::read(&domain::secret::Secret::new(settings)).unwrap();
    Store::open(&settings).await.unwrap().with_limits(UploadLimits::new(PART, 2).unwrap())
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(here) = folders.pop() {
        for entry in std::fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_folder_is_a_store_with_backups_resumed_uploads_and_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let keys = keys("jane", "ws-1");
    let large = content(usize::try_from(PART).unwrap() * 2 + 5);
    let head = back_up(&store, &keys, BackupId::first(1), &large).await;
    assert_eq!(head.archive().proof(), Proof::ReadBack);
    assert_eq!(read(&store, head.archive().key()).await, large);
    let Some(Choice::Head(again)) = open(folder.path()).await.newest_backup(&keys).await.unwrap() else {
        panic!()
    };
    assert_eq!(again.archive().proof(), Proof::Before);
    let archive = "content/jane/workspaces/ws-1/archives/00000000000000000001-00000000000000000001.tar.zst";
    let expected = [archive, "content/jane/workspaces/ws-1/heads/00000000000000000001-00000000000000000001"];
    assert_eq!(files(folder.path()), expected, "no temporary files");

    // Damaged behind its back.
    let path = folder.path().join(archive);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(large.len() as u64 - 1).unwrap();
    let not = store.prove_head(&keys, head.id()).await.unwrap_err();
    assert!(matches!(not, NotProven::Size { .. }), "{not}");
    std::os::unix::fs::FileExt::write_all_at(&file, &[large[large.len() - 1]], large.len() as u64 - 1)
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[!large[7]], 7).unwrap();
    let not = store.prove_head(&keys, head.id()).await.unwrap_err();
    assert!(matches!(not, NotProven::Content { index: false, .. }), "{not}");

    // What a killed writer leaves is not listed, and goes with the workspace.
    std::fs::write(folder.path().join("content/jane/workspaces/ws-1/heads/x#1"), "half").unwrap();
    store.delete_workspace(&keys, true).await.unwrap();
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
}

#[tokio::test]
async fn an_upload_that_broke_off_is_resumed_or_aborted_by_its_id() {
    struct Kept(parking_lot::Mutex<Option<UploadState>>);
    #[async_trait::async_trait]
    impl Journal for Kept {
        async fn save(&self, state: &UploadState) -> std::io::Result<()> {
            *self.0.lock() = Some(state.clone());
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (store, kept) = (open(folder.path()).await, Kept(parking_lot::Mutex::default()));
    let key = keys("jane", "ws-1").full_tar();
    let large = content(usize::try_from(PART).unwrap() * 3 + 5);
    let half = usize::try_from(PART).unwrap() * 2;
    let broken = || {
        let begin = Ok(bytes::Bytes::copy_from_slice(&large[..half]));
        futures::stream::iter([begin, Err(std::io::ErrorKind::BrokenPipe.into())])
    };
    let options = || UploadOptions { journal: &kept, ..UploadOptions::default() };
    store.upload_stream(&key, broken(), options()).await.unwrap_err();
    let state = kept.0.lock().clone();
    let resume = UploadOptions { resume: state, ..options() };
    let uploaded = store.upload(&key, large.as_slice(), resume).await.unwrap();
    store.prove(&key, &Expectation::uploaded(&uploaded)).await.unwrap();

    store.upload_stream(&key, broken(), options()).await.unwrap_err();
    let state = kept.0.lock().clone().unwrap();
    assert_eq!(files(folder.path()).len(), 2);
    store.abort_upload(&key, &state).await.unwrap();
    store.abort_upload(&key, &state).await.unwrap();
    assert_eq!(files(folder.path()).len(), 1);
    let evil = UploadState { upload_id: "../jane/workspaces/ws-1/full.tar-1".to_owned(), ..state };
    let _ = store.abort_upload(&key, &evil).await;
    assert_eq!(read(&store, &key).await, large, "an id is no path");
}
