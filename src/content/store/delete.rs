//! Deletion. It lists a prefix, deletes what it lists, and lists again until nothing is left, so what it reports as deleted is
//! not there any more.

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use domain::names::OwnerId;

use super::error::Error;
use super::names::{BlobName, Key, ObjectName, Prefix, WorkspaceKeys};
use super::open::{Place, Store};

/// Objects of one listing.
const PAGE: usize = 5_000;
/// Listings that delete nothing new before giving up: some stores show deleted objects for a moment.
const STUCK: u32 = 5;

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Number of objects.
    pub objects: u64,
}

impl Store {
    /// Deletes one object; one that is not there is deleted.
    pub async fn delete(&self, key: &Key) -> Result<(), Error> {
        let Place { bucket, path, at } = self.place(key)?;
        match self.read(&at, 0, || bucket.objects.delete(&path)).await {
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    /// Deletes everything of an owner.
    pub async fn delete_owner(&self, owner: &OwnerId) -> Result<Deleted, Error> {
        let prefix = Prefix::of_owner(owner);
        let deleted = self.delete_where(&prefix, |_| true).await?;
        self.remove_folder(&prefix).await?;
        Ok(deleted)
    }

    /// Deletes a workspace: heads first, so that nothing names what is gone. Its snapshots stay unless they are included.
    pub async fn delete_workspace(&self, keys: &WorkspaceKeys, snapshots: bool) -> Result<Deleted, Error> {
        let mut deleted = self.delete_where(&keys.heads(), |_| true).await?;
        let is_snapshot = |key: &Key| matches!(key.object(), Some((_, ObjectName::Snapshot(_))));
        let rest = self.delete_where(&keys.all(), |key| snapshots || !key.is_some_and(is_snapshot)).await?;
        deleted.objects += rest.objects;
        if snapshots {
            self.remove_folder(&keys.all()).await?;
        }
        Ok(deleted)
    }

    /// Deletes all blobs below a folder; `a` does not mean `ab`.
    pub async fn delete_blobs(&self, owner: &OwnerId, folder: &BlobName) -> Result<Deleted, Error> {
        self.delete_where(&Prefix::blobs_below(owner, folder), |_| true).await
    }

    /// Deletes the objects below a prefix that `wanted` chooses. It gets no key for an object that Spaceport did not name.
    async fn delete_where(
        &self,
        prefix: &Prefix,
        wanted: impl Fn(Option<&Key>) -> bool,
    ) -> Result<Deleted, Error> {
        let place = self.prefix(prefix)?;
        let (mut deleted, mut stuck, mut before) = (Deleted::default(), 0, Vec::new());
        loop {
            let page = self.page(&place, prefix, &wanted).await?;
            if page.is_empty() {
                return Ok(deleted);
            }
            stuck = if page == before { stuck + 1 } else { 0 };
            if stuck >= STUCK {
                return Err(Error::NotDeleted { at: place.at, left: page.len() });
            }
            self.delete_all(&place, &page).await?;
            if stuck == 0 {
                deleted.objects += page.len() as u64;
            }
            before = page;
        }
    }

    /// Some objects below a prefix, at most [`PAGE`].
    async fn page(
        &self,
        place: &Place,
        prefix: &Prefix,
        wanted: &impl Fn(Option<&Key>) -> bool,
    ) -> Result<Vec<Path>, Error> {
        let owner = prefix.owner();
        // An empty path is a bucket that belongs to this owner alone.
        let below = (!place.path.is_root()).then_some(&place.path);
        let list = || async {
            let mut listing = place.bucket.objects.list(below);
            let mut page = Vec::new();
            while page.len() < PAGE
                && let Some(object) = listing.try_next().await?
            {
                if wanted(self.key_of(owner, &object.location).as_ref()) {
                    page.push(object.location);
                }
            }
            Ok(page)
        };
        self.list(&place.at, list).await
    }

    async fn delete_all(&self, place: &Place, page: &[Path]) -> Result<(), Error> {
        let delete = || async {
            let paths: Vec<_> = page.iter().cloned().map(Ok).collect();
            let mut results = place.bucket.objects.delete_stream(futures::stream::iter(paths).boxed());
            while let Some(result) = results.next().await {
                match result {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        self.retry.run(&place.at, 64 << 20, delete).await
    }

    /// In a folder: removes what no listing shows, the temporary files of killed writers and empty folders.
    async fn remove_folder(&self, prefix: &Prefix) -> Result<(), Error> {
        let place = self.prefix(prefix)?;
        let Some(folder) = &place.bucket.folder else { return Ok(()) };
        let removed = super::folder::remove(folder.below(&place.path)).await;
        removed.map_err(|error| Error::Folder { at: place.at, error })
    }
}
