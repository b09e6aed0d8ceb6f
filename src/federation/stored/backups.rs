//! Lists what of a workspace can be restored.

use std::sync::Arc;

use content::store::WorkspaceKeys;
use content::store::catalog::{Entry, Listed, Page};
use domain::names::{MetaId, OwnerId, WorkspaceId};

use super::objects::Objects;
use crate::view::index::Index;
use crate::{Error, Result};

/// One entry, and how a start names its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The entry.
    pub listed: Listed,
    /// `OBJECT@BUCKET`; `None` if its head cannot be read.
    pub snapshot: Option<String>,
}

/// A page of backups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupPage {
    /// In the order of the catalog.
    pub backups: Vec<Backup>,
    /// Where the next page begins: a name for [`Backups::list`].
    pub next: Option<String>,
}

/// Lists backups.
#[derive(Debug)]
pub struct Backups {
    objects: Arc<Objects>,
    index: Arc<Index>,
}

impl Backups {
    pub(crate) fn new(objects: Arc<Objects>, index: Arc<Index>) -> Arc<Self> {
        Arc::new(Self { objects, index })
    }

    /// The workspace of an instance, by its record.
    pub fn workspace_of(&self, id: &WorkspaceId) -> Result<WorkspaceKeys> {
        let (record, _) = self.index.record_of(id).ok_or_else(|| Error::NoWorkspace(id.clone()))?;
        Ok(WorkspaceKeys::new(record.owner, record.meta))
    }

    /// The workspace of an owner, which need not have a record.
    pub fn workspace(owner: OwnerId, meta: MetaId) -> WorkspaceKeys {
        WorkspaceKeys::new(owner, meta)
    }

    /// At most `size` backups after `after`, the name of an entry.
    pub async fn list(&self, keys: &WorkspaceKeys, after: Option<&str>, size: usize) -> Result<BackupPage> {
        let after = after.map(|name| Entry::parse(name).ok_or_else(|| invalid_token(name))).transpose()?;
        let list = async {
            let store = self.objects.store().await?;
            let Page { listed, next } = store.catalog(keys, after.as_ref(), size).await?;
            let named = |listed: Listed| {
                let snapshot = listed.key.as_ref().map(|key| store.snapshot_name(key)).transpose()?;
                Ok::<_, Error>(Backup { listed, snapshot })
            };
            let backups = listed.into_iter().map(named).collect::<Result<_>>()?;
            Ok(BackupPage { backups, next: next.map(|entry| entry.name()) })
        };
        self.objects.read("listing the backups of a workspace", list).await
    }
}

fn invalid_token(name: &str) -> Error {
    let rule = format!("names no backup: {:?}", domain::names::quoted(name));
    Error::Invalid { field: "page_token".into(), rule }
}
