//! Errors of archives.

use thiserror::Error;

use crate::tree::{self, quoted};

/// Why an archive could not be written, read or proven.
#[derive(Debug, Error)]
pub enum Error {
    /// The tree could not be read or written, or an entry breaks a rule of extraction.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// An entry breaks a rule of the format or a limit.
    #[error("entry {} is refused: {rule}", quoted(entry))]
    Refused {
        /// Its path, or a description if it has none yet.
        entry: Vec<u8>,
        /// The rule.
        rule: Rule,
    },
    /// Reading or writing the archive itself failed.
    #[error("{action} the archive failed: {source}")]
    Io {
        /// "reading" or "writing".
        action: &'static str,
        /// The answer.
        source: std::io::Error,
    },
    /// The bytes are not an archive, or were changed.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    /// Bytes are missing at the end.
    #[error("the archive ends early: {0}")]
    Early(&'static str),
    /// The archive is of a later version.
    #[error("the archive has version {found} of the format, and this program knows version {known}")]
    Version {
        /// Its version.
        found: u32,
        /// The version that is known here.
        known: u32,
    },
    /// What is in the store is not what was written.
    #[error("the stored archive is not what was written: its {0} differs")]
    Differs(&'static str),
    /// A thread ended early; its own error says why.
    #[error("a thread of the archive ended early")]
    Stopped,
}

/// Rules of the format, and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Rule {
    /// Block and character devices are never restored.
    #[error("it is a device node")]
    Device,
    /// The tar type is none that is restored.
    #[error("its tar type {:?} is not supported", char::from(*.0))]
    Unsupported(u8),
    /// The checksum of the tar header is wrong.
    #[error("the checksum of its tar header is wrong")]
    Checksum,
    /// A field of the tar header is malformed or out of range.
    #[error("a number in its tar header is malformed or too large")]
    Number,
    /// A pax record is malformed, comes twice, or may not stand in a global header.
    #[error("its pax header is malformed")]
    Pax,
    /// Sizes in tar header and pax header differ.
    #[error("its tar header and its pax header disagree about the size")]
    SizesDisagree,
    /// The list of segments of a sparse file is malformed or does not fit the sizes.
    #[error("its list of holes is malformed or disagrees with its size")]
    SparseMap,
    /// An entry without content has a size.
    #[error("it has content, and its type permits none")]
    Content,
    /// The index says something else.
    #[error("the index disagrees about its path, kind, size or content")]
    Index,
    /// More entries than the limit.
    #[error("the archive has more than {0} entries")]
    Entries(u64),
    /// More data than the limit.
    #[error("the files of the archive have more than {0} bytes")]
    Bytes(u64),
    /// The path is longer than the limit.
    #[error("its path or its link's target is longer than {0} bytes")]
    LongPath(usize),
    /// The extended attributes are larger than the limit.
    #[error("its extended attributes have more than {0} bytes")]
    Xattrs(usize),
}

impl Error {
    pub(super) fn refused(entry: &[u8], rule: Rule) -> Error {
        Error::Refused { entry: entry.to_vec(), rule }
    }

    pub(super) fn reading(source: std::io::Error) -> Error {
        if source.kind() == std::io::ErrorKind::UnexpectedEof {
            return Error::Early("a part of it is missing");
        }
        Error::Io { action: "reading", source }
    }

    pub(super) fn writing(source: std::io::Error) -> Error {
        Error::Io { action: "writing", source }
    }
}
