//! Work on archives, in both directions: what the helper does with the workspace, and the words in which the agent asks for it.
//!
//! The helper's output is a stream of frames: a byte that says what follows ([`Kind`]), its length (4 bytes, big endian), and the
//! bytes. One pipe thus carries the archive and the tree state of the same walk. Only a frame [`Kind::End`] says that all of it came.

mod frames;
mod measure;
mod work;

pub use frames::{FRAME_MAX, Kind, header};
pub use work::ArchiveWork;

use content::archive::Summary;
use content::store::{Digest, Tail};
use serde::{Deserialize, Serialize};

/// A file by which programs of the workspace see that its content is complete. It is in no archive, and no restore makes it.
pub const READY: &[u8] = b".gitpod/ready";
/// The folder of that file.
pub const READY_FOLDER: &[u8] = b".gitpod";

/// What the helper does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Writes the workspace as an archive to the output.
    Write {
        /// Patterns of the class.
        excludes: Vec<String>,
        /// Without compression and index, as existing agents write it.
        plain: bool,
        /// For content at rest: removes the ready file first, and also writes the tree state.
        tree: bool,
    },
    /// Restores the archive from the input.
    Restore {
        /// Bytes that its files may have.
        bytes: u64,
        /// Also writes the tree state to the output, with these patterns of the class.
        tree: Option<Vec<String>>,
    },
    /// Removes the ready file, and compares the workspace with the tree state from the input.
    Compare {
        /// Patterns of the class.
        excludes: Vec<String>,
    },
    /// Writes the tree state to the output.
    Record {
        /// Patterns of the class.
        excludes: Vec<String>,
    },
    /// Writes the logs of a prebuild's tasks to the output.
    Logs,
    /// Adds up what the workspace takes on the disk, excluded files included.
    Measure,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// Of [`Request::Write`].
    Written {
        /// Bytes of the archive.
        size: u64,
        /// Its digest.
        digest: Digest,
        /// Its index; none of a plain tar.
        tail: Tail,
        /// Count of entries.
        entries: u64,
        /// What is worth reporting about single entries.
        notes: Vec<String>,
    },
    /// Of [`Request::Restore`].
    Restored {
        /// Count of entries.
        entries: u64,
        /// Bytes of all files.
        bytes: u64,
        /// What is worth reporting about single entries.
        notes: Vec<String>,
    },
    /// Of [`Request::Compare`]: nothing differs.
    Unchanged {
        /// Count of entries.
        entries: u64,
    },
    /// Of [`Request::Compare`]: at least this differs.
    Changed {
        /// The entry and what differs.
        what: String,
    },
    /// Of [`Request::Measure`].
    Measured {
        /// Count of entries.
        entries: u64,
        /// Bytes on disk, files with several names once.
        bytes: u64,
    },
    /// Of the others.
    Done,
}

impl Answer {
    fn written(summary: &Summary) -> Self {
        let behind = content::archive::FOOTER_LENGTH as u64;
        let tail = Tail { size: summary.index_length, behind, digest: summary.index_digest.into() };
        Self::Written {
            size: summary.bytes,
            digest: summary.digest.into(),
            tail,
            entries: summary.entries,
            notes: summary.notes.lines(),
        }
    }
}
