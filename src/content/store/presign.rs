//! URLs that give access to one object for a time, without the store's credentials.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use object_store::ObjectStoreExt as _;
use object_store::signer::{SignedUrlOptions, Signer};

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
        self.presign_download(&self.place(key)?, None).await
    }

    /// As [`Store::presign_get`], for a blob. With a content type, the response has this one.
    pub async fn presign_blob(
        &self,
        owner: &OwnerId,
        name: &BlobName,
        content_type: Option<&str>,
    ) -> Result<Presigned, Error> {
        self.presign_download(&self.place(&Key::blob(owner, name))?, content_type).await
    }

    /// Whether there is an object.
    pub async fn exists(&self, key: &Key) -> Result<bool, Error> {
        let Place { bucket, path, at } = self.place(key)?;
        match self.read(&at, 0, || bucket.objects.head(&path)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
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
        signer(&place)?;
        self.ensure_own_bucket(&place.bucket, owner).await?;
        self.presign_upload(&place, content_type).await
    }

    pub(super) async fn presign_upload(
        &self,
        place: &Place,
        content_type: Option<&str>,
    ) -> Result<Presigned, Error> {
        let mut options = SignedUrlOptions::new();
        if let Some(value) = header(content_type)? {
            options = options.with_signed_header(HeaderName::from_static("content-type"), value);
        }
        self.presign(place, Method::PUT, &options).await
    }

    pub(super) async fn presign_download(
        &self,
        place: &Place,
        content_type: Option<&str>,
    ) -> Result<Presigned, Error> {
        let mut options = SignedUrlOptions::new();
        if let Some(value) = header(content_type)? {
            let text = value.to_str().unwrap_or_default().to_owned();
            options = options.with_query([("response-content-type", text)]);
        }
        signer(place)?;
        self.read(&place.at, 0, || place.bucket.objects.head(&place.path)).await?;
        self.presign(place, Method::GET, &options).await
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
        options: &SignedUrlOptions,
    ) -> Result<Presigned, Error> {
        let Place { path, at, .. } = place;
        let (signer, valid) = (signer(place)?, self.valid_for(&method));
        let sign = || signer.signed_url_opts(method.clone(), path, valid, options);
        let url = self.retry.run(at, 0, sign).await?;
        Ok(Presigned { url: Secret::new(url.into()), valid })
    }
}

fn signer(place: &Place) -> Result<&Arc<dyn Signer>, Error> {
    let lacks = || Error::Unsupported { at: place.at.clone(), what: "signed URLs".to_owned() };
    place.bucket.signer.as_ref().ok_or_else(lacks)
}

/// A content type as a header; none if it is empty.
fn header(content_type: Option<&str>) -> Result<Option<HeaderValue>, Error> {
    let Some(kind) = content_type.filter(|kind| !kind.is_empty()) else { return Ok(None) };
    let rule = "must be a header value of at most 128 visible characters";
    let plain = kind.len() <= 128 && kind.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let value = HeaderValue::from_str(kind).ok().filter(|_| plain);
    Ok(Some(value.ok_or_else(|| InvalidName::new("content type", rule, kind))?))
}
