//! The disk guard: watches the free space of the file system with the content, and lets kept folders go before the node is full.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::readiness::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::metrics::Meters;
use crate::config::MinFree;
use crate::operations::Operations;

/// Between checks.
const LOOK: Duration = Duration::from_secs(15);
/// Name of the part that readiness shows.
const PART: &str = "disk";

/// Guards one file system.
pub struct DiskGuard {
    /// A folder of it.
    pub path: PathBuf,
    /// What has to be free; `None`: nothing.
    pub min_free: Option<MinFree>,
    /// Deletes kept folders.
    pub operations: Operations,
    /// Shows free space.
    pub meters: Meters,
    /// Shows that the node is full.
    pub readiness: Readiness,
    /// Whether it is.
    pub is_full: watch::Sender<bool>,
}

/// Space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    size: u64,
    free: u64,
}

impl DiskGuard {
    /// Runs until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        loop {
            // Not interrupted: deleting goes on in the background otherwise.
            self.look().await;
            if shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return Ok(());
            }
        }
    }

    async fn look(&self) {
        let mut space = match space_of(&self.path).await {
            Ok(space) => space,
            Err(error) => {
                error!(%error, path = %self.path.display(), "failed to read the free space");
                self.readiness.degrade(
                    PART,
                    format!("the free space of {} cannot be read: {error}", self.path.display()),
                );
                return;
            }
        };
        let wanted = self.min_free.map_or(0, |min| min.bytes(space.size));
        if space.free < wanted {
            space.free = self.make_room(wanted, space.free).await;
        }
        let is_full = space.free < wanted;
        self.meters.free.set(i64::try_from(space.free).unwrap_or(i64::MAX));
        self.meters.full.set(i64::from(is_full));
        let has_changed =
            self.is_full.send_if_modified(|before| std::mem::replace(before, is_full) != is_full);
        if is_full {
            let free = space.free;
            self.readiness.degrade(PART, format!("{free} bytes are free, and {wanted} are needed"));
            if has_changed {
                warn!(free, wanted, "the disk is almost full: the node takes no new workspaces");
            }
        } else {
            self.readiness.recover(PART);
            if has_changed {
                info!(free = space.free, wanted, "the disk has space again");
            }
        }
    }

    /// Deletes kept folders. Returns what is free then.
    async fn make_room(&self, wanted: u64, free: u64) -> u64 {
        match self.operations.free(wanted).await {
            Ok(freed) => {
                if freed.folders > 0 {
                    info!(
                        folders = freed.folders,
                        free = freed.available,
                        "kept folders were deleted for space"
                    );
                    self.meters.removed.with_label_values(&["space"]).inc_by(freed.folders);
                }
                freed.available
            }
            Err(error) => {
                error!(%error, "failed to delete kept folders");
                free
            }
        }
    }
}

async fn space_of(path: &Path) -> io::Result<Space> {
    let path = path.to_owned();
    let read = move || {
        let found = rustix::fs::statvfs(&path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        // As users of the node see it: without what is reserved for root.
        Ok(Space { size: bytes(found.f_blocks), free: bytes(found.f_bavail) })
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}
