//! IDE plug-ins: objects that belong to no owner, in buckets of their own that the configuration lists.

use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::error::Error;
use super::names::{BlobName, InvalidName};
use super::open::{Place, Store};
use super::presign::Presigned;

const BUCKET_RULE: &str =
    "must be one of content.storage.pluginBuckets, and not a bucket that holds content of owners";

impl Store {
    /// A URL that uploads a plug-in.
    pub async fn presign_plugin_put(&self, bucket: &str, name: &BlobName) -> Result<Presigned, Error> {
        self.presign_upload(&self.plugin(bucket, name)?, None).await
    }

    /// A URL that downloads a plug-in, which must exist.
    pub async fn presign_plugin_get(&self, bucket: &str, name: &BlobName) -> Result<Presigned, Error> {
        self.presign_download(&self.plugin(bucket, name)?, None).await
    }

    /// The ETag of a plug-in without its quotes: the MD5 digest, where the store computes that.
    pub async fn plugin_hash(&self, bucket: &str, name: &BlobName) -> Result<String, Error> {
        let Place { bucket, path, at } = self.plugin(bucket, name)?;
        let meta = self.retry.run(&at, 0, || bucket.objects.head(&path)).await?;
        let tag = meta.e_tag.ok_or_else(|| Error::Unsupported { at, what: "ETags".to_owned() })?;
        Ok(tag.trim_start_matches("W/").trim_matches('"').to_owned())
    }

    /// Only listed buckets: otherwise a caller who names a bucket would get URLs for anything that the store's credentials can
    /// read.
    fn plugin(&self, bucket: &str, name: &BlobName) -> Result<Place, Error> {
        let settings = self.shared.settings.as_ref();
        let listed = settings.is_some_and(|settings| settings.plugin_buckets.iter().any(|one| one == bucket));
        if !listed || self.is_of_owners(bucket) || settings.is_some_and(|s| s.folder().is_some()) {
            return Err(InvalidName::new("bucket of plug-ins", BUCKET_RULE, bucket).into());
        }
        let at = self.at(bucket, name.as_str());
        let path = Path::parse(name.as_str())
            .map_err(|_| InvalidName::new("plug-in name", "must be a valid path", name.as_str()))?;
        Ok(Place { bucket: self.bucket_named(bucket)?, path, at })
    }
}
