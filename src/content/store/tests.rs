//! Tests with a store in memory, with faults, and with a folder.

mod catalog;
mod double;
mod folder;
mod heads;
mod names;
mod prune;
mod remove;
mod settings;
mod upload;

use std::time::Duration;

use domain::names::{MetaId, OwnerId};
use jiff::Timestamp;

use super::*;
use double::Double;

fn owner(name: &str) -> OwnerId {
    name.parse().unwrap()
}

fn keys(owner_name: &str, id: &str) -> WorkspaceKeys {
    WorkspaceKeys::new(owner(owner_name), id.parse::<MetaId>().unwrap())
}

/// Gives up soon.
fn hasty() -> RetryPolicy {
    RetryPolicy {
        attempts: 4,
        denied: 2,
        first: Duration::from_millis(1),
        most: Duration::from_millis(2),
        answer: Duration::from_millis(500),
        slowest: u64::MAX,
    }
}

/// A store with faults, and its double.
fn faulty() -> (Store, std::sync::Arc<Double>) {
    let double = std::sync::Arc::new(Double::default());
    let store = Store::over(double.clone(), double.clone()).with_retry(hasty());
    (store.with_limits(UploadLimits::new(PART, 2).unwrap()), double)
}

/// The smallest part.
const PART: u64 = 5 * 1024 * 1024;

/// Bytes that differ from part to part.
fn content(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(bytes as u64);
    let mut content = vec![0; bytes];
    random.fill(&mut content);
    content
}

/// What the writer of an archive would report about these bytes, with an index of 100 bytes before a footer of 20.
fn written(content: &[u8]) -> Written {
    let index = content.len().saturating_sub(120)..content.len().saturating_sub(20);
    let tail = Tail { size: index.len() as u64, behind: 20, digest: Digest::of(&content[index]) };
    Written { size: content.len() as u64, digest: Digest::of(content), tail }
}

/// Uploads an archive, proves it and writes its head.
async fn back_up(store: &Store, keys: &WorkspaceKeys, id: BackupId, content: &[u8]) -> ProvenHead {
    let key = keys.archive(id);
    let uploaded = store.upload(&key, content, UploadOptions::default()).await.unwrap();
    let proven = store.prove(&key, &Expectation::sent(&written(content), &uploaded)).await.unwrap();
    store.write_head(keys, id, proven, meta("node-1")).await.unwrap()
}

fn meta(agent: &str) -> HeadMeta {
    HeadMeta {
        made_at: Timestamp::from_second(1_700_000_000).unwrap(),
        agent: agent.to_owned(),
        instance: "instance-1".to_owned(),
        previous: None,
    }
}

async fn read(store: &Store, key: &Key) -> Vec<u8> {
    store.download(key, DownloadOptions::default()).await.unwrap().bytes(u64::MAX).await.unwrap()
}
