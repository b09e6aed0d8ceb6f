//! What keeps a workspace to the storage of its class, by the backend that the configuration names. None falls back to another.

mod btrfs;
mod usage;

use std::fmt;
use std::path::Path;

use domain::names::WorkspaceId;

pub use btrfs::{Btrfs, Counted, is_subvolume, is_subvolume_root};
pub use usage::Usage;

use crate::state::Layout;

/// How storage is limited on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// It is not.
    #[default]
    None,
    /// The file system refuses writes over the limit.
    BtrfsQgroup,
    /// What is used is measured and reported; writes are not stopped.
    Measured,
}

impl Backend {
    /// All that a configuration may name.
    pub const NAMED: [Self; 2] = [Self::BtrfsQgroup, Self::Measured];

    /// As the configuration and the label of the node name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BtrfsQgroup => "btrfs-qgroup",
            Self::Measured => "measured",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The limits of one node.
#[derive(Debug, Clone)]
pub struct Quota {
    backend: Backend,
    btrfs: Btrfs,
}

impl Quota {
    /// By a backend.
    pub fn new(backend: Backend) -> Self {
        Self { backend, btrfs: Btrfs::default() }
    }

    /// The backend.
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Programs of btrfs, for folders that an earlier configuration made.
    pub const fn btrfs(&self) -> &Btrfs {
        &self.btrfs
    }

    /// Whether the backend works in a folder. An error is one sentence that says what to do.
    pub async fn check(&self, root: &Path) -> Result<(), String> {
        match self.backend {
            Backend::None | Backend::Measured => Ok(()),
            Backend::BtrfsQgroup => self.btrfs.check(root).await,
        }
    }

    /// Limits the content of an instance; `None` lifts the limit.
    pub async fn limit(
        &self,
        layout: &Layout,
        instance: &WorkspaceId,
        bytes: Option<u64>,
    ) -> Result<(), String> {
        let volume = layout.volume(instance);
        if self.backend != Backend::BtrfsQgroup || !is_there(&volume).await {
            return Ok(());
        }
        self.btrfs.limit(&volume, bytes).await
    }

    /// What the file system counts for an instance. `None`: it counts nothing, so somebody has to measure.
    pub async fn counted(&self, layout: &Layout, instance: &WorkspaceId) -> Result<Option<Counted>, String> {
        let volume = layout.volume(instance);
        if self.backend != Backend::BtrfsQgroup || !is_there(&volume).await {
            return Ok(None);
        }
        self.btrfs.counted(&volume).await
    }

    /// Removes what counted content that is deleted.
    pub async fn sweep(&self, layout: &Layout) -> Result<(), String> {
        match self.backend {
            Backend::None | Backend::Measured => Ok(()),
            Backend::BtrfsQgroup => self.btrfs.sweep(layout.root()).await,
        }
    }
}

async fn is_there(path: &Path) -> bool {
    tokio::fs::symlink_metadata(path).await.is_ok()
}
