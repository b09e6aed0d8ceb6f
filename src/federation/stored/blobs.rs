//! Blobs of users, and IDE plug-ins.

use std::sync::Arc;

use content::store::{BlobName, Key, Presigned};
use domain::names::OwnerId;

use super::objects::Objects;
use super::reads::invalid;
use crate::{Error, Result};

/// Which blobs to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobSelection {
    /// This one.
    Exact(String),
    /// This one and all below it; with a slash at the end only those below it. `a` does not mean `ab`.
    Below(String),
}

/// Blobs of users.
#[derive(Debug)]
pub struct Blobs {
    objects: Arc<Objects>,
}

impl Blobs {
    pub(crate) fn new(objects: Arc<Objects>) -> Arc<Self> {
        Arc::new(Self { objects })
    }

    /// A URL that uploads a blob with this content type, unless the owner's blobs use up the quota.
    pub async fn upload_url(&self, owner: &OwnerId, name: &str, content_type: &str) -> Result<Presigned> {
        let name = named("name", name)?;
        let sign =
            async { Ok(self.objects.store().await?.presign_put(owner, &name, Some(content_type)).await?) };
        self.objects.read("signing the URL of an upload", sign).await
    }

    /// A URL that downloads a blob, with this content type if it is not empty.
    pub async fn download_url(&self, owner: &OwnerId, name: &str, content_type: &str) -> Result<Presigned> {
        let name = named("name", name)?;
        let sign =
            async { Ok(self.objects.store().await?.presign_blob(owner, &name, Some(content_type)).await?) };
        self.objects.read("signing the URL of a download", sign).await
    }

    /// Deletes blobs; those that are not there are deleted.
    pub async fn delete(&self, owner: &OwnerId, selection: &BlobSelection) -> Result<()> {
        let (name, itself, below) = match selection {
            BlobSelection::Exact(name) => (named("exact", name)?, true, false),
            BlobSelection::Below(prefix) => {
                let name = prefix.strip_suffix('/');
                (named("prefix", name.unwrap_or(prefix))?, name.is_none(), true)
            }
        };
        let delete = async {
            let store = self.objects.store().await?;
            if itself {
                store.delete(&Key::blob(owner, &name)).await?;
            }
            if below {
                store.delete_blobs(owner, &name).await?;
            }
            Ok(())
        };
        self.objects.delete("deleting blobs", delete).await
    }

    /// A URL that uploads a plug-in.
    pub async fn plugin_upload_url(&self, bucket: &str, name: &str) -> Result<Presigned> {
        let name = named("name", name)?;
        let sign =
            async { self.objects.store().await?.presign_plugin_put(bucket, &name).await.map_err(of_bucket) };
        self.objects.read("signing the URL of an upload", sign).await
    }

    /// A URL that downloads a plug-in.
    pub async fn plugin_download_url(&self, bucket: &str, name: &str) -> Result<Presigned> {
        let name = named("name", name)?;
        let sign =
            async { self.objects.store().await?.presign_plugin_get(bucket, &name).await.map_err(of_bucket) };
        self.objects.read("signing the URL of a download", sign).await
    }

    /// The hash of a plug-in, as the store has it.
    pub async fn plugin_hash(&self, bucket: &str, name: &str) -> Result<String> {
        let name = named("name", name)?;
        let read = async { self.objects.store().await?.plugin_hash(bucket, &name).await.map_err(of_bucket) };
        self.objects.read("reading the hash of a plug-in", read).await
    }
}

fn named(field: &'static str, name: &str) -> Result<BlobName> {
    name.parse().map_err(invalid(field))
}

/// The name of the object is valid, so it is the bucket that is not.
fn of_bucket(error: content::store::Error) -> Error {
    match error {
        content::store::Error::Name(error) => invalid("bucket")(error),
        error => error.into(),
    }
}
