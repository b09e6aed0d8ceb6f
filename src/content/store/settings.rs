//! Settings of a store: the group `content.storage` of the configuration, which `runtime::config` has validated.

use std::path::{Path, PathBuf};

use domain::secret::Secret;
use serde::Deserialize;
use serde_json::Value;

use super::error::Error;

const MIB: u64 = 1024 * 1024;
/// Bytes of the parts that one upload holds in memory.
const UPLOAD_MEMORY: u64 = 64 * MIB;
/// Bytes of an owner's blobs where `blobQuota` is absent.
const BLOB_QUOTA: u64 = 5 * 1024 * MIB;
/// The stores' minimum of all parts but the last.
const PART_MIN: u64 = 5 * MIB;

/// Part size and parallelism of an upload, which bound its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    part_size: u64,
    parallel: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { part_size: 16 * MIB, parallel: 4 }
    }
}

impl UploadLimits {
    /// Parts of at least 5 MiB; all parts in memory are at most 64 MiB.
    pub fn new(part_size: u64, parallel: u64) -> Result<Self, Error> {
        let memory = part_size.saturating_mul(parallel);
        if part_size < PART_MIN || parallel == 0 || memory > UPLOAD_MEMORY {
            let rule = "parts must have at least 5 MiB, and parts times parallelism at most 64 MiB";
            return Err(Error::Settings(rule.to_owned()));
        }
        Ok(Self { part_size, parallel })
    }

    /// Bytes of one part.
    pub const fn part_size(&self) -> u64 {
        self.part_size
    }

    /// Parts in memory at a time.
    pub const fn parallel(&self) -> u64 {
        self.parallel
    }
}

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) kind: Kind,
    pub(super) ca_file: Option<PathBuf>,
    /// Bytes of an owner's blobs; `None`: no quota.
    pub blob_quota: Option<u64>,
    /// Buckets of IDE plug-ins.
    pub(super) plugin_buckets: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Gcloud { stage: String, credentials_file: Option<PathBuf>, region: String, project: String },
    Minio(Minio),
    S3 { bucket: String, region: String, credentials_file: Option<PathBuf> },
    Local { path: PathBuf },
}

#[derive(Debug, Clone)]
pub(super) struct Minio {
    pub(super) endpoint: String,
    pub(super) access_key: KeySource,
    pub(super) secret_key: KeySource,
    pub(super) secure: bool,
    pub(super) region: String,
    pub(super) bucket: Option<String>,
}

/// A key: written in the configuration, or in a file that may be rotated.
#[derive(Debug, Clone)]
pub(super) enum KeySource {
    Inline(Secret<String>),
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    kind: String,
    #[serde(default)]
    stage: String,
    blob_quota: Option<u64>,
    #[serde(default)]
    plugin_buckets: Vec<String>,
    #[serde(default)]
    ca_file: String,
    #[serde(default)]
    gcloud: Option<RawKind>,
    #[serde(default)]
    minio: Option<RawKind>,
    #[serde(default)]
    s3: Option<RawKind>,
    #[serde(default)]
    local: Option<RawKind>,
}

/// The keys of all kinds. An empty text counts as absent, because generated files write every key.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawKind {
    credentials_file: String,
    region: String,
    project_id: String,
    endpoint: String,
    access_key: String,
    access_key_file: String,
    secret_key: String,
    secret_key_file: String,
    secure: bool,
    bucket: String,
    path: String,
}

impl Settings {
    /// Reads the group `content.storage`. An error never quotes a value: it may be a key.
    pub fn read(storage: &Secret<Value>) -> Result<Self, Error> {
        let malformed = |_| Error::Settings("does not have the documented form".to_owned());
        let raw = Raw::deserialize(without_nulls(storage.expose())).map_err(malformed)?;
        let kind = match raw.kind.as_str() {
            "gcloud" => gcloud(raw.gcloud.unwrap_or_default(), raw.stage)?,
            "minio" => minio(raw.minio.unwrap_or_default())?,
            "s3" => s3(raw.s3.unwrap_or_default())?,
            "local" => {
                Kind::Local { path: required("local.path", raw.local.unwrap_or_default().path)?.into() }
            }
            _ => return Err(Error::Settings("kind: is not one of gcloud, minio, s3, local".to_owned())),
        };
        let blob_quota = Some(raw.blob_quota.unwrap_or(BLOB_QUOTA)).filter(|quota| *quota > 0);
        let buckets = raw.plugin_buckets.into_iter().map(|bucket| plain("pluginBuckets", bucket));
        let plugin_buckets = buckets.collect::<Result<_, _>>()?;
        Ok(Self { kind, ca_file: path(raw.ca_file), blob_quota, plugin_buckets })
    }

    /// A store in a folder.
    pub fn local(path: impl Into<PathBuf>) -> Self {
        let kind = Kind::Local { path: path.into() };
        Self { kind, ca_file: None, blob_quota: None, plugin_buckets: Vec::new() }
    }

    /// The folder, if the store is one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Local { path } => Some(path),
            _ => None,
        }
    }
}

/// Without keys that have no value: in YAML they count as absent.
fn without_nulls(value: &Value) -> Value {
    let Value::Object(keys) = value else { return value.clone() };
    let kept = keys.iter().filter(|(_, value)| !value.is_null());
    Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
}

fn gcloud(raw: RawKind, stage: String) -> Result<Kind, Error> {
    Ok(Kind::Gcloud {
        stage: plain("stage", stage)?,
        credentials_file: path(raw.credentials_file),
        region: plain("gcloud.region", raw.region)?,
        project: plain("gcloud.projectId", raw.project_id)?,
    })
}

fn minio(raw: RawKind) -> Result<Kind, Error> {
    let endpoint = required("minio.endpoint", raw.endpoint)?;
    if endpoint.contains('@') || endpoint.parse::<http::uri::Authority>().is_err() {
        return Err(Error::Settings(
            "minio.endpoint: must be HOST or HOST:PORT, without a scheme".to_owned(),
        ));
    }
    let region = text(raw.region).unwrap_or_else(|| "us-east-1".to_owned());
    Ok(Kind::Minio(Minio {
        endpoint,
        access_key: key("minio.accessKey", raw.access_key, raw.access_key_file)?,
        secret_key: key("minio.secretKey", raw.secret_key, raw.secret_key_file)?,
        secure: raw.secure,
        region: plain("minio.region", region)?,
        bucket: text(raw.bucket).map(|bucket| plain("minio.bucket", bucket)).transpose()?,
    }))
}

fn s3(raw: RawKind) -> Result<Kind, Error> {
    Ok(Kind::S3 {
        bucket: plain("s3.bucket", raw.bucket)?,
        region: plain("s3.region", raw.region)?,
        credentials_file: path(raw.credentials_file),
    })
}

fn key(name: &str, inline: String, file: String) -> Result<KeySource, Error> {
    match (text(inline), path(file)) {
        (Some(inline), None) => Ok(KeySource::Inline(Secret::new(inline))),
        (None, Some(file)) => Ok(KeySource::File(file)),
        _ => Err(Error::Settings(format!("{name}: is required, or {name}File, and not both"))),
    }
}

fn required(name: &str, value: String) -> Result<String, Error> {
    text(value).ok_or_else(|| Error::Settings(format!("{name}: is required")))
}

/// A name that is a part of URLs and headers: with other characters the client library would panic.
fn plain(name: &str, value: String) -> Result<String, Error> {
    let value = required(name, value)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if value.len() <= 255 && value.bytes().all(plain) && !value.contains("..") {
        return Ok(value);
    }
    Err(Error::Settings(format!("{name}: must be letters, digits, dots, dashes and underscores")))
}

fn text(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

fn path(value: String) -> Option<PathBuf> {
    text(value).map(PathBuf::from)
}
