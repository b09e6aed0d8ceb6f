//! Downloads of a workspace's content and logs, by signed URLs.

use std::sync::Arc;

use content::store::{Choice, Key, Presigned, WorkspaceKeys};
use domain::names::WorkspaceId;

use super::objects::Objects;
use crate::{Error, Result};

/// Reads of stored content.
#[derive(Debug)]
pub struct StoredReads {
    objects: Arc<Objects>,
}

impl StoredReads {
    pub(crate) fn new(objects: Arc<Objects>) -> Arc<Self> {
        Arc::new(Self { objects })
    }

    /// A URL of the newest backup whose archive is proven, as it is stored.
    pub async fn download_url(&self, keys: &WorkspaceKeys) -> Result<Presigned> {
        // Boxed: the proof of an archive is a large future.
        let sign = Box::pin(async {
            let store = self.objects.store().await?;
            let key: Key = match store.newest_backup(keys).await? {
                Some(Choice::Head(head)) => head.archive().key().clone(),
                Some(Choice::FullTar { backup, .. }) => backup.key,
                None => {
                    return Err(Error::NoContent {
                        what: format!("workspace {} of owner {} has no backup", keys.id(), keys.owner()),
                    });
                }
            };
            Ok(store.presign_get(&key).await?)
        });
        self.objects.read("finding the newest backup", sign).await
    }

    /// Whether there is an object directly below the workspace, such as a snapshot.
    pub async fn snapshot_exists(&self, keys: &WorkspaceKeys, name: &str) -> Result<bool> {
        let key = keys.named(name).map_err(invalid("filename"))?;
        let exists = async { Ok(self.objects.store().await?.exists(&key).await?) };
        self.objects.read("looking for a snapshot", exists).await
    }

    /// The tasks of an instance that have a log.
    pub async fn logs(&self, keys: &WorkspaceKeys, instance: &WorkspaceId) -> Result<Vec<String>> {
        let list = async { Ok(self.objects.store().await?.list_logs(keys, instance).await?) };
        self.objects.read("listing logs", list).await
    }

    /// A URL of the log of a task.
    pub async fn log_url(
        &self,
        keys: &WorkspaceKeys,
        instance: &WorkspaceId,
        task: &str,
    ) -> Result<Presigned> {
        let key = keys.log(instance, task).map_err(invalid("task_id"))?;
        let sign = async { Ok(self.objects.store().await?.presign_get(&key).await?) };
        self.objects.read("signing the URL of a log", sign).await
    }
}

/// An invalid name as the error of a field.
pub(super) fn invalid(field: &'static str) -> impl FnOnce(content::store::names::InvalidName) -> Error {
    move |error| Error::Invalid { field: field.into(), rule: error.to_string() }
}
