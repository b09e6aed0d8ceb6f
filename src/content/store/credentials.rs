//! Credentials that are read again when their files change, so that they can be rotated in the middle of an upload. Every
//! request asks for them; asking costs a `stat` of each file.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use object_store::gcp::{GcpCredential, GcpSigningCredential, GoogleCloudStorage, GoogleCloudStorageBuilder};
use parking_lot::Mutex;
use serde::Deserialize;

use super::connector::Connector;
use super::problem::CredentialProblem;
use super::settings::{KeySource, Minio};

/// Maximum bytes of a credentials file.
const LARGEST: u64 = 1024 * 1024;
/// Timeout of reading the files: their file system may hang.
const WITHIN: Duration = Duration::from_secs(10);
/// How often files that change while they are read are read again.
const TRIES: u32 = 5;

/// Identity and state of a file. A Secret of Kubernetes is rotated by a new link target, so the inode changes.
type Stamp = (u64, u64, u64, i64, i64);

fn stamp(meta: &Metadata) -> Stamp {
    (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}

/// Makes a value of the content of its files.
type Parse<T> = dyn Fn(&[Vec<u8>]) -> Result<T, CredentialProblem> + Send + Sync;
/// Stamps and content of files.
type Files = (Vec<Stamp>, Vec<Vec<u8>>);

/// Reads a value from files again whenever they change.
pub(super) struct Watched<T> {
    files: Arc<[PathBuf]>,
    parse: Box<Parse<T>>,
    known: Mutex<Option<(Vec<Stamp>, Arc<T>)>>,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    pub(super) fn new(
        files: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, CredentialProblem> + Send + Sync + 'static,
    ) -> Self {
        Self { files: files.into(), parse: Box::new(parse), known: Mutex::new(None) }
    }

    /// The value. While a changed file cannot be read, the one before stays in use.
    pub(super) async fn get(&self) -> Result<Arc<T>, CredentialProblem> {
        let known = self.known.lock().clone();
        let (files, stamps) = (Arc::clone(&self.files), known.as_ref().map(|(stamps, _)| stamps.clone()));
        let reading = tokio::task::spawn_blocking(move || read(&files, stamps.as_deref()));
        let read = match tokio::time::timeout(WITHIN, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err(CredentialProblem("the task that reads their files ended".to_owned())),
            Err(_) => Err(CredentialProblem(format!("their files were not read within {WITHIN:?}"))),
        };
        let fresh = read.and_then(|read| match read {
            Some((stamps, texts)) => Ok(Some((stamps, Arc::new((self.parse)(&texts)?)))),
            None => Ok(None),
        });
        match (fresh, known) {
            (Ok(Some((stamps, value))), _) => {
                *self.known.lock() = Some((stamps, Arc::clone(&value)));
                Ok(value)
            }
            (Ok(None), Some((_, value))) => Ok(value),
            (Err(problem), Some((_, value))) => {
                tracing::warn!(%problem, "keeping the previous credentials of the object store");
                Ok(value)
            }
            (Err(problem), None) => Err(problem),
            (Ok(None), None) => Err(CredentialProblem("their files were not read".to_owned())),
        }
    }
}

/// Stamps and content of files; `None` if they have not changed.
fn read(files: &[PathBuf], known: Option<&[Stamp]>) -> Result<Option<Files>, CredentialProblem> {
    let mut before = stamps(files)?;
    if known == Some(before.as_slice()) {
        return Ok(None);
    }
    for _ in 0..TRIES {
        let texts = files.iter().map(|file| read_file(file)).collect::<Result<Vec<_>, _>>()?;
        let after = stamps(files)?;
        if after == before {
            return Ok(Some((before, texts)));
        }
        // Replaced meanwhile: two files must be of one rotation.
        before = after;
    }
    Err(CredentialProblem("their files change while they are read".to_owned()))
}

fn stamps(files: &[PathBuf]) -> Result<Vec<Stamp>, CredentialProblem> {
    let stamp = |file: &PathBuf| {
        std::fs::metadata(file).map(|meta| stamp(&meta)).map_err(|error| unreadable(file, &error))
    };
    files.iter().map(stamp).collect()
}

fn read_file(path: &Path) -> Result<Vec<u8>, CredentialProblem> {
    let read = || {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
        }
        let mut text = Vec::new();
        File::open(path)?.take(LARGEST).read_to_end(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> CredentialProblem {
    CredentialProblem(format!("cannot read {}: {error}", path.display()))
}

/// Credentials of S3 and MinIO.
#[derive(Debug)]
pub(super) struct AwsFiles(Watched<AwsCredential>);

#[async_trait]
impl CredentialProvider for AwsFiles {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        Ok(self.0.get().await?)
    }
}

impl AwsFiles {
    /// A shared credentials file, profile `default`.
    pub(super) fn shared(file: PathBuf) -> Self {
        let shown = file.display().to_string();
        Self(Watched::new(vec![file], move |texts| {
            let text = texts.first().map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
            profile(&text).filter(is_sendable).ok_or_else(|| {
                let rule = "must have aws_access_key_id and aws_secret_access_key in the profile default";
                CredentialProblem(format!("{shown} {rule}"))
            })
        }))
    }

    /// An access key and a secret key, each in the configuration or in a file.
    pub(super) fn minio(settings: &Minio) -> Self {
        let (access, secret) = (settings.access_key.clone(), settings.secret_key.clone());
        let of = |source: &KeySource| match source {
            KeySource::File(path) => Some(path.clone()),
            KeySource::Inline(_) => None,
        };
        let files = [&access, &secret].into_iter().filter_map(of).collect();
        Self(Watched::new(files, move |texts| {
            let mut texts = texts.iter();
            let mut value = |source: &KeySource| match source {
                KeySource::Inline(secret) => Ok(secret.expose().clone()),
                KeySource::File(path) => {
                    let text = texts.next().map(|text| String::from_utf8_lossy(text).trim().to_owned());
                    text.filter(|text| !text.is_empty())
                        .ok_or_else(|| CredentialProblem(format!("{} is empty", path.display())))
                }
            };
            let credential =
                AwsCredential { key_id: value(&access)?, secret_key: value(&secret)?, token: None };
            let rule = "the access key or the secret key has characters that are not visible ASCII";
            Some(credential).filter(is_sendable).ok_or_else(|| CredentialProblem(rule.to_owned()))
        }))
    }
}

/// Whether credentials can be sent in a header: with other characters the client library would panic.
fn is_sendable(credential: &AwsCredential) -> bool {
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let AwsCredential { key_id, secret_key, token } = credential;
    visible(key_id) && visible(secret_key) && token.as_deref().is_none_or(visible)
}

/// The profile `default` of a shared credentials file.
fn profile(text: &str) -> Option<AwsCredential> {
    let (mut inside, mut key_id, mut secret_key, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = name.trim() == "default";
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match key.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(AwsCredential { key_id: key_id?, secret_key: secret_key?, token })
}

/// The client library's providers of one version of a Google credentials file.
pub(super) struct GcpProviders(GoogleCloudStorage);

/// Credentials of GCS. Tokens are cached until the file changes.
#[derive(Debug)]
pub(super) struct GcpFile(Watched<GcpProviders>);

#[derive(Deserialize)]
struct GcpFileHead {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    gcs_base_url: Option<String>,
}

impl GcpFile {
    pub(super) fn new(file: PathBuf) -> Self {
        let path = file.clone();
        Self(Watched::new(vec![file], move |texts| {
            let text = texts.first().map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
            let malformed =
                || CredentialProblem(format!("{} is no credentials file of Google", path.display()));
            let head: GcpFileHead = serde_json::from_str(&text).map_err(|_| malformed())?;
            let builder =
                GoogleCloudStorageBuilder::new().with_bucket_name("none").with_http_connector(Connector);
            let builder = match head.kind.as_str() {
                "service_account" | "" => builder.with_service_account_key(text.into_owned()),
                _ => builder.with_application_credentials(path.display().to_string()),
            };
            builder.build().map(GcpProviders).map_err(|_| malformed())
        }))
    }

    /// Another address of the service than Google's, if the file names one.
    pub(super) fn base_url(file: &Path) -> Result<Option<String>, CredentialProblem> {
        let malformed = |_| CredentialProblem(format!("{} is no credentials file of Google", file.display()));
        let head: GcpFileHead = serde_json::from_slice(&read_file(file)?).map_err(malformed)?;
        Ok(head.gcs_base_url)
    }
}

#[async_trait]
impl CredentialProvider for GcpFile {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        self.0.get().await?.0.credentials().get_credential().await
    }
}

/// As [`GcpFile`], for signed URLs.
#[derive(Debug)]
pub(super) struct GcpSigning(pub(super) Arc<GcpFile>);

#[async_trait]
impl CredentialProvider for GcpSigning {
    type Credential = GcpSigningCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpSigningCredential>> {
        self.0.0.get().await?.0.signing_credentials().get_credential().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Settings;
    use serde_json::json;

    #[tokio::test]
    async fn rotated_files_are_read_again_and_a_broken_one_keeps_the_previous_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        let write = |text: &str| {
            let draft = folder.path().join("draft");
            std::fs::write(&draft, text).unwrap();
            std::fs::rename(&draft, &file).unwrap();
        };
        let provider = AwsFiles::shared(file.clone());
        let error = provider.get_credential().await.unwrap_err();
        assert!(error.to_string().contains("cannot read"), "{error}");
        write(
            "[other]\naws_access_key_id=x\n[default]\naws_access_key_id = A\naws_secret_access_key=hunter2\n",
        );
        let first = provider.get_credential().await.unwrap();
        assert_eq!((first.key_id.as_str(), first.secret_key.as_str()), ("A", "hunter2"));
        assert!(Arc::ptr_eq(&first, &provider.get_credential().await.unwrap()), "it is not read again");
        write("[default]\naws_access_key_id=A\naws_secret_access_key=hunter3\naws_session_token=t\n");
        let second = provider.get_credential().await.unwrap();
        assert_eq!((second.secret_key.as_str(), second.token.as_deref()), ("hunter3", Some("t")));
        write("[default]\naws_access_key_id=A B\naws_secret_access_key=hunter4\n");
        assert_eq!(provider.get_credential().await.unwrap().secret_key, "hunter3");
        write("[default]\n");
        assert_eq!(provider.get_credential().await.unwrap().secret_key, "hunter3");
        assert!(!format!("{provider:?}").contains("hunter"));
    }

    #[tokio::test]
    async fn a_file_of_google_that_is_none_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("google.json");
        let account =
            json!({"type": "service_account", "gcs_base_url": "http://m:1", "private_key": "hunter2"});
        for (text, base) in [(account.to_string(), Some("http://m:1")), ("hunter2".to_owned(), None)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(GcpFile::base_url(&file).ok().flatten().as_deref(), base);
            let error = GcpFile::new(file.clone()).get_credential().await.unwrap_err().to_string();
            assert!(error.contains("google.json is no credentials file of Google"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn keys_of_minio_come_from_the_configuration_or_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hunter2\n").unwrap();
        let settings = Settings::read(&domain::secret::Secret::new(json!({
            "kind": "minio",
            "minio": {"endpoint": "m:9000", "accessKey": "A", "secretKeyFile": secret},
        })))
        .unwrap();
        assert!(!format!("{settings:?}").contains("\"A\""), "{settings:?}");
        let crate::store::settings::Kind::Minio(minio) = &settings.kind else { panic!("{settings:?}") };
        let provider = AwsFiles::minio(minio);
        let read = provider.get_credential().await.unwrap();
        assert_eq!((read.key_id.as_str(), read.secret_key.as_str()), ("A", "hunter2"));
        std::fs::write(&secret, "hunter3 ").unwrap();
        assert_eq!(provider.get_credential().await.unwrap().secret_key, "hunter3");
    }
}
