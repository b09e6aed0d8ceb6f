//! What a head holds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::names::{BackupId, Format};

/// The index near the end of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tail {
    /// Bytes of the index; zero for none.
    pub size: u64,
    /// Bytes behind it, such as those of a footer.
    pub behind: u64,
    /// Digest of the index.
    pub digest: Digest,
}

impl Tail {
    /// No index: plain tar has none.
    pub fn none() -> Self {
        Self { size: 0, behind: 0, digest: Digest::of(b"") }
    }
}

/// The content of a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Version of this form.
    pub version: u32,
    /// Path of the archive below the owner. Where nothing changed, it is the archive of an earlier backup.
    pub archive: String,
    /// Bytes of the archive.
    pub size: u64,
    /// Digest of the archive.
    pub digest: Digest,
    /// Its index.
    pub index: Tail,
    /// Its ETag when it was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// Format of the archive.
    pub format: Format,
    /// When the backup was made, by the clock of the agent.
    pub made_at: Timestamp,
    /// Who made it, such as the node's name.
    pub agent: String,
    /// The instance whose content it is; none in heads of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The head before, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<BackupId>,
    /// Name of the store that has the archive.
    pub store: String,
}

impl Head {
    /// The version that is written.
    pub const VERSION: u32 = 1;
}
