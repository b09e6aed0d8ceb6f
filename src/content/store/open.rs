//! Opening a store, and the bucket and path of each object.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::names::OwnerId;
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::connector::Connector;
use super::credentials::{AwsFiles, GcpFile, GcpSigning};
use super::error::{At, Error};
use super::folder::Folder;
use super::names::{InvalidName, Key, Prefix};
use super::retry::RetryPolicy;
use super::settings::{Kind, Minio, Settings, UploadLimits};

/// Deadline of any one request; the retries have shorter ones of their own.
const REQUEST: Duration = Duration::from_mins(10);
const CONNECT: Duration = Duration::from_secs(10);
/// Buckets whose clients are kept. Where each owner has one, a node sees few at a time.
const BUCKETS: usize = 256;
/// Maximum bytes of a CA file.
const CA_MAX: u64 = 4 * 1024 * 1024;

/// An object store. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    pub(super) retry: RetryPolicy,
    pub(super) limits: UploadLimits,
}

pub(super) struct Shared {
    /// Such as `s3:content`.
    pub(super) name: String,
    pub(super) settings: Option<Settings>,
    pub(super) options: ClientOptions,
    layout: Layout,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The clients of one bucket.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) parts: Arc<dyn MultipartStore>,
    pub(super) signer: Option<Arc<dyn Signer>>,
    pub(super) folder: Option<Folder>,
    /// Set once the bucket has proven that it rejects a second create.
    pub(super) conditional: Arc<OnceCell<()>>,
    /// Set once the bucket is known to exist.
    pub(super) present: Arc<OnceCell<()>>,
}

/// Where an owner's objects are.
#[derive(Debug, Clone)]
enum Layout {
    /// One bucket for all, with the owner as the first segment.
    Shared(String),
    /// A bucket an owner, named by this prefix and the owner.
    PerOwner(String),
}

/// An object of the client library, and how errors name it.
pub(super) struct Place {
    pub(super) bucket: Bucket,
    pub(super) path: Path,
    pub(super) at: At,
}

impl Store {
    /// Opens a store. No request is sent yet.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let mut options = ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(CONNECT);
        if let Some(file) = &settings.ca_file {
            for certificate in certificates(file.clone()).await? {
                options = options.with_root_certificate(certificate);
            }
        }
        let (name, layout) = match &settings.kind {
            Kind::Gcloud { stage, project, .. } => {
                (format!("gcloud:{project}"), Layout::PerOwner(format!("gitpod-{stage}-user-")))
            }
            Kind::Minio(Minio { endpoint, bucket: Some(bucket), .. }) => {
                (format!("minio:{endpoint}"), Layout::Shared(bucket.clone()))
            }
            Kind::Minio(Minio { endpoint, .. }) => {
                (format!("minio:{endpoint}"), Layout::PerOwner("gitpod-user-".to_owned()))
            }
            Kind::S3 { bucket, .. } => (format!("s3:{bucket}"), Layout::Shared(bucket.clone())),
            Kind::Local { path } => {
                let created = tokio::fs::create_dir_all(path).await;
                created
                    .map_err(|error| Error::Settings(format!("local.path: {}: {error}", path.display())))?;
                (format!("local:{}", path.display()), Layout::Shared("local".to_owned()))
            }
        };
        // Without a provider the TLS library panics when the first client is made.
        let needs_tls = !matches!(settings.kind, Kind::Local { .. });
        if needs_tls && rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(Error::Settings("this process has installed no TLS provider".to_owned()));
        }
        let settings = Some(settings.clone());
        let shared = Shared { name, settings, options, layout, buckets: Mutex::default() };
        let store =
            Self { shared: Arc::new(shared), retry: RetryPolicy::default(), limits: UploadLimits::default() };
        if let Layout::Shared(bucket) = &store.shared.layout {
            // Wrong settings show now rather than at the first backup.
            store.bucket_named(bucket)?;
        }
        Ok(store)
    }

    /// A store in memory, for tests of other crates.
    pub fn in_memory() -> Self {
        let memory = Arc::new(InMemory::new());
        Self::over(memory.clone(), memory)
    }

    /// A store over any client, for tests that inject faults.
    pub fn over(objects: Arc<dyn ObjectStore>, parts: Arc<dyn MultipartStore>) -> Self {
        let name = "memory".to_owned();
        let bucket = Bucket {
            name: name.clone(),
            objects,
            parts,
            signer: None,
            folder: None,
            conditional: Arc::default(),
            present: Arc::default(),
        };
        let layout = Layout::Shared(name.clone());
        let buckets = Mutex::new(HashMap::from([(name.clone(), bucket)]));
        let shared = Shared { name, settings: None, options: ClientOptions::new(), layout, buckets };
        Self { shared: Arc::new(shared), retry: RetryPolicy::default(), limits: UploadLimits::default() }
    }

    /// With another retry policy.
    #[must_use]
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// With other part sizes.
    #[must_use]
    pub fn with_limits(self, limits: UploadLimits) -> Self {
        // Clients of folders know the part size.
        self.shared.buckets.lock().retain(|_, bucket| bucket.folder.is_none());
        Self { limits, ..self }
    }

    /// Name of the store, such as `s3:content`: heads hold it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Name of the bucket of an owner.
    pub fn bucket_name(&self, owner: &OwnerId) -> Result<String, Error> {
        let bucket = match &self.shared.layout {
            Layout::Shared(bucket) => return Ok(bucket.clone()),
            Layout::PerOwner(prefix) => format!("{prefix}{owner}"),
        };
        if is_bucket(&bucket) {
            Ok(bucket)
        } else {
            Err(Error::Bucket { store: self.name().to_owned(), bucket })
        }
    }

    /// Whether each owner has a bucket, which is created at the first write.
    pub(super) fn is_per_owner(&self) -> bool {
        matches!(self.shared.layout, Layout::PerOwner(_))
    }

    /// Whether a bucket holds, or may hold, objects of an owner.
    pub(super) fn is_of_owners(&self, bucket: &str) -> bool {
        match &self.shared.layout {
            Layout::Shared(shared) => shared == bucket,
            Layout::PerOwner(prefix) => bucket.starts_with(prefix.as_str()),
        }
    }

    /// The name of a snapshot, `OBJECT@BUCKET`.
    pub fn snapshot_name(&self, key: &Key) -> Result<String, Error> {
        let bucket = self.bucket_name(key.owner())?;
        Ok(format!("{}@{bucket}", self.path_of(key.owner(), key.path())))
    }

    /// The object that the name of a snapshot means. It may be another owner's: who may read it is the caller's decision.
    pub fn parse_snapshot(&self, name: &str) -> Result<Key, Error> {
        let rule = "must be OBJECT@BUCKET of this store, as TakeSnapshot answers it";
        let invalid = || InvalidName::new("snapshot name", rule, name);
        domain::snapshot_name::check(name).map_err(|_| invalid())?;
        let (object, bucket) = name.split_once('@').ok_or_else(invalid)?;
        let (owner, path) = match &self.shared.layout {
            Layout::Shared(known) if known == bucket => object.split_once('/'),
            Layout::Shared(_) => None,
            Layout::PerOwner(prefix) => bucket.strip_prefix(prefix.as_str()).map(|owner| (owner, object)),
        }
        .ok_or_else(invalid)?;
        let owner: OwnerId = owner.parse().map_err(|_| invalid())?;
        Ok(Key::parse(&owner, path)?)
    }

    fn path_of(&self, owner: &OwnerId, path: &str) -> String {
        match (&self.shared.layout, path) {
            (Layout::Shared(_), "") => owner.to_string(),
            (Layout::Shared(_), path) => format!("{owner}/{path}"),
            (Layout::PerOwner(_), path) => path.to_owned(),
        }
    }

    /// How errors name an object.
    pub(super) fn at(&self, bucket: &str, key: &str) -> At {
        At { store: self.shared.name.clone(), bucket: bucket.to_owned(), key: key.to_owned() }
    }

    pub(super) fn place(&self, key: &Key) -> Result<Place, Error> {
        self.located(key.owner(), key.path())
    }

    pub(super) fn prefix(&self, prefix: &Prefix) -> Result<Place, Error> {
        self.located(prefix.owner(), prefix.path())
    }

    fn located(&self, owner: &OwnerId, path: &str) -> Result<Place, Error> {
        let bucket = self.bucket_named(&self.bucket_name(owner)?)?;
        let path = self.path_of(owner, path);
        let at = self.at(&bucket.name, &path);
        let parsed = Path::parse(&path);
        let path = parsed.map_err(|_| InvalidName::new("object name", "must be a valid path", &path))?;
        Ok(Place { bucket, path, at })
    }

    /// The key of a listed object; `None` for objects that Spaceport did not name.
    pub(super) fn key_of(&self, owner: &OwnerId, path: &Path) -> Option<Key> {
        let path = match &self.shared.layout {
            Layout::Shared(_) => path.as_ref().strip_prefix(owner.as_str())?.strip_prefix('/')?,
            Layout::PerOwner(_) => path.as_ref(),
        };
        Key::parse(owner, path).ok()
    }

    pub(super) fn bucket_named(&self, name: &str) -> Result<Bucket, Error> {
        let mut buckets = self.shared.buckets.lock();
        if let Some(bucket) = buckets.get(name) {
            return Ok(bucket.clone());
        }
        let bucket = self.build(name)?;
        if buckets.len() >= BUCKETS {
            buckets.clear();
        }
        buckets.insert(name.to_owned(), bucket.clone());
        Ok(bucket)
    }

    fn build(&self, name: &str) -> Result<Bucket, Error> {
        let Some(settings) = &self.shared.settings else {
            return Err(Error::NoBucket(self.at(name, "")));
        };
        let invalid = |error: object_store::Error| match Error::of(&self.at(name, ""), &error) {
            Error::Credentials { problem, .. } => Error::Settings(problem),
            error => Error::Settings(error.to_string()),
        };
        let options = self.shared.options.clone();
        match &settings.kind {
            Kind::Local { path } => self.build_folder(name, path.clone()).map_err(invalid),
            Kind::Gcloud { credentials_file, .. } => {
                let builder = GoogleCloudStorageBuilder::new().with_bucket_name(name);
                let builder = builder.with_retry(no_retries()).with_http_connector(Connector);
                let builder = match credentials_file {
                    Some(file) => with_google_file(builder, file.clone(), options)?,
                    None => builder.with_client_options(options),
                };
                Ok(bucket(name, Arc::new(builder.build().map_err(invalid)?)))
            }
            Kind::Minio(minio) => {
                let scheme = if minio.secure { "https" } else { "http" };
                let builder = AmazonS3Builder::new()
                    .with_endpoint(format!("{scheme}://{}", minio.endpoint))
                    .with_region(&minio.region)
                    .with_credentials(Arc::new(AwsFiles::minio(minio)))
                    .with_client_options(options.with_allow_http(!minio.secure));
                Ok(bucket(name, Arc::new(s3(builder, name).build().map_err(invalid)?)))
            }
            Kind::S3 { region, credentials_file, .. } => {
                let builder = match credentials_file {
                    Some(file) => {
                        AmazonS3Builder::new().with_credentials(Arc::new(AwsFiles::shared(file.clone())))
                    }
                    None => AmazonS3Builder::from_env(),
                };
                let builder = s3(builder.with_region(region).with_client_options(options), name);
                Ok(bucket(name, Arc::new(builder.build().map_err(invalid)?)))
            }
        }
    }

    fn build_folder(&self, name: &str, path: PathBuf) -> object_store::Result<Bucket> {
        let objects = Arc::new(LocalFileSystem::new_with_prefix(&path)?.with_fsync(true));
        let folder = Folder::new(path, self.limits.part_size());
        let (parts, folder) = (Arc::new(folder.clone()), Some(folder));
        let (conditional, present) = (Arc::default(), Arc::default());
        Ok(Bucket { name: name.to_owned(), objects, parts, signer: None, folder, conditional, present })
    }
}

fn bucket<S: ObjectStore + MultipartStore + Signer>(name: &str, client: Arc<S>) -> Bucket {
    Bucket {
        name: name.to_owned(),
        objects: Arc::clone(&client) as Arc<dyn ObjectStore>,
        parts: Arc::clone(&client) as Arc<dyn MultipartStore>,
        signer: Some(client),
        folder: None,
        conditional: Arc::default(),
        present: Arc::default(),
    }
}

fn s3(builder: AmazonS3Builder, bucket: &str) -> AmazonS3Builder {
    builder.with_bucket_name(bucket).with_retry(no_retries()).with_http_connector(Connector)
}

/// With a file of credentials that is read again when it changes. Where the file names another address than Google's, that may be
/// without TLS.
fn with_google_file(
    builder: GoogleCloudStorageBuilder,
    file: PathBuf,
    options: ClientOptions,
) -> Result<GoogleCloudStorageBuilder, Error> {
    let base = GcpFile::base_url(&file).map_err(|problem| Error::Settings(problem.0))?;
    let credentials = Arc::new(GcpFile::new(file));
    let builder = match base {
        Some(url) => builder
            .with_client_options(options.with_allow_http(url.starts_with("http://")))
            .with_base_url(&url),
        None => builder.with_client_options(options),
    };
    let signing = Arc::new(GcpSigning(Arc::clone(&credentials)));
    Ok(builder.with_credentials(credentials).with_signing_credentials(signing))
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Whether the stores accept a bucket's name.
fn is_bucket(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (3..=63).contains(&name.len())
        && name.bytes().all(plain)
        && edge(name.bytes().next())
        && edge(name.bytes().next_back())
        && !name.contains("..")
}

async fn certificates(file: PathBuf) -> Result<Vec<Certificate>, Error> {
    let problem = |what: String| Error::Settings(format!("caFile: {}: {what}", file.display()));
    let meta = tokio::fs::metadata(&file).await.map_err(|error| problem(error.to_string()))?;
    if !meta.is_file() || meta.len() > CA_MAX {
        return Err(problem("is not a regular file of at most 4 MiB".to_owned()));
    }
    let pem = tokio::fs::read(&file).await.map_err(|error| problem(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(problem("holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}
