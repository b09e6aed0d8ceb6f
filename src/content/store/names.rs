//! Names of objects. Every [`Key`] lies below one owner: it is built from names that were validated, segment by segment, so
//! no workspace, blob or task name can leave its owner's part of the store.

use std::fmt;
use std::str::FromStr;

use domain::names::{MetaId, OwnerId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// Bytes of a blob's name, or of an instance object's.
const NAME_MAX: usize = 512;
const BLOB_RULE: &str = "must be 1 to 512 letters, digits, dots, dashes, underscores and single slashes, without `.` and `..` as segments";
const SEGMENT_RULE: &str =
    "must be 1 to 512 letters, digits, dots, dashes and underscores, and not `.` or `..`";
const BACKUP_RULE: &str = "must be GENERATION-SEQUENCE, each of 20 digits";

/// A name is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {rule}, got {got:?}")]
pub struct InvalidName {
    what: &'static str,
    rule: &'static str,
    got: String,
}

impl InvalidName {
    pub(super) fn new(what: &'static str, rule: &'static str, got: &str) -> Self {
        Self { what, rule, got: domain::names::quoted(got) }
    }
}

/// The format of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plain tar, as existing node agents write it.
    Tar,
    /// The archive with an index, `.tar.zst`.
    Zst,
}

impl Format {
    /// The end of an object's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Zst => "tar.zst",
        }
    }
}

/// Orders the backups of a workspace: first by the generation of its placement, then by the sequence within it. As text both
/// numbers are zero-padded, so that the order of texts is the order of numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId {
    /// Rises when the workspace moves.
    pub generation: u64,
    /// Rises with each backup.
    pub sequence: u64,
}

impl BackupId {
    /// The id of the first backup of a generation.
    pub const fn first(generation: u64) -> Self {
        Self { generation, sequence: 1 }
    }

    /// The id after this one in the same generation; `None` after the last number.
    pub fn next(self) -> Option<Self> {
        Some(Self { sequence: self.sequence.checked_add(1)?, ..self })
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:020}", self.generation, self.sequence)
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.sequence)
    }
}

impl FromStr for BackupId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let number = |text: &str| {
            let digits = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let parts = text.split_once('-').and_then(|(generation, sequence)| {
            Some(Self { generation: number(generation)?, sequence: number(sequence)? })
        });
        parts.ok_or_else(|| InvalidName::new("backup id", BACKUP_RULE, text))
    }
}

impl TryFrom<String> for BackupId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.to_string()
    }
}

/// The name of a blob: `[a-zA-Z0-9._\-/]+` without segments that are empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobName(String);

impl BlobName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BlobName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_relative(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName::new("blob name", BLOB_RULE, text))
    }
}

/// Whether a text is a relative path of plain segments.
fn is_relative(text: &str) -> bool {
    text.len() <= NAME_MAX && text.split('/').all(is_segment)
}

fn is_segment(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(text, "" | "." | "..") && text.bytes().all(plain)
}

/// The name of one object: the owner, and a path below the owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    owner: OwnerId,
    path: String,
}

impl Key {
    /// The owner.
    pub fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// The path below the owner, such as `workspaces/ws-1/full.tar`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The key of a blob.
    pub fn blob(owner: &OwnerId, name: &BlobName) -> Self {
        Self { owner: owner.clone(), path: format!("blobs/{}", name.0) }
    }

    /// The key of a path below an owner; it must be an object of a workspace or a blob.
    pub fn parse(owner: &OwnerId, path: &str) -> Result<Self, InvalidName> {
        let known = match path.split_once('/') {
            Some(("workspaces", rest)) => rest
                .split_once('/')
                .is_some_and(|(id, rest)| id.parse::<MetaId>().is_ok() && is_relative(rest)),
            Some(("blobs", rest)) => is_relative(rest),
            _ => false,
        };
        if known {
            return Ok(Self { owner: owner.clone(), path: path.to_owned() });
        }
        Err(InvalidName::new("object name", "must be workspaces/WORKSPACE/NAME or blobs/NAME", path))
    }

    /// The name below its workspace, if it is an object of one.
    pub fn name(&self) -> Option<&str> {
        Some(self.path.strip_prefix("workspaces/")?.split_once('/')?.1)
    }

    /// What it is, if it is an object of a workspace that is known here.
    pub fn object(&self) -> Option<(MetaId, ObjectName)> {
        let (id, name) = self.path.strip_prefix("workspaces/")?.split_once('/')?;
        Some((id.parse().ok()?, ObjectName::parse(name)?))
    }
}

/// Objects of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectName {
    /// `full.tar`: the backup of format `tar`.
    FullTar,
    /// An archive.
    Archive(BackupId),
    /// A head.
    Head(BackupId),
    /// A snapshot: made at these nanoseconds since 1970.
    Snapshot(u64),
    /// An object of an instance, such as a log.
    Instance,
}

impl ObjectName {
    /// What a name below a workspace means; `None` if it is not known here.
    pub fn parse(name: &str) -> Option<Self> {
        match name.split_once('/') {
            None if name == "full.tar" => Some(Self::FullTar),
            None => snapshot_nanos(name).map(Self::Snapshot),
            Some(("heads", id)) => id.parse().ok().map(Self::Head),
            Some(("archives", name)) => name.strip_suffix(".tar.zst")?.parse().ok().map(Self::Archive),
            Some(("instances", rest)) => {
                let (instance, name) = rest.split_once('/')?;
                (instance.parse::<WorkspaceId>().is_ok() && is_relative(name)).then_some(Self::Instance)
            }
            Some(_) => None,
        }
    }
}

/// `snapshot-<nanoseconds>` with `.tar`, `.tar.gz` or `.tar.zst`: node agents write all three.
fn snapshot_nanos(name: &str) -> Option<u64> {
    let (nanos, extension) = name.strip_prefix("snapshot-")?.split_once('.')?;
    let known =
        matches!(extension, "tar" | "tar.gz" | "tar.zst") && nanos.bytes().all(|b| b.is_ascii_digit());
    known.then(|| nanos.parse().ok()).flatten()
}

/// Builds the keys of one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceKeys {
    owner: OwnerId,
    id: MetaId,
}

impl WorkspaceKeys {
    /// Keys of a workspace of an owner. The id is the long-lived one.
    pub fn new(owner: OwnerId, id: MetaId) -> Self {
        Self { owner, id }
    }

    /// The owner.
    pub fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// The workspace.
    pub fn id(&self) -> &MetaId {
        &self.id
    }

    /// The backup of format `tar`.
    pub fn full_tar(&self) -> Key {
        self.key("full.tar")
    }

    /// An archive.
    pub fn archive(&self, id: BackupId) -> Key {
        self.key(&format!("archives/{id}.tar.zst"))
    }

    /// A head.
    pub fn head(&self, id: BackupId) -> Key {
        self.key(&format!("heads/{id}"))
    }

    /// A snapshot that was begun at these nanoseconds since 1970.
    pub fn snapshot(&self, nanoseconds: u64, format: Format) -> Key {
        self.key(&format!("snapshot-{nanoseconds}.{}", format.extension()))
    }

    /// An object of an instance, such as `logs/<task>`.
    pub fn instance_object(&self, instance: &WorkspaceId, name: &str) -> Result<Key, InvalidName> {
        if is_relative(name) {
            return Ok(self.key(&format!("instances/{instance}/{name}")));
        }
        Err(InvalidName::new("name of an instance object", BLOB_RULE, name))
    }

    /// An object directly below the workspace, such as a snapshot.
    pub fn named(&self, name: &str) -> Result<Key, InvalidName> {
        if is_segment(name) && name.len() <= NAME_MAX {
            return Ok(self.key(name));
        }
        Err(InvalidName::new("name of an object", SEGMENT_RULE, name))
    }

    /// The log of a task of an instance.
    pub fn log(&self, instance: &WorkspaceId, task: &str) -> Result<Key, InvalidName> {
        if is_segment(task) && task.len() <= NAME_MAX {
            return Ok(self.key(&format!("instances/{instance}/logs/{task}")));
        }
        Err(InvalidName::new("task", SEGMENT_RULE, task))
    }

    /// Everything of the workspace.
    pub fn all(&self) -> Prefix {
        self.below("")
    }

    /// Its heads.
    pub fn heads(&self) -> Prefix {
        self.below("/heads")
    }

    /// Its archives.
    pub fn archives(&self) -> Prefix {
        self.below("/archives")
    }

    /// The logs of an instance.
    pub fn logs(&self, instance: &WorkspaceId) -> Prefix {
        self.below(&format!("/instances/{instance}/logs"))
    }

    fn below(&self, rest: &str) -> Prefix {
        Prefix { owner: self.owner.clone(), path: format!("workspaces/{}{rest}", self.id) }
    }

    fn key(&self, name: &str) -> Key {
        Key { owner: self.owner.clone(), path: format!("workspaces/{}/{name}", self.id) }
    }
}

/// A folder of objects below one owner. It names what is inside: `workspaces/ws-1` does not name `workspaces/ws-10/full.tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    owner: OwnerId,
    path: String,
}

impl Prefix {
    /// Everything of an owner.
    pub fn of_owner(owner: &OwnerId) -> Self {
        Self { owner: owner.clone(), path: String::new() }
    }

    /// All blobs of an owner.
    pub fn blobs(owner: &OwnerId) -> Self {
        Self { owner: owner.clone(), path: "blobs".to_owned() }
    }

    /// The blobs of an owner below a folder.
    pub fn blobs_below(owner: &OwnerId, folder: &BlobName) -> Self {
        Self { owner: owner.clone(), path: format!("blobs/{}", folder.0) }
    }

    /// The owner.
    pub fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// The path below the owner; empty for everything.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a key lies inside.
    pub fn contains(&self, key: &Key) -> bool {
        let inside = match key.path.strip_prefix(&self.path) {
            Some(rest) => self.path.is_empty() || rest.starts_with('/'),
            None => false,
        };
        key.owner == self.owner && inside
    }
}
