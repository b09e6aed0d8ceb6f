//! One entry of an archive, as headers and index have it.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;

use crate::tree::{Meta, Segment};

/// An entry without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path below the root, without a slash at its end; `.` is the root.
    pub path: Vec<u8>,
    /// Metadata.
    pub meta: Meta,
    /// Kind, and what belongs to it.
    pub body: Body,
}

/// Kind of an entry, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Regular file.
    File {
        /// Size with holes.
        size: u64,
        /// Where it has data; `None` if it has no holes.
        segments: Option<Vec<Segment>>,
    },
    /// Directory.
    Directory,
    /// Symbolic link to this target.
    Symlink(Vec<u8>),
    /// Hard link to the entry of this path.
    HardLink(Vec<u8>),
    /// Named pipe.
    Fifo,
}

impl Body {
    /// Count of the bytes that the archive stores for it, without headers.
    pub fn stored(&self) -> u64 {
        match self {
            Body::File { size, segments: None } => *size,
            Body::File { segments: Some(segments), .. } => {
                segments.iter().map(|segment| segment.length).sum()
            }
            _ => 0,
        }
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            Body::File { .. } => 0,
            Body::Directory => 1,
            Body::Symlink(_) => 2,
            Body::HardLink(_) => 3,
            Body::Fifo => 4,
        }
    }
}

impl Member {
    /// A hash by which index and tar are compared; that of a file still lacks the digest of its data.
    pub(super) fn hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(self.body.code());
        hasher.write_usize(self.path.len());
        hasher.write(&self.path);
        match &self.body {
            Body::File { size, .. } => {
                hasher.write_u64(*size);
                hasher.write_u64(self.body.stored());
            }
            Body::Symlink(target) | Body::HardLink(target) => hasher.write(target),
            Body::Directory | Body::Fifo => {}
        }
        hasher
    }
}
