//! The quota of an owner's blobs. Backups do not count.

use domain::names::OwnerId;
use futures::TryStreamExt as _;

use super::error::Error;
use super::names::Prefix;
use super::open::Store;

/// What the blobs of an owner take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobUsage {
    /// Number of blobs.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Blobs of one owner that are counted at most; an owner with more gets no URL for another one.
const COUNTED: u64 = 100_000;

impl Store {
    /// Counts the blobs of an owner, and stops once they take `enough` bytes.
    pub async fn blob_usage(&self, owner: &OwnerId, enough: u64) -> Result<BlobUsage, Error> {
        let place = self.prefix(&Prefix::blobs(owner))?;
        let count = || async {
            let mut listing = place.bucket.objects.list(Some(&place.path));
            let mut usage = BlobUsage::default();
            while let Some(blob) = listing.try_next().await? {
                usage = BlobUsage { count: usage.count + 1, bytes: usage.bytes.saturating_add(blob.size) };
                if usage.bytes >= enough || usage.count >= COUNTED {
                    break;
                }
            }
            Ok(usage)
        };
        self.list(&place.at, count).await
    }

    /// Fails if the blobs of an owner take the quota or more. As existing content services do, this is checked before an upload
    /// only, so concurrent uploads can exceed it.
    pub async fn check_blob_quota(&self, owner: &OwnerId, quota: u64) -> Result<(), Error> {
        let BlobUsage { count, bytes: used } = self.blob_usage(owner, quota).await?;
        if used >= quota {
            return Err(Error::Quota { owner: owner.to_string(), used, quota });
        }
        if count >= COUNTED {
            let at = self.prefix(&Prefix::blobs(owner))?.at;
            return Err(Error::TooMany { at, limit: usize::try_from(COUNTED).unwrap_or(usize::MAX) });
        }
        Ok(())
    }
}
