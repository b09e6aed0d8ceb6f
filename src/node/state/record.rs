//! The forms of the files.

use std::path::PathBuf;

use content::initializer::Fault;
use content::store::{BackupId, Digest};
use domain::names::{MetaId, OwnerId, WorkspaceId};
use domain::workspace::{GitStatus, Kind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::begun::Begun;
use crate::helper::{Metric, Source};

/// What is known of the content of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of this form.
    pub version: u32,
    /// Whose content it is.
    pub origin: Origin,
    /// The content, once it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// How far it is.
    pub stage: Stage,
    /// The try that works on the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begun>,
}

impl State {
    /// The version that is written.
    pub const VERSION: u32 = 1;

    /// At a stage, without content.
    pub fn new(origin: Origin, stage: Stage) -> Self {
        Self { version: Self::VERSION, origin, content: None, stage, begun: None }
    }
}

/// Whose content it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The instance.
    pub instance: WorkspaceId,
    /// The uid of the resource: an instance id may be used again. Files of older agents have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// How often its pod was made again before (`status.podRecreated`): each time its content begins anew.
    pub attempt: i32,
    /// The owner.
    pub owner: OwnerId,
    /// The workspace across its runs.
    pub workspace: MetaId,
    /// Its kind.
    pub kind: Kind,
    /// Generation of its placement.
    pub generation: u64,
    /// When the resource was created.
    pub created: Timestamp,
}

impl Origin {
    /// Whether both are of one resource, whatever its attempt.
    pub fn is_same_resource(&self, other: &Self) -> bool {
        match (&self.uid, &other.uid) {
            (Some(one), Some(other)) => one == other,
            _ => {
                (self.created, &self.owner, &self.workspace)
                    == (other.created, &other.owner, &other.workspace)
            }
        }
    }
}

/// Complete content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The stored backup that the tree state describes: unchanged content is this backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The newest head when the content was made. A backup of this instance is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<BackupId>,
    /// When the content was made, if its heads could not be listed then: the backup finds out which was the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<Timestamp>,
    /// Folder of the repository whose status is reported at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Where the content came from; none if another agent made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What each initializer took.
    #[serde(default)]
    pub metrics: Vec<Metric>,
}

/// A stored backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Base {
    /// A head.
    Head(BackupId),
    /// `full.tar`, as the store has it.
    #[serde(rename_all = "camelCase")]
    FullTar {
        /// Its bytes.
        size: u64,
        /// When it was written.
        made_at: Timestamp,
    },
}

/// How far the content of an instance is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Content is being made. What the folder holds is nobody's work.
    Initialising,
    /// The content is complete; programs of the workspace may not see that yet.
    Filled,
    /// Programs of the workspace see that the content is complete.
    Ready,
    /// The initialisation failed, and the folder was emptied.
    NotInitialised {
        /// Who can mend it.
        fault: Fault,
        /// One sentence.
        message: String,
    },
    /// The backup began.
    BackingUp(Box<PendingBackup>),
    /// The backup is proven.
    BackedUp(Box<Done>),
    /// The backup failed for good, and the content stays.
    BackupFailed {
        /// One sentence that says where the content is.
        message: String,
    },
    /// The content is being deleted, because nobody wants it.
    Wiping,
    /// The content is deleted.
    Wiped,
    /// The content could not be deleted.
    NotWiped {
        /// One sentence.
        message: String,
    },
}

/// A backup that is not proven yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingBackup {
    /// Its id; the same for every try.
    pub id: BackupId,
    /// When the first try began.
    pub began: Timestamp,
    /// The container was killed and may have run on during a try: the folder may differ from what was archived.
    #[serde(default)]
    pub restless: bool,
    /// Tries that began.
    pub tries: u32,
    /// When the first try failed after which no more of the archive reached the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failed: Option<Timestamp>,
    /// Bytes of the archive that the store had when the last try failed.
    #[serde(default)]
    pub sent: u64,
    /// When the next try may begin, after one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// State of the working copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitStatus>,
}

/// A backup that is proven.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// The object with the content: its path below the owner.
    pub object: String,
    /// Bytes of the object.
    pub size: u64,
    /// Digest of the object; none where nothing was written because nothing had changed in `full.tar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The head that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<BackupId>,
    /// Whether the content was unchanged, so that no archive was written.
    pub unchanged: bool,
    /// Name of the snapshot, of a prebuild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// State of the working copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitStatus>,
    /// When it was proven.
    pub at: Timestamp,
    /// Whether the folder is equal to it.
    pub at_rest: bool,
    /// Whether the folder is where it stays.
    pub settled: bool,
}

/// A folder that stayed after its proven backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptFolder {
    /// Version of this form.
    pub version: u32,
    /// The backup that it is equal to.
    pub base: Base,
    /// Bytes of the stored object.
    pub size: u64,
    /// Patterns of the class with which the backup was made.
    pub excludes: Vec<String>,
    /// Since when it is kept.
    pub since: Timestamp,
}

/// A snapshot that began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRecord {
    /// Version of this form.
    pub version: u32,
    /// The instance.
    pub instance: WorkspaceId,
    /// The owner.
    pub owner: OwnerId,
    /// The object: its path below the owner.
    pub object: String,
    /// Whether the object is proven.
    pub proven: bool,
    /// The folder it is made of.
    pub folder: PathBuf,
    /// The try that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begun>,
}

#[cfg(test)]
impl Origin {
    /// An instance of workspace `ws` of Jane.
    pub(crate) fn sample(instance: &str) -> Self {
        Self {
            instance: instance.parse().unwrap(),
            uid: None,
            attempt: 0,
            owner: "jane".parse().unwrap(),
            workspace: "ws".parse().unwrap(),
            kind: Kind::Regular,
            generation: 1,
            created: Timestamp::UNIX_EPOCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(uid: Option<&str>, owner: &str) -> Origin {
        let (uid, owner) = (uid.map(str::to_owned), owner.parse().unwrap());
        Origin { uid, owner, ..Origin::sample("ws-1") }
    }

    #[test]
    fn a_resource_is_known_by_its_uid_and_without_one_by_when_and_whose_it_is() {
        let of = |uid, owner: &str| origin(Some("u1"), "jane").is_same_resource(&origin(uid, owner));
        assert!(of(Some("u1"), "jane") && !of(Some("u2"), "jane"));
        assert!(of(None, "jane") && !of(None, "joe"));
        let later = Origin { created: Timestamp::MAX, ..origin(None, "jane") };
        assert!(!later.is_same_resource(&origin(Some("u1"), "jane")));
        let next = Origin { attempt: 1, ..origin(Some("u1"), "jane") };
        assert!(next.is_same_resource(&origin(Some("u1"), "jane")));
        let old = serde_json::to_string(&origin(None, "jane")).unwrap();
        assert!(!old.contains("uid") && serde_json::from_str::<Origin>(&old).unwrap().uid.is_none());
    }
}
