//! `content`: storage of workspaces' content. The settings of the store are kept unparsed, for the node agent.

use std::time::Duration;

use serde_json::Value;

use super::reader::Group;
use domain::secret::Secret;

const MIB: u64 = 1024 * 1024;
/// Parts that one upload holds in memory, in bytes.
const UPLOAD_MEMORY: u64 = 64 * MIB;

/// `content`.
#[derive(Debug, Clone)]
pub struct Content {
    /// `content.storage`; `None` if content is stored only on nodes.
    pub storage: Option<Storage>,
    /// `content.format`: how backups are written.
    pub format: ContentFormat,
    /// `content.upload`: how large objects are uploaded.
    pub upload: ContentUpload,
    /// `content.pruning`: which superseded backups are deleted.
    pub pruning: ContentPruning,
}

/// How backups are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentFormat {
    /// `full.tar`, as existing node agents do.
    Tar,
    /// One archive and one head a backup.
    Zst,
}

/// How large objects are uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentUpload {
    /// Bytes of one part.
    pub part_size: u64,
    /// Parts in memory at a time.
    pub parallel: u64,
}

/// Which superseded backups are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentPruning {
    /// The newest backups of a workspace that stay, whatever their age.
    pub keep: u32,
    /// Age below which a superseded backup stays.
    pub age: Duration,
}

/// Object storage.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The service.
    pub kind: StorageKind,
    /// The unparsed group; it may contain access keys.
    pub settings: Secret<Value>,
}

/// Services for the storage of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageKind {
    /// Google Cloud Storage.
    Gcloud,
    /// MinIO.
    Minio,
    /// S3.
    S3,
    /// A folder of the node: for demos and tests, not for clusters.
    Local,
}

pub(super) fn read(mut group: Group<'_>) -> Content {
    let format = read_format(&mut group);
    let pruning = read_pruning(group.group("pruning"));
    let upload_group = group.group("upload");
    let mut storage = group.group("storage");
    let settings = storage.as_written();
    let kind = match storage.text("kind").as_deref() {
        None => None,
        Some("gcloud") => Some(StorageKind::Gcloud),
        Some("minio") => Some(StorageKind::Minio),
        Some("s3") => Some(StorageKind::S3),
        Some("local") => Some(StorageKind::Local),
        Some(other) => {
            storage.problem("kind", format_args!("{other:?} is not one of gcloud, minio, s3, local"));
            None
        }
    };
    if let Some(stage) = storage.text("stage")
        && !["prod", "prodcopy", "dev"].contains(&stage.as_str())
    {
        storage.problem("stage", format_args!("{stage:?} is not one of prod, prodcopy, dev"));
    }
    storage.count("blobQuota", 0..=u64::MAX);
    storage.text("caFile");
    storage.texts("pluginBuckets");
    read_gcloud(storage.group("gcloud"), kind);
    let parallel_upload = read_minio(storage.group("minio"), kind);
    read_s3(storage.group("s3"), kind);
    read_local(storage.group("local"), kind);
    let default = if kind == Some(StorageKind::Minio) { parallel_upload.unwrap_or(6) } else { 4 };
    let upload = read_upload(upload_group, default);
    let storage = kind.map(|kind| Storage { kind, settings: Secret::new(settings) });
    Content { storage, format, upload, pruning }
}

fn read_format(group: &mut Group<'_>) -> ContentFormat {
    match group.text("format").as_deref() {
        None | Some("zst") => ContentFormat::Zst,
        Some("tar") => ContentFormat::Tar,
        Some(other) => {
            group.problem("format", format_args!("{other:?} is not one of tar, zst"));
            ContentFormat::Zst
        }
    }
}

/// The default may be MinIO's older key, which may ask for more than fits: then as many as fit are used.
fn read_upload(mut group: Group<'_>, default: u64) -> ContentUpload {
    let part_size = group.count("partSize", 5 * MIB..=UPLOAD_MEMORY).unwrap_or(16 * MIB);
    let fits = UPLOAD_MEMORY / part_size;
    let parallel = group.count("parallel", 1..=12_u64);
    if parallel.is_some_and(|parallel| parallel > fits) {
        group.problem("parallel", "times partSize must be at most 67108864 bytes (64 MiB)");
    }
    ContentUpload { part_size, parallel: parallel.unwrap_or_else(|| default.clamp(1, fits)) }
}

fn read_pruning(mut group: Group<'_>) -> ContentPruning {
    let keep = group.count("keep", 1..=1000_u32).unwrap_or(3);
    let age = group.duration_or_zero("age").unwrap_or(Duration::from_hours(24));
    ContentPruning { keep, age }
}

fn read_local(mut group: Group<'_>, kind: Option<StorageKind>) {
    let path = if kind == Some(StorageKind::Local) {
        group.required("path", Group::text)
    } else {
        group.text("path")
    };
    if path.is_some_and(|path| !path.starts_with('/')) {
        group.problem("path", "must be absolute");
    }
}

fn read_gcloud(mut group: Group<'_>, kind: Option<StorageKind>) {
    let wanted = kind == Some(StorageKind::Gcloud);
    group.text("credentialsFile");
    for key in ["region", "projectId"] {
        needed(&mut group, key, wanted);
    }
}

fn read_minio(mut group: Group<'_>, kind: Option<StorageKind>) -> Option<u64> {
    let wanted = kind == Some(StorageKind::Minio);
    needed(&mut group, "endpoint", wanted);
    for (inline, file) in [("accessKey", "accessKeyFile"), ("secretKey", "secretKeyFile")] {
        match (group.text(inline), group.text(file)) {
            (None, None) if wanted => group.problem(inline, format_args!("is required, or {file}")),
            (Some(_), Some(_)) => group.problem(inline, format_args!("cannot be used together with {file}")),
            _ => {}
        }
    }
    group.flag("secure");
    group.text("region");
    group.text("bucket");
    group.count("parallelUpload", 0..=1024_u64)
}

fn read_s3(mut group: Group<'_>, kind: Option<StorageKind>) {
    let wanted = kind == Some(StorageKind::S3);
    for key in ["bucket", "region"] {
        needed(&mut group, key, wanted);
    }
    group.text("credentialsFile");
}

fn needed(group: &mut Group<'_>, key: &str, wanted: bool) {
    if wanted {
        group.required(key, Group::text);
    } else {
        group.text(key);
    }
}
