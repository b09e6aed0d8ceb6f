//! What all operations of a node need.

use std::collections::BTreeMap;

use async_trait::async_trait;
use content::initializer::one_time::OneTimeLogins;
use content::store::Store;
use domain::names::WorkspaceId;
use domain::secret::Secret;

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
    pub(super) secrets: std::sync::Arc<dyn Secrets>,
    pub(super) logins: OneTimeLogins,
    pub(super) disk: Disk,
}
