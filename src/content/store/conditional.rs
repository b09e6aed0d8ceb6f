//! Creates that fail if the object exists: what elects the newest backup. Some stores ignore the condition.

use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutPayload};

use domain::names::OwnerId;

use super::error::{At, Error};
use super::open::{Bucket, Store};

/// Where the check writes: no owner's name begins with a dot.
const FOLDER: &str = ".spaceport/conditional-create";

/// What a conditional create came to.
pub(super) enum Created {
    /// The object has this content: created now, or by an earlier attempt whose answer was lost.
    Ours,
    /// The object was there, with this content.
    Theirs(Vec<u8>),
}

impl Store {
    /// Proves on the bucket of an owner that a second create of an object fails. The result is kept for the life of the store.
    pub async fn check_conditional_create(&self, owner: &OwnerId) -> Result<(), Error> {
        let bucket = self.bucket_named(&self.bucket_name(owner)?)?;
        bucket.conditional.get_or_try_init(|| self.try_conditional_create(&bucket)).await.copied()
    }

    async fn try_conditional_create(&self, bucket: &Bucket) -> Result<(), Error> {
        let name = format!("{FOLDER}/{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let at = self.at(&bucket.name, &name);
        let path = Path::parse(&name).map_err(|error| Error::Settings(error.to_string()))?;
        let first = self.create(bucket, &path, &at, b"first").await?;
        let second = self.create(bucket, &path, &at, b"second").await;
        // The name is random: an object that is left behind hinders nobody.
        if let Err(error) = self.retry.run(&at, 0, || bucket.objects.delete(&path)).await {
            tracing::warn!(%error, "cannot delete the object of the check for conditional creates");
        }
        match (first, second?) {
            (Created::Ours, Created::Theirs(content)) if content == b"first" => Ok(()),
            _ => Err(Error::Unconditional(at)),
        }
    }

    /// Creates an object only if it is not there. If an answer was lost, the next attempt finds the object: then its content
    /// decides.
    pub(super) async fn create(
        &self,
        bucket: &Bucket,
        path: &Path,
        at: &At,
        content: &'static [u8],
    ) -> Result<Created, Error> {
        self.create_bytes(bucket, path, at, content.to_vec()).await
    }

    pub(super) async fn create_bytes(
        &self,
        bucket: &Bucket,
        path: &Path,
        at: &At,
        content: Vec<u8>,
    ) -> Result<Created, Error> {
        let payload = PutPayload::from(content.clone());
        let put = || bucket.objects.put_opts(path, payload.clone(), PutMode::Create.into());
        for _ in 0..self.retry.attempts.max(1) {
            match self.retry.run(at, 0, put).await {
                Ok(_) => return Ok(Created::Ours),
                Err(Error::Exists(_)) => {}
                Err(error) => return Err(error),
            }
            let read = || async { bucket.objects.get(path).await?.bytes().await };
            match self.retry.run(at, 0, read).await {
                Ok(found) if found == content => return Ok(Created::Ours),
                Ok(found) => return Ok(Created::Theirs(found.to_vec())),
                // Two creates at once: S3 may reject both with 409, and neither object is there.
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unavailable {
            at: at.clone(),
            why: "the object neither exists nor can be created".to_owned(),
        })
    }
}
