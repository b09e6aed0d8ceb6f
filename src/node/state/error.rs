//! Errors of the state on disk.

use std::io;
use std::path::PathBuf;

/// Why the state of a workspace cannot be kept or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refuses it.
    #[error("{action} {}: {error}", .path.display())]
    Io {
        /// What was tried, such as "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The answer.
        error: io::Error,
    },
    /// A file has content that this version does not know.
    #[error("{}: {problem}; move the file away once its content is safe", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another agent works here.
    #[error("another agent works in {}: only one can, so this one ends", .0.display())]
    InUse(PathBuf),
    /// An id has no folder of its own.
    #[error(
        "instance {0:?} must be a DNS label that does not end in -daemon: the folder of that name belongs to another instance"
    )]
    Instance(String),
}

impl Error {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { action, path, error }
    }
}
