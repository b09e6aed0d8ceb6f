//! Where the agent keeps what, below `workspaceHostPath`. Every name is a validated id, so no path leaves its folder.

use std::path::{Path, PathBuf};

use domain::names::{MetaId, OwnerId, WorkspaceId};

use super::error::Error;

/// Paths of one node.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below `workspaceHostPath`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `workspaceHostPath`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// An instance whose folder is its own: `<id>-daemon` belongs to the instance `<id>`.
    pub fn instance(name: &str) -> Result<WorkspaceId, Error> {
        let id: WorkspaceId = name.parse().map_err(|_| Error::Instance(name.to_owned()))?;
        if name.ends_with(WorkspaceId::DAEMON_SUFFIX) {
            Err(Error::Instance(name.to_owned()))
        } else {
            Ok(id)
        }
    }

    /// The content of an instance.
    pub fn content(&self, instance: &WorkspaceId) -> PathBuf {
        self.root.join(instance.as_str())
    }

    /// The agent's own folder.
    pub fn own(&self) -> PathBuf {
        self.root.join(".spaceport")
    }

    /// The state files.
    pub fn states(&self) -> PathBuf {
        self.own().join("state")
    }

    /// The state file of an instance.
    pub fn state(&self, instance: &WorkspaceId) -> PathBuf {
        self.states().join(format!("{instance}.json"))
    }

    /// The tree state of unchanged content of an instance.
    pub fn tree(&self, instance: &WorkspaceId) -> PathBuf {
        self.states().join(format!("{instance}.tree"))
    }

    /// The tree state that a backup of an instance is writing.
    pub fn new_tree(&self, instance: &WorkspaceId) -> PathBuf {
        self.states().join(format!("{instance}.tree.new"))
    }

    /// The journal of the upload of an instance's backup.
    pub fn journal(&self, instance: &WorkspaceId) -> PathBuf {
        self.states().join(format!("{instance}.upload"))
    }

    /// The records of snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.states().join("snapshots")
    }

    /// The folder of a workspace that stayed after its proven backup.
    pub fn kept(&self, owner: &OwnerId, workspace: &MetaId) -> PathBuf {
        self.all_kept().join(owner.as_str()).join(workspace.as_str())
    }

    /// All kept folders, by owner.
    pub fn all_kept(&self) -> PathBuf {
        self.own().join("kept")
    }

    /// Record of a kept folder.
    pub fn kept_record(&self, owner: &OwnerId, workspace: &MetaId) -> PathBuf {
        self.kept_records().join(owner.as_str()).join(format!("{workspace}.json"))
    }

    /// Tree state of a kept folder.
    pub fn kept_tree(&self, owner: &OwnerId, workspace: &MetaId) -> PathBuf {
        self.kept_records().join(owner.as_str()).join(format!("{workspace}.tree"))
    }

    /// Records of kept folders, by owner.
    pub fn kept_records(&self) -> PathBuf {
        self.states().join("kept")
    }

    /// Subvolumes of instances, where the file system limits their storage. Each is mounted over the content of its instance.
    pub fn volumes(&self) -> PathBuf {
        self.own().join("volumes")
    }

    /// The subvolume of an instance.
    pub fn volume(&self, instance: &WorkspaceId) -> PathBuf {
        self.volumes().join(instance.as_str())
    }

    /// What is being deleted.
    pub fn trash(&self) -> PathBuf {
        self.own().join("trash")
    }

    /// Content that was found without a state file, or with that of another resource. It is never deleted by the agent.
    pub fn aside(&self) -> PathBuf {
        self.own().join("aside")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_without_the_suffix_of_the_agents_folder_are_instances() {
        assert!(Layout::instance("ws-1").is_ok());
        for bad in ["", ".", "..", "a/b", "../x", ".spaceport", "a-daemon", "A", "a.json"] {
            assert!(Layout::instance(bad).is_err(), "{bad:?}");
        }
    }
}
