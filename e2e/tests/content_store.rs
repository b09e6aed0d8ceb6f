//! Content in a real S3 server: uploads are proven, heads elect, credentials rotate, and a store that fails is noticed before
//! anything is called proven.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use content::store::{Error, Expectation, Fault, Key, NotProven, Proof, UploadOptions};
use domain::names::OwnerId;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use e2e::harness::s3::S3Login;
use e2e::harness::{Assets, S3Options, S3Server, block_on};

use self::stories::{Backend, Breakable};
use self::support::PART;
use self::support::{ID, prove};
pub use self::support::{keys, meta, open, random, read, send, upload, written};

pub mod gcs;
pub mod stories;
mod support;

pub const BUCKET: &str = "content";

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

    /// `content.storage` of a store that reaches the server at `address`, by a login.
    pub fn settings_for(&self, address: &str, login: &S3Login) -> Value {
        json!({
            "kind": "minio",
            "minio": {
                "endpoint": address, "accessKey": login.access_key, "secretKey": login.secret_key,
                "region": self.server.region(), "bucket": BUCKET,
            },
        })
    }

    /// `content.storage` of a store over this server.
    pub fn storage(&self) -> Value {
        self.settings_for(&self.server.address(), self.server.login())
    }

    fn damage_file(&self, key: &Key, damage: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        // In place: the ETag is an attribute of the file.
        let file = self.server.object(BUCKET, &format!("{}/{}", key.owner(), key.path()));
        let mut content = std::fs::read(&file)?;
        damage(&mut content);
        Ok(std::fs::write(file, content)?)
    }
}

impl Backend for Stage {
    fn settings(&self, address: &str) -> Result<Value> {
        Ok(self.settings_for(address, self.server.login()))
    }

    fn address(&self) -> String {
        self.server.address()
    }

    fn owner(&self, name: &str) -> String {
        name.to_owned()
    }

    fn download_valid(&self) -> Duration {
        Duration::from_mins(30)
    }

    fn is_empty(&self, owner: &OwnerId) -> bool {
        !self.server.object(BUCKET, owner.as_str()).exists()
    }
}

impl Breakable for Stage {
    fn damage(&self, key: &Key, damage: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.damage_file(key, damage)
    }

    fn open_uploads(&self) -> usize {
        self.server.open_uploads(BUCKET)
    }

    async fn restart(&self) -> Result<()> {
        self.server.restart().await
    }
}

#[test]
fn uploads_in_parts_are_proven_by_checksums_and_elected_once() -> Result<()> {
    block_on(async {
        stories::uploads_are_proven_and_elected_once(&Stage::new(S3Options::default()).await?).await
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
        stage.damage(&key, |bytes| bytes[5000] = !bytes[5000])?;
        let not = prove(&store, &key, &content, &uploaded).await;
        ensure!(matches!(not, Err(NotProven::Content { index: false, .. })), "{not:?}");
        Ok(())
    })
}

#[test]
fn truncated_and_corrupted_objects_are_not_proven() -> Result<()> {
    block_on(async { stories::damage_is_not_proven(&Stage::new(S3Options::default()).await?).await })
}

#[test]
fn presigned_urls_upload_and_download_by_plain_http() -> Result<()> {
    block_on(async {
        stories::signed_urls_work_by_plain_http(&Stage::new(S3Options::default()).await?).await
    })
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
        stories::an_upload_is_resumed_and_aborted(&Stage::new(S3Options::default()).await?).await
    })
}

#[test]
fn a_store_that_throttles_cuts_and_lies_is_noticed() -> Result<()> {
    block_on(async { stories::faults_are_noticed(&Stage::new(S3Options::default()).await?).await })
}

#[test]
fn deletion_and_pruning_remove_what_they_say_and_nothing_of_others() -> Result<()> {
    block_on(async { stories::deletion_removes_what_it_says(&Stage::new(S3Options::default()).await?).await })
}

#[test]
fn buckets_of_owners_are_created_and_tls_trusts_the_ca_file() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options { tls: true, ..S3Options::default() }).await?;
        let mut settings = stage.storage();
        settings["minio"]["secure"] = json!(true);
        settings["minio"]["bucket"] = json!("");
        let key = keys("jane", "ws-1")?.full_tar();
        let untrusted =
            upload(&open(settings.clone()).await?, &key, b"x").await.err().context("it is trusted")?;
        ensure!(untrusted.to_string().contains("cannot connect"), "{untrusted}");
        settings["caFile"] = json!(stage.server.ca());
        let store = open(settings).await?;
        // Before the first write an owner has no bucket, and what is in it is simply not there.
        let keys = keys("jane", "ws-1")?;
        ensure!(store.newest_backup(&keys).await?.is_none(), "there is a backup");
        ensure!(store.delete_owner(key.owner()).await?.objects == 0, "something was deleted");
        let missing = store.presign_get(&key).await;
        ensure!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
        ensure!(!stage.server.has_bucket("gitpod-user-jane"), "a read created it");
        let uploaded = upload(&store, &key, b"x").await?;
        ensure!(stage.server.has_bucket("gitpod-user-jane"), "it was not created");
        for _ in 0..2 {
            store.ensure_bucket(key.owner()).await?;
        }
        store.prove(&key, &Expectation::uploaded(&uploaded)).await?;
        ensure!(store.snapshot_name(&key)? == "workspaces/ws-1/full.tar@gitpod-user-jane", "another name");
        Ok(())
    })
}

#[test]
fn a_shared_bucket_that_is_not_there_is_an_error() -> Result<()> {
    block_on(async {
        let stage = Stage::new(S3Options::default()).await?;
        let mut settings = stage.storage();
        settings["minio"]["bucket"] = json!("nothing-here");
        let store = open(settings).await?;
        let keys = keys("jane", "ws-1")?;
        let error = upload(&store, &keys.full_tar(), b"x").await.err().context("there is a bucket")?;
        ensure!(error.to_string().contains("there is no such bucket"), "{error}");
        let error = store.newest_backup(&keys).await.err().context("there is a bucket")?;
        ensure!(error.to_string().contains("there is no such bucket"), "{error}");
        Ok(())
    })
}
