//! Deletes stored content, but not that of live workspaces.
//!
//! A live workspace is backed up when it stops: what was deleted under it would come back in part, or its backup would be
//! deleted after it was proven, and the node would then remove the last copy. So etcd is asked before, and after: a workspace that
//! was started meanwhile is an error, and the caller stops it and repeats the call.

use std::sync::Arc;

use content::store::WorkspaceKeys;
use domain::names::{OwnerId, WorkspaceId};
use store::Store;

use super::objects::Objects;
use crate::{Error, Result};

/// Deletions of stored content.
#[derive(Debug)]
pub struct Deletion {
    objects: Arc<Objects>,
    records: Store,
}

impl Deletion {
    pub(crate) fn new(objects: Arc<Objects>, records: Store) -> Arc<Self> {
        Arc::new(Self { objects, records })
    }

    /// Deletes what is stored of a workspace: heads, archives, `full.tar`, and the objects of its instances; snapshots if they are
    /// included.
    pub async fn workspace(&self, keys: &WorkspaceKeys, snapshots: bool) -> Result<()> {
        let delete = async {
            let store = self.objects.store().await?;
            let live = || self.records.live_of_meta(keys.owner(), keys.id());
            check(live().await?.as_slice(), false)?;
            let deleted = store.delete_workspace(keys, snapshots).await?;
            check(live().await?.as_slice(), true)?;
            Ok(deleted.objects)
        };
        let objects = self.objects.delete("deleting a workspace's content", delete).await?;
        let (owner, workspace) = (keys.owner(), keys.id());
        tracing::info!(%owner, %workspace, snapshots, objects, "deleted the content of a workspace");
        Ok(())
    }

    /// Deletes everything that is stored of an owner: workspaces with their snapshots, and blobs.
    pub async fn owner(&self, owner: &OwnerId) -> Result<()> {
        let delete = async {
            let store = self.objects.store().await?;
            check(&self.records.live_of_owner(owner).await?, false)?;
            let deleted = store.delete_owner(owner).await?;
            check(&self.records.live_of_owner(owner).await?, true)?;
            Ok(deleted.objects)
        };
        let objects = self.objects.delete("deleting an owner's content", delete).await?;
        tracing::info!(%owner, objects, "deleted the content of an owner");
        Ok(())
    }
}

/// Fails if a workspace is live; `begun` says whether content was deleted already.
fn check(live: &[WorkspaceId], begun: bool) -> Result<()> {
    if live.is_empty() {
        return Ok(());
    }
    Err(Error::ContentInUse { workspaces: live.to_vec(), begun })
}
