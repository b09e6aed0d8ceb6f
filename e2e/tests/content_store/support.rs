//! What all stories about object stores need.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use content::store::{
    BackupId, Digest, Download, DownloadOptions, Expectation, HeadMeta, Journal, Key, NotProven, Proof,
    RetryPolicy, Settings, Store, Tail, UploadLimits, UploadOptions, UploadState, Uploaded, WorkspaceKeys,
    Written,
};
use domain::secret::Secret;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The smallest part.
pub const PART: u64 = 5 * 1024 * 1024;
pub const ID: BackupId = BackupId::first(1);

pub async fn open(settings: Value) -> Result<Store> {
    let store = Store::open(&Settings::read(&Secret::new(settings))?).await?;
    Ok(store.with_limits(UploadLimits::new(PART, 3)?).with_retry(hasty()))
}

pub fn hasty() -> RetryPolicy {
    RetryPolicy {
        attempts: 5,
        denied: 3,
        first: Duration::from_millis(20),
        most: Duration::from_millis(200),
        answer: Duration::from_secs(20),
        slowest: PART,
    }
}

pub fn keys(owner: &str, id: &str) -> Result<WorkspaceKeys> {
    Ok(WorkspaceKeys::new(owner.parse()?, id.parse()?))
}

pub fn random(bytes: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
    fastrand::Rng::with_seed(bytes).fill(&mut content);
    content
}

/// What the writer of an archive would report: an index of 1000 bytes before a footer of 136.
pub fn written(content: &[u8]) -> Written {
    let index = content.len().saturating_sub(1136)..content.len().saturating_sub(136);
    let tail = Tail { size: index.len() as u64, behind: 136, digest: Digest::of(&content[index]) };
    Written { size: content.len() as u64, digest: Digest::of(content), tail }
}

pub fn meta(agent: &str) -> HeadMeta {
    let (made_at, instance) = (Timestamp::now(), "instance-1".to_owned());
    HeadMeta { made_at, agent: agent.to_owned(), instance, previous: None }
}

pub async fn upload(store: &Store, key: &Key, content: &[u8]) -> Result<Uploaded> {
    Ok(store.upload(key, content, UploadOptions::default()).await?)
}

pub async fn prove(
    store: &Store,
    key: &Key,
    content: &[u8],
    uploaded: &Uploaded,
) -> Result<Proof, NotProven> {
    Ok(store.prove(key, &Expectation::sent(&written(content), uploaded)).await?.proof())
}

pub async fn read(store: &Store, key: &Key) -> Result<Vec<u8>> {
    let download: Download = store.download(key, DownloadOptions::default()).await?;
    Ok(download.bytes(u64::MAX).await?)
}

/// Keeps the state of an upload, and can be told to act after a number of saves.
#[derive(Default)]
pub struct Kept {
    pub last: Mutex<Option<UploadState>>,
    pub saves: AtomicUsize,
    pub cancel_after: Option<(usize, CancellationToken)>,
}

#[async_trait]
impl Journal for Kept {
    async fn save(&self, state: &UploadState) -> io::Result<()> {
        *self.last.lock() = Some(state.clone());
        let saves = self.saves.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((after, cancel)) = &self.cancel_after
            && saves >= *after
        {
            cancel.cancel();
        }
        Ok(())
    }
}

pub async fn send(method: &str, url: &str, kind: &str, body: &'static [u8]) -> Result<(u16, Bytes)> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = http::Request::builder().method(method).uri(url);
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    let response = client.request(request.body(Full::new(Bytes::from_static(body)))?).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}
