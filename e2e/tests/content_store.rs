//! Content in a real S3 server: uploads are proven, heads elect, credentials rotate, and a store that fails is noticed before
//! anything is called proven.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use content::store::{
    BackupId, Choice, Digest, Download, DownloadOptions, Error, Expectation, Fault, Head, HeadMeta, Journal,
    Key, NotProven, Proof, PrunePolicy, RetryPolicy, Settings, Store, Tail, UploadLimits, UploadOptions,
    UploadState, Uploaded, WorkspaceKeys, Written,
};
use domain::secret::Secret;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use e2e::harness::s3::S3Login;
use e2e::harness::{Assets, Fault as Broken, Proxy, S3Answer, S3Options, S3Proxy, S3Server, block_on};

pub const BUCKET: &str = "content";
const PART: u64 = 5 * 1024 * 1024;
const ID: BackupId = BackupId::first(1);

/// A server with a bucket, in a folder that goes with it.
pub struct Stage {
    pub server: S3Server,
    dir: tempfile::TempDir,
}

impl Stage {
    pub async fn new(options: S3Options) -> Result<Self> {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let assets = Arc::new(tokio::task::spawn_blocking(Assets::ensure).await??);
        let dir = tempfile::tempdir()?;
        let server = S3Server::start(&assets, dir.path(), options).await?;
        server.create_bucket(BUCKET)?;
        Ok(Self { server, dir })
    }

    /// Settings of a store that reaches the server at `endpoint`.
    pub fn settings(&self, endpoint: &str, login: &S3Login) -> Value {
        json!({
            "kind": "minio",
            "minio": {
                "endpoint": endpoint, "accessKey": login.access_key, "secretKey": login.secret_key,
                "region": self.server.region(), "bucket": BUCKET,
            },
        })
    }

    pub async fn store(&self) -> Result<Store> {
        self.store_at(&self.server.address()).await
    }

    async fn store_at(&self, endpoint: &str) -> Result<Store> {
        open(self.settings(endpoint, self.server.login())).await
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.server.object(BUCKET, &format!("{}/{}", key.owner(), key.path()))
    }
}

pub async fn open(settings: Value) -> Result<Store> {
    let store = Store::open(&Settings::read(&Secret::new(settings))?).await?;
    Ok(store.with_limits(UploadLimits::new(PART, 3)?).with_retry(hasty()))
}

fn hasty() -> RetryPolicy {
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

async fn prove(store: &Store, key: &Key, content: &[u8], uploaded: &Uploaded) -> Result<Proof, NotProven> {
    Ok(store.prove(key, &Expectation::sent(&written(content), uploaded)).await?.proof())
}

pub async fn read(store: &Store, key: &Key) -> Result<Vec<u8>> {
    let download: Download = store.download(key, DownloadOptions::default()).await?;
    Ok(download.bytes(u64::MAX).await?)
}

/// Keeps the state of an upload, and can be told to act after a number of saves.
#[derive(Default)]
struct Kept {
    last: Mutex<Option<UploadState>>,
    saves: AtomicUsize,
    cancel_after: Option<(usize, CancellationToken)>,
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

#[test]
fn uploads_in_parts_are_proven_by_checksums_and_elected_once() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options::default()).await?;
        let (store, keys) = (stage.store().await?, keys("jane", "ws-1")?);
        let (content, key) = (random(4 * PART + 777), keys.archive(ID));
        let uploaded = upload(&store, &key, &content).await?;
        ensure!(
            uploaded.e_tag.as_ref().is_some_and(|tag| tag.trim_matches('"').ends_with("-5")),
            "{uploaded:?}"
        );
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
    })
}

#[test]
fn a_store_without_checksums_is_read_back_whole() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options { other_etags: true, ..S3Options::default() }).await?;
        let (store, key) = (stage.store().await?, keys("jane", "ws-1")?.archive(ID));
        let content = random(2 * PART + 3000);
        let uploaded = upload(&store, &key, &content).await?;
        let proof = prove(&store, &key, &content, &uploaded).await?;
        ensure!(proof == Proof::ReadBack, "{proof:?}");
        flip(&stage.file(&key), 5000)?;
        let not = prove(&store, &key, &content, &uploaded).await;
        ensure!(matches!(not, Err(NotProven::Content { index: false, .. })), "{not:?}");
        Ok(())
    })
}

fn flip(file: &Path, at: u64) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[!byte[0]], at)?;
    Ok(())
}

#[test]
fn truncated_and_corrupted_objects_are_not_proven() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options::default()).await?;
        let (store, key) = (stage.store().await?, keys("jane", "ws-1")?.archive(ID));
        let content = random(2 * PART + 3000);
        let uploaded = upload(&store, &key, &content).await?;
        flip(&stage.file(&key), content.len() as u64 - 500)?;
        let not = prove(&store, &key, &content, &uploaded).await;
        ensure!(matches!(not, Err(NotProven::Content { index: true, .. })), "{not:?}");
        let file = std::fs::File::options().write(true).open(stage.file(&key))?;
        file.set_len(content.len() as u64 - 1)?;
        let not = prove(&store, &key, &content, &uploaded).await;
        ensure!(matches!(&not, Err(NotProven::Size { found, .. }) if *found == uploaded.size - 1), "{not:?}");
        store.delete(&key).await?;
        let not = prove(&store, &key, &content, &uploaded).await;
        ensure!(matches!(not, Err(NotProven::Missing(_))), "{not:?}");
        Ok(())
    })
}

#[test]
fn presigned_urls_upload_and_download_by_plain_http() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options::default()).await?;
        let mut settings = stage.settings(&stage.server.address(), stage.server.login());
        settings["blobQuota"] = json!(10);
        let store = open(settings).await?;
        let (owner, name) = ("jane".parse()?, "folder/settings.json".parse()?);
        let put = store.presign_put(&owner, &name, Some("application/json")).await?;
        let wrong = send("PUT", put.url.expose(), "text/plain", b"{\"a\": 1}").await?;
        ensure!(wrong.0 == 403, "another content type is accepted: {wrong:?}");
        let (status, _) = send("PUT", put.url.expose(), "application/json", b"{\"a\": 1}").await?;
        ensure!(status == 200, "{status}");
        let get = store.presign_get(&Key::blob(&owner, &name)).await?;
        ensure!(get.valid == Duration::from_mins(30), "{get:?}");
        let (status, body) = send("GET", get.url.expose(), "", b"").await?;
        ensure!((status, body.as_ref()) == (200, b"{\"a\": 1}".as_slice()), "{status}");
        let changed = get.url.expose().replace("settings.json", "other.json");
        ensure!(send("GET", &changed, "", b"").await?.0 == 403, "a URL is valid for another object");
        let missing = store.presign_get(&Key::blob(&owner, &"none".parse()?)).await;
        ensure!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
        // 8 of 10 bytes are used; then 16.
        let put = store.presign_put(&owner, &"second".parse()?, None).await?;
        ensure!(
            send("PUT", put.url.expose(), "", b"12345678").await?.0 == 200,
            "the second blob is rejected"
        );
        let over = store.presign_put(&owner, &"third".parse()?, None).await;
        ensure!(matches!(&over, Err(Error::Quota { used: 16, .. })), "{over:?}");
        Ok(())
    })
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

#[test]
fn credentials_are_rotated_in_the_middle_of_an_upload() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options::default()).await?;
        let old = stage.server.create_user("old").await?;
        let (access, secret) = (stage.dir.path().join("access"), stage.dir.path().join("secret"));
        let write = |login: &S3Login| {
            std::fs::write(&access, &login.access_key)
                .and_then(|()| std::fs::write(&secret, &login.secret_key))
        };
        write(&old)?;
        let store = open(json!({
            "kind": "minio",
            "minio": {
                "endpoint": stage.server.address(), "region": stage.server.region(), "bucket": BUCKET,
                "accessKeyFile": access, "secretKeyFile": secret,
            },
        }))
        .await?;
        let key = keys("jane", "ws-1")?.archive(ID);
        let content = random(4 * PART + 9);
        let chunks = stream::iter(content.chunks(1 << 20).map(Bytes::copy_from_slice).enumerate());
        let server = &stage.server;
        let rotating = chunks.then(|(index, chunk)| {
            let (old, write) = (&old, &write);
            async move {
                if index == 11 {
                    let new = server.create_user("new").await.map_err(io::Error::other)?;
                    write(&new)?;
                    server.delete_user(old).await.map_err(io::Error::other)?;
                }
                Ok::<_, io::Error>(chunk)
            }
        });
        let uploaded = store.upload_stream(&key, Box::pin(rotating), UploadOptions::default()).await?;
        let proof = prove(&store, &key, &content, &uploaded).await?;
        ensure!(proof == Proof::Checksums, "{proof:?}");
        // Without a new login the error says whose fault it is, and holds no key.
        write(&old)?;
        let denied =
            store.prove(&key, &Expectation::uploaded(&uploaded)).await.err().context("it is accepted")?;
        let NotProven::Store(denied) = denied else { bail!("{denied}") };
        ensure!(denied.fault() == Fault::Configuration, "{denied:?}");
        ensure!(!format!("{denied} {denied:?}").contains("secret-of"), "{denied:?}");
        Ok(())
    })
}

#[test]
fn an_upload_is_resumed_after_its_client_died_and_aborted_when_cancelled() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options::default()).await?;
        let key = keys("jane", "ws-1")?.archive(ID);
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
            while kept.last.lock().as_ref().is_none_or(|state| state.parts.len() < 2) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), sent).await.context("no parts are sent")?;
        client.abort();
        ensure!(client.await.is_err_and(|error| error.is_cancelled()), "the upload ended by itself");
        ensure!(stage.server.open_uploads(BUCKET) == 1, "{}", stage.server.open_uploads(BUCKET));
        stage.server.restart().await?;

        let proxy = S3Proxy::start(&stage.server.address()).await?;
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
        ensure!(stage.server.open_uploads(BUCKET) == 0, "parts are left");

        let cancel = CancellationToken::new();
        let journal = Kept { cancel_after: Some((2, cancel.clone())), ..Kept::default() };
        let options = UploadOptions { journal: &journal, cancel, resume: None };
        let cancelled = store.upload(&key, content.as_slice(), options).await;
        ensure!(matches!(cancelled, Err(Error::Cancelled { aborted: true, .. })), "{cancelled:?}");
        ensure!(stage.server.open_uploads(BUCKET) == 0, "parts are left");
        let state = journal.last.lock().clone().context("no state is kept")?;
        store.abort_upload(&key, &state).await?;
        ensure!(read(&store, &key).await? == content, "the object of before is gone");
        Ok(())
    })
}

#[test]
fn a_store_that_throttles_cuts_and_lies_is_noticed() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options::default()).await?;
        let proxy = S3Proxy::start(&stage.server.address()).await?;
        let store = stage.store_at(&proxy.address()).await?;
        let keys = keys("jane", "ws-1")?;
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
        let proxy = Proxy::of(stage.server.address().parse()?).await?;
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
        let gone = stage.store().await?;
        let missing = open(json!({
            "kind": "minio",
            "minio": {
                "endpoint": stage.server.address(), "bucket": "nothing-here", "region": stage.server.region(),
                "accessKey": stage.server.login().access_key, "secretKey": stage.server.login().secret_key,
            },
        }))
        .await?;
        let error = upload(&missing, &key, b"x").await.err().context("there is no such bucket")?;
        ensure!(error.to_string().contains("there is no such bucket"), "{error}");
        drop(gone);
        Ok(())
    })
}

#[test]
fn deletion_and_pruning_remove_what_they_say_and_nothing_of_others() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options::default()).await?;
        let store = stage.store().await?;
        let (one, ten, other) = (keys("jane", "ws-1")?, keys("jane", "ws-10")?, keys("jane2", "ws-1")?);
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
        ensure!(
            read(&store, &one.snapshot(7, content::store::Format::Zst)).await? == b"snapshot",
            "it is gone"
        );
        ensure!(store.delete_workspace(&one, true).await?.objects == 1, "the snapshot was not deleted");
        ensure!(
            store.list_backups(&ten).await?.backups.len() == 3,
            "a workspace with a similar name lost backups"
        );
        ensure!(store.delete_owner(one.owner()).await?.objects == 7, "not everything was deleted");
        ensure!(!stage.server.object(BUCKET, "jane").exists(), "something of the owner is left");
        let backups = store.list_backups(&other).await?.backups;
        ensure!(backups.len() == 1 && read(&store, &backups[0].key).await?.len() == 2003, "{backups:?}");
        Ok(())
    })
}

#[test]
fn buckets_of_owners_are_created_and_tls_trusts_the_ca_file() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options { tls: true, ..S3Options::default() }).await?;
        let mut settings = stage.settings(&stage.server.address(), stage.server.login());
        settings["minio"]["secure"] = json!(true);
        settings["minio"]["bucket"] = json!("");
        let key = keys("jane", "ws-1")?.full_tar();
        let untrusted =
            upload(&open(settings.clone()).await?, &key, b"x").await.err().context("it is trusted")?;
        ensure!(untrusted.to_string().contains("cannot connect"), "{untrusted}");
        settings["caFile"] = json!(stage.server.ca());
        let store = open(settings).await?;
        let error = upload(&store, &key, b"x").await.err().context("there is a bucket")?;
        ensure!(error.to_string().contains("bucket gitpod-user-jane: there is no such bucket"), "{error}");
        for _ in 0..2 {
            store.ensure_bucket(key.owner()).await?;
        }
        ensure!(stage.server.has_bucket("gitpod-user-jane"), "it was not created");
        let uploaded = upload(&store, &key, b"x").await?;
        store.prove(&key, &Expectation::uploaded(&uploaded)).await?;
        ensure!(store.snapshot_name(&key)? == "workspaces/ws-1/full.tar@gitpod-user-jane", "another name");
        Ok(())
    })
}
