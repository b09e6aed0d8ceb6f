//! Stories that hold of every kind of object store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use content::store::{
    BackupId, Choice, Error, Expectation, Head, Key, NotProven, Proof, PrunePolicy, RetryPolicy, Store,
    UploadOptions,
};
use domain::names::OwnerId;
use e2e::harness::{Fault as Broken, Proxy, S3Answer, S3Proxy};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::support::{ID, Kept, PART, hasty, keys, meta, open, prove, random, read, send, upload, written};

/// A kind of store.
pub trait Backend {
    /// `content.storage` of a store that is reached at `address`.
    fn settings(&self, address: &str) -> Result<Value>;
    /// Its address, such as `127.0.0.1:7070`.
    fn address(&self) -> String;
    /// The name of an owner, which may have to be unique in the world.
    fn owner(&self, name: &str) -> String;
    /// How long URLs for downloads are valid.
    fn download_valid(&self) -> Duration;
    /// Whether nothing of an owner is left.
    fn is_empty(&self, owner: &OwnerId) -> bool;

    async fn store_at(&self, address: &str) -> Result<Store> {
        open(self.settings(address)?).await
    }

    async fn store(&self) -> Result<Store> {
        self.store_at(&self.address()).await
    }
}

/// A store that tests can break.
pub trait Breakable: Backend {
    /// Changes an object behind the store's back.
    fn damage(&self, key: &Key, damage: impl FnOnce(&mut Vec<u8>)) -> Result<()>;
    /// Uploads in parts that were neither completed nor aborted.
    fn open_uploads(&self) -> usize;
    /// Restarts it, if it can be.
    async fn restart(&self) -> Result<()>;
}

/// Uploads in parts are proven by checksums, and a head is created once.
pub async fn uploads_are_proven_and_elected_once(stage: &impl Backend) -> Result<()> {
    let (store, keys) = (stage.store().await?, keys(&stage.owner("jane"), "ws-1")?);
    let (content, key) = (random(4 * PART + 777), keys.archive(ID));
    let uploaded = upload(&store, &key, &content).await?;
    ensure!(uploaded.e_tag.as_ref().is_some_and(|tag| tag.trim_matches('"').ends_with("-5")), "{uploaded:?}");
    let proven = store.prove(&key, &Expectation::sent(&written(&content), &uploaded)).await?;
    ensure!(proven.proof() == Proof::Checksums, "{proven:?}");
    ensure!(read(&store, &key).await? == content, "the content differs");
    let small = upload(&store, &keys.full_tar(), b"small").await?;
    let small = store.prove(&keys.full_tar(), &Expectation::uploaded(&small)).await?;
    ensure!(small.proof() == Proof::Checksums, "{small:?}");

    store.check_conditional_create(keys.owner()).await?;
    let head = store.write_head(&keys, ID, proven.clone(), meta("node-1")).await?;
    for agent in ["node-2", "node-3"] {
        match store.write_head(&keys, ID, proven.clone(), meta(agent)).await {
            Err(Error::HeadTaken { agent, .. }) if agent == "node-1" => {}
            other => bail!("a second create of a head: {other:?}"),
        }
    }
    let Some(Choice::Head(newest)) = store.newest_backup(&keys).await? else {
        bail!("no head is the newest")
    };
    ensure!(newest.id() == head.id() && newest.archive().proof() == Proof::Before, "{newest:?}");
    ensure!(newest.head().agent == "node-1" && newest.head().version == Head::VERSION, "{newest:?}");
    ensure!(store.list_backups(&keys).await?.backups.len() == 2, "a backup is not listed");
    Ok(())
}

/// Truncated, corrupted and missing objects are not proven.
pub async fn damage_is_not_proven(stage: &impl Breakable) -> Result<()> {
    let (store, key) = (stage.store().await?, keys(&stage.owner("jane"), "ws-1")?.archive(ID));
    let content = random(2 * PART + 3000);
    let uploaded = upload(&store, &key, &content).await?;
    stage.damage(&key, |bytes| {
        if let Some(byte) = bytes.iter_mut().nth_back(499) {
            *byte = !*byte;
        }
    })?;
    let not = prove(&store, &key, &content, &uploaded).await;
    ensure!(matches!(not, Err(NotProven::Content { index: true, .. })), "{not:?}");
    stage.damage(&key, |bytes| bytes.truncate(bytes.len().saturating_sub(1)))?;
    let not = prove(&store, &key, &content, &uploaded).await;
    ensure!(matches!(&not, Err(NotProven::Size { found, .. }) if *found == uploaded.size - 1), "{not:?}");
    store.delete(&key).await?;
    let not = prove(&store, &key, &content, &uploaded).await;
    ensure!(matches!(not, Err(NotProven::Missing(_))), "{not:?}");
    Ok(())
}

/// Signed URLs upload and download by plain HTTP, within the quota of blobs.
pub async fn signed_urls_work_by_plain_http(stage: &impl Backend) -> Result<()> {
    let mut settings = stage.settings(&stage.address())?;
    settings["blobQuota"] = json!(10);
    let store = open(settings).await?;
    let (owner, name) = (stage.owner("jane").parse()?, "folder/settings.json".parse()?);
    let put = store.presign_put(&owner, &name, Some("application/json")).await?;
    let wrong = send("PUT", put.url.expose(), "text/plain", b"{\"a\": 1}").await?;
    ensure!(wrong.0 == 403, "another content type is accepted: {wrong:?}");
    let (status, _) = send("PUT", put.url.expose(), "application/json", b"{\"a\": 1}").await?;
    ensure!(status == 200, "{status}");
    let get = store.presign_get(&Key::blob(&owner, &name)).await?;
    ensure!(get.valid == stage.download_valid(), "{get:?}");
    let (status, body) = send("GET", get.url.expose(), "", b"").await?;
    ensure!((status, body.as_ref()) == (200, b"{\"a\": 1}".as_slice()), "{status}");
    let changed = get.url.expose().replace("settings.json", "other.json");
    ensure!(send("GET", &changed, "", b"").await?.0 == 403, "a URL is valid for another object");
    let missing = store.presign_get(&Key::blob(&owner, &"none".parse()?)).await;
    ensure!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    // 8 of 10 bytes are used; then 16.
    let put = store.presign_put(&owner, &"second".parse()?, None).await?;
    ensure!(send("PUT", put.url.expose(), "", b"12345678").await?.0 == 200, "the second blob is rejected");
    let over = store.presign_put(&owner, &"third".parse()?, None).await;
    ensure!(matches!(&over, Err(Error::Quota { used: 16, .. })), "{over:?}");
    Ok(())
}

/// An upload goes on after its client died, and is aborted when it is cancelled.
pub async fn an_upload_is_resumed_and_aborted(stage: &impl Breakable) -> Result<()> {
    let key = keys(&stage.owner("jane"), "ws-1")?.archive(ID);
    let content = random(5 * PART + 4321);
    let kept = Arc::new(Kept::default());
    let (dying, store) = (Arc::clone(&kept), stage.store().await?);
    let (source, at) = (content.clone(), key.clone());
    let client = tokio::spawn(async move {
        let half = usize::try_from(3 * PART).unwrap_or(0);
        let begin = stream::iter([Ok(Bytes::copy_from_slice(&source[..half]))]).chain(stream::pending());
        let options = UploadOptions { journal: &*dying, ..UploadOptions::default() };
        store.upload_stream(&at, begin, options).await.map(drop)
    });
    let sent = async {
        while kept.last.lock().as_ref().is_none_or(|state| state.parts.is_empty()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), sent).await.context("no parts are sent")?;
    client.abort();
    ensure!(client.await.is_err_and(|error| error.is_cancelled()), "the upload ended by itself");
    ensure!(stage.open_uploads() == 1, "{}", stage.open_uploads());
    stage.restart().await?;

    let proxy = S3Proxy::start(&stage.address()).await?;
    let store = stage.store_at(&proxy.address()).await?;
    let parts = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&parts);
    proxy.choose(move |call| {
        if call.method == http::Method::PUT {
            seen.lock().insert(call.uri.to_string());
        }
        None
    });
    let state = kept.last.lock().clone();
    let known = state.as_ref().map_or(0, |state| state.parts.len());
    let options = UploadOptions { journal: &*kept, resume: state, ..UploadOptions::default() };
    let uploaded = store.upload(&key, content.as_slice(), options).await?;
    ensure!(parts.lock().len() == 6 - known, "{known} parts were known: {:?}", parts.lock());
    prove(&store, &key, &content, &uploaded).await?;
    ensure!(read(&store, &key).await? == content, "the content differs");
    ensure!(stage.open_uploads() == 0, "parts are left");

    let cancel = CancellationToken::new();
    let journal = Kept { cancel_after: Some((2, cancel.clone())), ..Kept::default() };
    let options = UploadOptions { journal: &journal, cancel, resume: None };
    let cancelled = store.upload(&key, content.as_slice(), options).await;
    ensure!(matches!(cancelled, Err(Error::Cancelled { aborted: true, .. })), "{cancelled:?}");
    ensure!(stage.open_uploads() == 0, "parts are left");
    let state = journal.last.lock().clone().context("no state is kept")?;
    store.abort_upload(&key, &state).await?;
    ensure!(read(&store, &key).await? == content, "the object of before is gone");
    Ok(())
}

/// A store that throttles, cuts and lies is noticed.
pub async fn faults_are_noticed(stage: &impl Breakable) -> Result<()> {
    let proxy = S3Proxy::start(&stage.address()).await?;
    let store = stage.store_at(&proxy.address()).await?;
    let keys = keys(&stage.owner("jane"), "ws-1")?;
    let (content, key) = (random(3 * PART + 2000), keys.archive(ID));

    // Every request fails first: throttled, failed, its response lost or cut.
    let faults = [
        S3Answer::Error(503, "SlowDown"),
        S3Answer::Error(429, "TooManyRequests"),
        S3Answer::Error(500, "InternalError"),
        S3Answer::Lose,
        S3Answer::Cut(5),
    ];
    let seen = Mutex::new(BTreeSet::new());
    let turn = AtomicUsize::new(0);
    proxy.choose(move |call| {
        let first = seen.lock().insert((call.method.to_string(), call.uri.to_string()));
        first.then(|| faults[turn.fetch_add(1, Ordering::SeqCst) % faults.len()])
    });
    let uploaded = upload(&store, &key, &content).await?;
    let proven = store.prove(&key, &Expectation::sent(&written(&content), &uploaded)).await?;
    store.write_head(&keys, ID, proven.clone(), meta("node-1")).await?;
    ensure!(read(&store, &key).await? == content, "the content differs");
    ensure!(proxy.failed() > 10, "{} requests failed", proxy.failed());

    // A store that stays overloaded: an error that says so, and nothing is proven.
    proxy.choose(|_| Some(S3Answer::Error(503, "SlowDown")));
    let busy = prove(&store, &key, &content, &uploaded).await.err().context("it is proven")?;
    ensure!(busy.is_retryable() && busy.to_string().contains("503"), "{busy}");
    let busy = upload(&store, &keys.full_tar(), b"x").await.err().context("it is uploaded")?;
    ensure!(busy.to_string().contains("SlowDown"), "{busy}");

    // A store that serves less than it says, and one whose responses always break off.
    for answer in [S3Answer::Shorten(1), S3Answer::Cut(100)] {
        proxy.choose(move |call| (call.method == http::Method::GET).then_some(answer));
        let not = prove(&store, &key, &content, &uploaded).await;
        ensure!(not.is_err(), "{answer:?}: it is proven");
        ensure!(read(&store, &key).await.is_err(), "{answer:?}: it is read");
    }
    proxy.choose(|_| None);

    // The connection itself: refused, and without any answer.
    let proxy = Proxy::of(stage.address().parse()?).await?;
    let endpoint = proxy.url("http").trim_start_matches("http://").to_owned();
    let short = RetryPolicy { answer: Duration::from_millis(300), attempts: 2, ..hasty() };
    let store = stage.store_at(&endpoint).await?.with_retry(short);
    for (fault, says) in [(Broken::Refuse, "cannot connect"), (Broken::BlackHole, "no answer within")] {
        proxy.set(fault).await?;
        let not = prove(&store, &key, &content, &uploaded).await.err().context("it is proven")?;
        ensure!(not.is_retryable() && not.to_string().contains(says), "{not}");
    }
    proxy.heal().await?;
    prove(&store, &key, &content, &uploaded).await?;
    Ok(())
}

/// Deletion and pruning remove what they say, and nothing of others.
pub async fn deletion_removes_what_it_says(stage: &impl Backend) -> Result<()> {
    let store = stage.store().await?;
    let (one, ten, other) = (
        keys(&stage.owner("jane"), "ws-1")?,
        keys(&stage.owner("jane"), "ws-10")?,
        keys(&stage.owner("jane2"), "ws-1")?,
    );
    let mut newest = None;
    for keys in [&one, &ten, &other] {
        for sequence in 1..=3 {
            let id = BackupId { generation: 1, sequence };
            let (content, key) = (random(2000 + sequence), keys.archive(id));
            let uploaded = upload(&store, &key, &content).await?;
            let proven = store.prove(&key, &Expectation::sent(&written(&content), &uploaded)).await?;
            newest = Some(store.write_head(keys, id, proven, meta("node-1")).await?);
        }
        upload(&store, &keys.snapshot(7, content::store::Format::Zst), b"snapshot").await?;
    }
    // More than one page of a listing.
    stream::iter(0..1200)
        .map(|n| {
            let (store, instance) = (store.clone(), one.clone());
            async move {
                let key = instance.instance_object(&"i-1".parse()?, &format!("logs/task-{n}"))?;
                upload(&store, &key, b"log").await.map(drop)
            }
        })
        .buffer_unordered(16)
        .collect::<Vec<Result<()>>>()
        .await
        .into_iter()
        .collect::<Result<Vec<()>>>()?;

    let newest = newest.context("no head")?;
    let policy = PrunePolicy { keep: 1, age: Duration::ZERO };
    let (none, now) = (BTreeSet::new(), Timestamp::now() + Duration::from_mins(1));
    let pruned = store.prune(&other, &newest, &none, &none, (policy, now)).await?;
    ensure!((pruned.heads.len(), pruned.archives.len()) == (2, 2), "{pruned:?}");

    let deleted = store.delete_workspace(&one, false).await?;
    ensure!(deleted.objects == 1206, "{deleted:?}");
    ensure!(read(&store, &one.snapshot(7, content::store::Format::Zst)).await? == b"snapshot", "it is gone");
    ensure!(store.delete_workspace(&one, true).await?.objects == 1, "the snapshot was not deleted");
    ensure!(
        store.list_backups(&ten).await?.backups.len() == 3,
        "a workspace with a similar name lost backups"
    );
    ensure!(store.delete_owner(one.owner()).await?.objects == 7, "not everything was deleted");
    ensure!(stage.is_empty(one.owner()), "something of the owner is left");
    let backups = store.list_backups(&other).await?.backups;
    ensure!(backups.len() == 1 && read(&store, &backups[0].key).await?.len() == 2003, "{backups:?}");
    Ok(())
}
