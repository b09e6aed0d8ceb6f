//! The same stories over Google Cloud Storage: over a double always, and over the real service where the environment names an
//! account of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use content::store::{Error, Key};
use domain::names::OwnerId;
use e2e::harness::{GcsDouble, block_on};
use serde_json::{Value, json};

use super::stories::{self, Backend, Breakable};
use super::support::{keys, open, read, upload};

/// Credentials file of a service account that may create buckets, for the run over the real service.
const CREDENTIALS: &str = "SPACEPORT_E2E_GCS_CREDENTIALS";
/// Its project.
const PROJECT: &str = "SPACEPORT_E2E_GCS_PROJECT";

fn settings(credentials: &std::path::Path, project: &str) -> Value {
    json!({
        "kind": "gcloud", "stage": "dev",
        "gcloud": { "credentialsFile": credentials, "region": "europe-west1", "projectId": project },
    })
}

fn bucket(owner: &OwnerId) -> String {
    format!("gitpod-dev-user-{owner}")
}

/// The double, and a folder for credentials files.
pub struct Double {
    pub double: GcsDouble,
    dir: tempfile::TempDir,
}

impl Double {
    pub async fn new() -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { double: GcsDouble::start().await?, dir: tempfile::tempdir()? })
    }
}

impl Backend for Double {
    fn settings(&self, address: &str) -> Result<Value> {
        let file = self.dir.path().join(format!("{}.json", address.replace(':', "-")));
        self.double.write_credentials(&file, &format!("http://{address}"))?;
        Ok(settings(&file, "double"))
    }

    fn address(&self) -> String {
        self.double.address()
    }

    fn owner(&self, name: &str) -> String {
        name.to_owned()
    }

    fn download_valid(&self) -> Duration {
        Duration::from_hours(1)
    }

    fn is_empty(&self, owner: &OwnerId) -> bool {
        self.double.objects(&bucket(owner)).is_empty()
    }
}

impl Breakable for Double {
    fn damage(&self, key: &Key, damage: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.double.damage(&bucket(key.owner()), key.path(), damage)
    }

    fn open_uploads(&self) -> usize {
        self.double.open_uploads()
    }

    async fn restart(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn over_gcs_uploads_in_parts_are_proven_by_checksums_and_elected_once() -> Result<()> {
    block_on(async { stories::uploads_are_proven_and_elected_once(&Double::new().await?).await })
}

#[test]
fn over_gcs_truncated_and_corrupted_objects_are_not_proven() -> Result<()> {
    block_on(async { stories::damage_is_not_proven(&Double::new().await?).await })
}

#[test]
fn over_gcs_presigned_urls_upload_and_download_by_plain_http() -> Result<()> {
    block_on(async { stories::signed_urls_work_by_plain_http(&Double::new().await?).await })
}

#[test]
fn over_gcs_an_upload_is_resumed_after_its_client_died_and_aborted_when_cancelled() -> Result<()> {
    block_on(async { stories::an_upload_is_resumed_and_aborted(&Double::new().await?).await })
}

#[test]
fn over_gcs_a_store_that_throttles_cuts_and_lies_is_noticed() -> Result<()> {
    block_on(async { stories::faults_are_noticed(&Double::new().await?).await })
}

#[test]
fn over_gcs_deletion_and_pruning_remove_what_they_say_and_nothing_of_others() -> Result<()> {
    block_on(async { stories::deletion_removes_what_it_says(&Double::new().await?).await })
}

#[test]
fn over_gcs_buckets_of_owners_are_created_and_credentials_rotate() -> Result<()> {
    block_on(async {
        let double = Double::new().await?;
        let file = double.dir.path().join("credentials.json");
        double.double.write_credentials(&file, &double.double.url())?;
        let store = open(settings(&file, "double")).await?;
        let keys = keys("jane", "ws-1")?;
        ensure!(store.newest_backup(&keys).await?.is_none(), "there is a backup");
        ensure!(store.delete_owner(keys.owner()).await?.objects == 0, "something was deleted");
        ensure!(!double.double.has_bucket("gitpod-dev-user-jane"), "a read created it");
        upload(&store, &keys.full_tar(), b"one").await?;
        ensure!(double.double.has_bucket("gitpod-dev-user-jane"), "it was not created");
        // A file that is none keeps the credentials in use; a new one counts.
        std::fs::write(&file, "{}")?;
        upload(&store, &keys.full_tar(), b"two").await?;
        double.double.write_credentials(&file, &double.double.url())?;
        ensure!(read(&store, &keys.full_tar()).await? == b"two", "the content differs");
        // Of an account that the service does not know nothing is accepted.
        let other = double.dir.path().join("other.json");
        let text = std::fs::read_to_string(&file)?.replace("double@", "other@");
        std::fs::write(&other, text)?;
        let error = open(settings(&other, "double")).await?.newest_backup(&keys).await;
        let error = error.err().context("it is accepted")?;
        ensure!(matches!(error, Error::Denied { .. }), "{error:?}");
        ensure!(!format!("{error} {error:?}").contains("PRIVATE KEY"), "{error:?}");
        Ok(())
    })
}

/// The real service.
struct Real {
    settings: Value,
    run: String,
}

impl Backend for Real {
    fn settings(&self, _: &str) -> Result<Value> {
        Ok(self.settings.clone())
    }

    fn address(&self) -> String {
        "storage.googleapis.com:443".to_owned()
    }

    fn owner(&self, name: &str) -> String {
        format!("{name}-{}", self.run)
    }

    fn download_valid(&self) -> Duration {
        Duration::from_hours(1)
    }

    fn is_empty(&self, _: &OwnerId) -> bool {
        // The deletion's own listing is what there is.
        true
    }
}

/// Leaves two empty buckets `gitpod-dev-user-jane…` in the project.
#[test]
fn the_real_gcs_holds_what_its_double_does() -> Result<()> {
    let (Some(credentials), Ok(project)) = (std::env::var_os(CREDENTIALS), std::env::var(PROJECT)) else {
        eprintln!("skipped: {CREDENTIALS} and {PROJECT} name no account of Google Cloud Storage");
        return Ok(());
    };
    block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let run = format!("{:016x}", fastrand::u64(..));
        let real = Real { settings: settings(credentials.as_ref(), &project), run };
        stories::uploads_are_proven_and_elected_once(&real).await?;
        let store = real.store().await?;
        store.delete_owner(&real.owner("jane").parse()?).await?;
        stories::deletion_removes_what_it_says(&real).await?;
        for name in ["jane", "jane2"] {
            store.delete_owner(&real.owner(name).parse()?).await?;
        }
        Ok(())
    })
}
