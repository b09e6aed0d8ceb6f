use std::io;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::double::Fail;
use super::*;

/// Keeps every state.
#[derive(Default)]
struct Kept(Mutex<Vec<UploadState>>);

#[async_trait]
impl Journal for Kept {
    async fn save(&self, state: &UploadState) -> io::Result<()> {
        // As an agent does: what is kept is JSON.
        let text = serde_json::to_string(state).unwrap();
        self.0.lock().push(serde_json::from_str(&text).unwrap());
        Ok(())
    }
}

impl Kept {
    fn last(&self) -> UploadState {
        self.0.lock().last().unwrap().clone()
    }
}

fn key() -> Key {
    keys("jane", "ws-1").archive(BackupId::first(1))
}

fn large() -> Vec<u8> {
    content(usize::try_from(PART).unwrap() * 4 + 1000)
}

#[tokio::test]
async fn small_streams_are_sent_in_one_request_and_large_ones_in_parts_with_bounded_memory() {
    let (store, double) = faulty();
    for size in [0, 1, 1000] {
        let content = content(size);
        let uploaded = store.upload(&key(), content.as_slice(), UploadOptions::default()).await.unwrap();
        assert_eq!((uploaded.size, uploaded.digest), (size as u64, Digest::of(&content)));
        assert_eq!(read(&store, &key()).await, content);
    }
    assert_eq!((double.calls("put"), double.calls("begin")), (3, 0));
    let (content, kept) = (large(), Kept::default());
    let chunks: Vec<io::Result<bytes::Bytes>> =
        content.chunks(70_001).map(|chunk| Ok(bytes::Bytes::copy_from_slice(chunk))).collect();
    let options = UploadOptions { journal: &kept, ..UploadOptions::default() };
    store.upload_stream(&key(), futures::stream::iter(chunks), options).await.unwrap();
    assert_eq!(read(&store, &key()).await, content);
    assert_eq!((double.calls("part"), double.calls("complete")), (5, 1));
    assert!(double.most_in_flight.load(Ordering::SeqCst) <= 2);
    let states = kept.0.lock().clone();
    assert!(states[0].parts.is_empty(), "the id is kept before the first part");
    assert_eq!(states.last().unwrap().whole.unwrap().size, content.len() as u64);
    assert_eq!(states.last().unwrap().bytes(), content.len() as u64);
}

#[tokio::test]
async fn every_request_is_retried_and_a_lost_answer_changes_nothing() {
    let (store, double) = faulty();
    for call in ["begin", "part", "complete"] {
        for fail in [Fail::Before, Fail::After, Fail::Hang] {
            double.fail(call, fail, 2);
            let content = large();
            let uploaded = store.upload(&key(), content.as_slice(), UploadOptions::default()).await.unwrap();
            store.prove(&key(), &Expectation::sent(&written(&content), &uploaded)).await.unwrap();
        }
    }
    double.fail("part", Fail::Before, 100);
    let error = store.upload(&key(), large().as_slice(), UploadOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("bucket memory, object jane/workspaces/ws-1/archives/"), "{error}");
}

#[tokio::test]
async fn a_denied_request_is_the_configurations_fault() {
    let (store, double) = faulty();
    double.fail("put", Fail::Denied, 100);
    let error = store.upload(&key(), b"x".as_slice(), UploadOptions::default()).await.unwrap_err();
    assert_eq!((error.fault(), double.calls("put")), (Fault::Configuration, 2), "{error}");
}

#[tokio::test]
async fn a_killed_upload_is_resumed_and_sends_only_what_is_missing() {
    let (store, double) = faulty();
    let (content, kept) = (large(), Kept::default());
    // The stream breaks off, as it does when the agent is killed.
    let half = usize::try_from(PART).unwrap() * 2 + 77;
    let options = UploadOptions { journal: &kept, ..UploadOptions::default() };
    let broken: Vec<io::Result<bytes::Bytes>> =
        vec![Ok(bytes::Bytes::copy_from_slice(&content[..half])), Err(io::ErrorKind::BrokenPipe.into())];
    let error = store.upload_stream(&key(), futures::stream::iter(broken), options).await.unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error}");
    let state = kept.last();
    let known = state.parts.len();
    let sent = double.calls("part");
    let options = UploadOptions { journal: &kept, resume: Some(state), ..UploadOptions::default() };
    let uploaded = store.upload(&key(), content.as_slice(), options).await.unwrap();
    assert_eq!(double.calls("part") - sent, 5 - known);
    assert_eq!(double.calls("begin"), 1);
    store.prove(&key(), &Expectation::sent(&written(&content), &uploaded)).await.unwrap();
}

#[tokio::test]
async fn a_resumed_upload_of_changed_content_is_the_changed_content() {
    let (store, double) = faulty();
    let (mut content, kept) = (large(), Kept::default());
    double.fail("complete", Fail::Before, 4);
    let options = UploadOptions { journal: &kept, ..UploadOptions::default() };
    store.upload(&key(), content.as_slice(), options).await.unwrap_err();
    let (state, sent) = (kept.last(), double.calls("part"));
    assert_eq!(state.parts.len(), 5);
    content[6 * 1024 * 1024] ^= 1;
    let options = UploadOptions { journal: &kept, resume: Some(state), ..UploadOptions::default() };
    let uploaded = store.upload(&key(), content.as_slice(), options).await.unwrap();
    assert_eq!(double.calls("part") - sent, 1);
    store.prove(&key(), &Expectation::sent(&written(&content), &uploaded)).await.unwrap();
    assert_eq!(read(&store, &key()).await, content);
}

/// Sends an object, and does not hear that the upload was completed.
async fn lose_last_answer(store: &Store, double: &Double, content: &[u8], kept: &Kept) {
    double.fail("complete", Fail::After, 1);
    double.fail("head", Fail::Before, 4);
    let options = UploadOptions { journal: kept, ..UploadOptions::default() };
    store.upload(&key(), content, options).await.unwrap_err();
}

#[tokio::test]
async fn an_upload_whose_last_answer_was_lost_is_finished_from_its_state() {
    let (store, double) = faulty();
    let (content, kept) = (large(), Kept::default());
    lose_last_answer(&store, &double, &content, &kept).await;
    let uploaded = store.finish_upload(&key(), kept.last()).await.unwrap();
    store.prove(&key(), &Expectation::sent(&written(&content), &uploaded)).await.unwrap();
    let (other, _) = faulty();
    let error = other.finish_upload(&key(), kept.last()).await.unwrap_err();
    assert!(matches!(error, Error::UploadGone(_)), "{error}");
}

#[tokio::test]
async fn an_object_that_another_call_made_is_not_proven_by_its_own_etag() {
    let (store, double) = faulty();
    let (content, kept) = (large(), Kept::default());
    lose_last_answer(&store, &double, &content, &kept).await;
    // As if the store had answered the MD5 digests of the parts.
    let mut state = kept.last();
    state.parts.iter_mut().for_each(|part| part.id.clone_from(&part.md5));
    let mut other = content.clone();
    other[9] ^= 1;
    store.upload(&key(), other.as_slice(), UploadOptions::default()).await.unwrap();
    let uploaded = store.finish_upload(&key(), state).await.unwrap();
    let not = store.prove(&key(), &Expectation::sent(&written(&content), &uploaded)).await.unwrap_err();
    assert!(matches!(not, NotProven::Content { index: false, .. }), "{not}");
}

#[tokio::test]
async fn a_cancelled_upload_is_aborted_and_an_upload_can_be_aborted_by_its_state() {
    let (store, double) = faulty();
    let (cancel, kept) = (CancellationToken::new(), Kept::default());
    double.fail("part", Fail::Hang, 100);
    let options = UploadOptions { journal: &kept, cancel: cancel.clone(), resume: None };
    let content = large();
    let target = key();
    let (outcome, ()) = tokio::join!(store.upload(&target, content.as_slice(), options), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Cancelled { aborted: true, .. }), "{error}");
    assert_eq!(double.calls("abort"), 1);
    let mut state = kept.last();
    state.key = "workspaces/other/full.tar".to_owned();
    let error = store.abort_upload(&key(), &state).await.unwrap_err();
    assert!(matches!(error, Error::UploadGone(_)), "{error}");
}

#[tokio::test]
async fn corrupted_truncated_and_missing_objects_are_not_proven() {
    let (store, double) = faulty();
    let content = large();
    let prove = async |uploaded: &Uploaded| {
        store.prove(&key(), &Expectation::sent(&written(&content), uploaded)).await
    };
    double.fail("part", Fail::Corrupt, 1);
    let uploaded = store.upload(&key(), content.as_slice(), UploadOptions::default()).await.unwrap();
    let not = prove(&uploaded).await.unwrap_err();
    assert!(matches!(not, NotProven::Content { index: false, .. }) && !not.is_retryable(), "{not}");

    let uploaded = store.upload(&key(), content.as_slice(), UploadOptions::default()).await.unwrap();
    assert_eq!(prove(&uploaded).await.unwrap().proof(), Proof::ReadBack, "memory has no checksums");
    for (at, name) in [(content.len() - 50, "the index at the end"), (9, "the object is corrupted")] {
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        store.upload(&key(), damaged.as_slice(), UploadOptions::default()).await.unwrap();
        let not = prove(&uploaded).await.unwrap_err();
        assert!(not.to_string().contains(name), "{not}");
    }
    store.upload(&key(), &content[..content.len() - 1], UploadOptions::default()).await.unwrap();
    let not = prove(&uploaded).await.unwrap_err();
    assert!(matches!(not, NotProven::Size { .. }), "{not}");
    store.delete(&key()).await.unwrap();
    assert!(matches!(prove(&uploaded).await.unwrap_err(), NotProven::Missing(_)));

    // The stream between writer and upload lost a byte.
    let uploaded =
        store.upload(&key(), &content[..content.len() - 1], UploadOptions::default()).await.unwrap();
    assert!(matches!(prove(&uploaded).await.unwrap_err(), NotProven::Stream(_)));
    double.fail("head", Fail::Before, 100);
    let uploaded = Uploaded { size: content.len() as u64, digest: Digest::of(&content), ..uploaded };
    assert!(prove(&uploaded).await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn downloads_resume_and_notice_what_changed() {
    let (store, double) = faulty();
    let content = content(20 << 20);
    store.upload(&key(), content.as_slice(), UploadOptions::default()).await.unwrap();
    double.fail("get", Fail::Before, 3);
    let digest = Some(Digest::of(&content));
    let whole =
        store.download(&key(), DownloadOptions { digest, ..DownloadOptions::default() }).await.unwrap();
    let (size, e_tag) = (whole.size(), whole.e_tag().map(str::to_owned));
    assert_eq!(size, 20 << 20);
    assert_eq!(whole.bytes(size).await.unwrap(), content);
    let options = DownloadOptions { from: 19 << 20, e_tag: e_tag.clone(), digest: None };
    let rest = store.download(&key(), options.clone()).await.unwrap().bytes(size).await;
    // The bound is on the size of the object.
    assert_eq!(rest.unwrap(), content[19 << 20..]);
    let wrong = DownloadOptions { digest: Some(Digest::of(b"x")), ..DownloadOptions::default() };
    let error = store.download(&key(), wrong).await.unwrap().drain().await.unwrap_err();
    assert!(matches!(error, Error::Corrupted { .. }), "{error}");
    store.upload(&key(), b"other".as_slice(), UploadOptions::default()).await.unwrap();
    let error = store.download(&key(), options).await.err().unwrap();
    assert!(matches!(error, Error::Replaced(_)), "{error}");
    let missing =
        store.download(&keys("jane", "none").full_tar(), DownloadOptions::default()).await.err().unwrap();
    assert!(matches!(missing, Error::NotFound(_)), "{missing}");
}
