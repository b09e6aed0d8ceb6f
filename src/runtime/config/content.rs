//! `content`: storage of workspaces' content. The settings are kept unparsed, for the node agent.

use serde_json::Value;

use super::reader::Group;
use domain::secret::Secret;

/// `content`.
#[derive(Debug, Clone)]
pub struct Content {
    /// `content.storage`; `None` if content is stored only on nodes.
    pub storage: Option<Storage>,
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
}

pub(super) fn read(mut group: Group<'_>) -> Content {
    let mut storage = group.group("storage");
    let settings = storage.as_written();
    let kind = match storage.text("kind").as_deref() {
        None => None,
        Some("gcloud") => Some(StorageKind::Gcloud),
        Some("minio") => Some(StorageKind::Minio),
        Some("s3") => Some(StorageKind::S3),
        Some(other) => {
            storage.problem("kind", format_args!("{other:?} is not one of gcloud, minio, s3"));
            None
        }
    };
    if let Some(stage) = storage.text("stage")
        && !["prod", "prodcopy", "dev"].contains(&stage.as_str())
    {
        storage.problem("stage", format_args!("{stage:?} is not one of prod, prodcopy, dev"));
    }
    storage.count("blobQuota", 0..=u64::MAX);
    read_gcloud(storage.group("gcloud"), kind);
    read_minio(storage.group("minio"), kind);
    read_s3(storage.group("s3"), kind);
    Content { storage: kind.map(|kind| Storage { kind, settings: Secret::new(settings) }) }
}

fn read_gcloud(mut group: Group<'_>, kind: Option<StorageKind>) {
    let wanted = kind == Some(StorageKind::Gcloud);
    group.text("credentialsFile");
    for key in ["region", "projectId"] {
        needed(&mut group, key, wanted);
    }
}

fn read_minio(mut group: Group<'_>, kind: Option<StorageKind>) {
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
    group.count("parallelUpload", 0..=1024_u32);
    group.text("bucket");
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
