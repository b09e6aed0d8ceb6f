//! One agent of a node at a time: two would act on the same folders. The kernel ends the lock with the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tracing::warn;

/// Between tries.
const RETRY: Duration = Duration::from_secs(1);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock {}: {error}; is node.workspaceHostPath a folder of the node that root may write?", path.display())]
pub struct Unlockable {
    path: PathBuf,
    error: io::Error,
}

/// A held lock.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no other agent of this node runs. The folder is created where it does not exist.
    pub async fn take(host_path: &Path) -> Result<Self, Unlockable> {
        let folder = host_path.join(".spaceport");
        let path = folder.join("lock");
        let fails = |error| Unlockable { path: path.clone(), error };
        let file = open(&folder, &path).map_err(fails)?;
        let mut is_told = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(error) if error == rustix::io::Errno::WOULDBLOCK => {}
                Err(error) => return Err(fails(error.into())),
            }
            if !std::mem::replace(&mut is_told, true) {
                warn!(lock = %path.display(), "another agent of this node runs; waiting for its end");
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn open(folder: &Path, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(host_path) = folder.parent() {
        std::fs::create_dir_all(host_path)?;
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_agent_waits_for_the_end_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).await.unwrap();
        let second = Lock::take(folder.path());
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err());
        drop(first);
        second.await.unwrap();
    }
}
