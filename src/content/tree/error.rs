//! Errors of trees, and how names of any bytes are shown.

use rustix::io::Errno;
use thiserror::Error;

/// Longest name in a message, in characters.
const LONGEST_SHOWN: usize = 256;

/// Why a tree could not be read or written.
#[derive(Debug, Error)]
pub enum Error {
    /// A system call failed.
    #[error("{action} {}: {source}", quoted(path))]
    Io {
        /// What was tried, such as "open".
        action: &'static str,
        /// Path below the root of the tree.
        path: Vec<u8>,
        /// The answer of the kernel.
        source: Errno,
    },
    /// An entry breaks a rule of extraction.
    #[error("entry {} is refused: {rule}", quoted(path))]
    Refused {
        /// Path as the archive has it.
        path: Vec<u8>,
        /// The rule.
        rule: Rule,
    },
    /// A pattern of excludes is invalid.
    #[error("exclude pattern {pattern:?} is invalid: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What the parser says.
        reason: String,
    },
    /// The state file cannot be used; the content counts as changed.
    #[error("the state file of unchanged content is invalid: {0}")]
    State(&'static str),
    /// Reading or writing the state file failed.
    #[error("state file of unchanged content: {0}")]
    StateIo(#[from] std::io::Error),
    /// A thread that writes files ended early; its own error says why.
    #[error("a thread that writes files ended early")]
    Stopped,
}

/// Rules of extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Rule {
    /// The path begins with a slash.
    #[error("its path is absolute")]
    AbsolutePath,
    /// A component is `..`.
    #[error("its path has a component \"..\"")]
    ParentPath,
    /// The path is empty or has a NUL byte.
    #[error("its path is empty or has a NUL byte")]
    EmptyPath,
    /// A component has more than 255 bytes.
    #[error("a component of its path has more than 255 bytes")]
    LongName,
    /// The path has too many components.
    #[error("its path has too many levels")]
    TooDeep,
    /// A component of the path is there and is no directory, such as a symbolic link.
    #[error("its path leads through something that is no directory")]
    NotThroughDirectory,
    /// The entry is no directory, and a directory is there.
    #[error("it would replace a directory by something else")]
    ReplacesDirectory,
    /// Only a directory can stand for the root.
    #[error("only a directory can be the root of the tree")]
    RootIsDirectory,
    /// The target of a hard link is missing or no regular file.
    #[error("the target of its hard link is not a regular file of the tree")]
    HardLinkTarget,
    /// The target of a symbolic link is empty, too long, or has a NUL byte.
    #[error("the target of its symbolic link is empty, has a NUL byte or more than 4095 bytes")]
    SymlinkTarget,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error {
        move |source| Error::Io { action, path: path.to_vec(), source }
    }

    pub(crate) fn refused(path: &[u8], rule: Rule) -> Error {
        Error::Refused { path: path.to_vec(), rule }
    }
}

/// A path as a message shows it: quoted, with everything escaped that is not printable, and cut.
pub fn quoted(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut shown: String = text.chars().take(LONGEST_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST_SHOWN).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}
