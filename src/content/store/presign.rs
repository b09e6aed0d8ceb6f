//! URLs that give access to one object for a time, without the store's credentials.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use object_store::ObjectStoreExt as _;
use object_store::signer::SignedUrlOptions;

use super::error::Error;
use super::names::{BlobName, InvalidName, Key};
use super::open::{Place, Store};
use super::settings::Kind;
use domain::names::OwnerId;
use domain::secret::Secret;

/// A signed URL. It is a secret: whoever has it has the object.
#[derive(Debug, Clone)]
pub struct Presigned {
    /// The URL.
    pub url: Secret<String>,
    /// How long it is valid.
    pub valid: Duration,
}

impl Store {
    /// A URL that downloads an object, which must exist.
    pub async fn presign_get(&self, key: &Key) -> Result<Presigned, Error> {
        let place = self.place(key)?;
        self.retry.run(&place.at, 0, || place.bucket.objects.head(&place.path)).await?;
        self.presign(&place, Method::GET, self.valid_for(&Method::GET), None).await
    }

    /// A URL that uploads a blob, unless the owner's blobs have used up the quota. With a content type, the upload must send the
    /// same one.
    pub async fn presign_put(
        &self,
        owner: &OwnerId,
        name: &BlobName,
        content_type: Option<&str>,
    ) -> Result<Presigned, Error> {
        if let Some(quota) = self.shared.settings.as_ref().and_then(|settings| settings.blob_quota) {
            self.check_blob_quota(owner, quota).await?;
        }
        let place = self.place(&Key::blob(owner, name))?;
        self.presign(&place, Method::PUT, self.valid_for(&Method::PUT), content_type).await
    }

    /// As existing content services do; for S3 the default of its SDK.
    fn valid_for(&self, method: &Method) -> Duration {
        let minutes = match self.shared.settings.as_ref().map(|settings| &settings.kind) {
            Some(Kind::Gcloud { .. }) if method == Method::GET => 60,
            Some(Kind::Gcloud { .. } | Kind::Minio(_)) => 30,
            _ => 15,
        };
        Duration::from_mins(minutes)
    }

    async fn presign(
        &self,
        place: &Place,
        method: Method,
        valid: Duration,
        content_type: Option<&str>,
    ) -> Result<Presigned, Error> {
        let Place { bucket, path, at } = place;
        let lacks = || Error::Unsupported { at: at.clone(), what: "signed URLs".to_owned() };
        let signer = bucket.signer.as_ref().ok_or_else(lacks)?;
        let mut options = SignedUrlOptions::new();
        if let Some(kind) = content_type.filter(|kind| !kind.is_empty()) {
            let rule = "must be a header value of at most 128 visible characters";
            let value = HeaderValue::from_str(kind).ok().filter(|value| value.len() <= 128);
            let value = value.ok_or_else(|| InvalidName::new("content type", rule, kind))?;
            options = options.with_signed_header(HeaderName::from_static("content-type"), value);
        }
        let sign = || signer.signed_url_opts(method.clone(), path, valid, &options);
        let url = self.retry.run(at, 0, sign).await?;
        Ok(Presigned { url: Secret::new(url.into()), valid })
    }
}
