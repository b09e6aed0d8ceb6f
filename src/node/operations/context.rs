//! What all operations of a node need.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use content::initializer::one_time::OneTimeLogins;
use content::store::Store;
use domain::names::WorkspaceId;
use domain::secret::Secret;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

use super::folders;
use super::settings::Settings;
use crate::helper::Helper;
use crate::quota::Quota;
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
    pub(super) quota: Quota,
    pub(super) helper: Helper,
    pub(super) store: Store,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) logins: OneTimeLogins,
    pub(super) disk: Disk,
    /// Held by whoever empties the trash.
    pub(super) sweeping: Arc<Mutex<()>>,
    /// Ends the emptying of the trash with the agent.
    pub(super) is_ending: Arc<AtomicBool>,
}

impl Context {
    /// Begins to empty the trash, unless that is going on. What cannot be deleted is tried again by housekeeping.
    pub(super) fn sweep(&self) {
        if let Ok(guard) = Arc::clone(&self.sweeping).try_lock_owned() {
            drop(self.begin(guard));
        }
    }

    /// Empties the trash.
    pub(super) async fn swept(&self) {
        let guard = Arc::clone(&self.sweeping).lock_owned().await;
        // A panic was printed.
        let _ = self.begin(guard).await;
    }

    fn begin(&self, guard: OwnedMutexGuard<()>) -> JoinHandle<()> {
        let (layout, is_ending) = (self.disk.layout().clone(), Arc::clone(&self.is_ending));
        let (btrfs, runtime) = (self.quota.btrfs().clone(), Handle::current());
        tokio::task::spawn_blocking(move || {
            // One that holds others is emptied like a folder.
            let remove = |path: &Path| runtime.block_on(btrfs.delete(path)).is_ok();
            match folders::empty_trash(&layout, &is_ending, &remove) {
                Ok(0) => {}
                Ok(entries) => tracing::debug!(entries, "deleted discarded content"),
                Err(error) => tracing::warn!(%error, "discarded content cannot be deleted"),
            }
            drop(guard);
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }
}
