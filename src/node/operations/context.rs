//! What all operations of a node need.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use content::initializer::one_time::OneTimeLogins;
use content::store::Store;
use domain::names::WorkspaceId;
use domain::secret::Secret;
use tokio::sync::Mutex;

use super::folders;
use super::settings::Settings;
use crate::helper::Helper;
use crate::state::Disk;

/// Reads the Secrets of workspaces.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The Secret `<id>-tokens` of an instance in this namespace; empty if there is none. An error is one sentence.
    async fn tokens(
        &self,
        namespace: &str,
        instance: &WorkspaceId,
    ) -> Result<BTreeMap<String, Secret<String>>, String>;
}

/// What all operations of a node need.
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) helper: Helper,
    pub(super) store: Store,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) logins: OneTimeLogins,
    pub(super) disk: Disk,
    /// Held by whoever empties the trash.
    pub(super) sweeping: Arc<Mutex<()>>,
}

impl Context {
    /// Empties the trash, unless somebody does so already. What cannot be deleted stays there, and is tried again by housekeeping.
    pub(super) async fn sweep(&self) {
        let Ok(guard) = Arc::clone(&self.sweeping).try_lock_owned() else { return };
        let layout = self.disk.layout().clone();
        let sweep = move || {
            let swept = folders::empty_trash(&layout);
            drop(guard);
            swept
        };
        match tokio::task::spawn_blocking(sweep).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(entries)) => tracing::debug!(entries, "deleted discarded content"),
            Ok(Err(error)) => tracing::warn!(%error, "discarded content cannot be deleted"),
        }
    }
}
