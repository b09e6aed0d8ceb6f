//! What is worth reporting about an operation that succeeded.

use thiserror::Error;

use super::error::quoted;

/// Entries that are listed by name; later ones are only counted.
const LISTED: usize = 200;

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Note {
    /// Sockets are not archived.
    #[error("a socket is not archived")]
    Socket,
    /// Device nodes are not archived.
    #[error("a device node is not archived")]
    Device,
    /// The file changed while it was read; the archive has a mixture, padded or cut to the size of its header.
    #[error("it changed while it was read")]
    Changed,
    /// The entry was removed between two system calls.
    #[error("it was removed while the tree was read")]
    Vanished,
    /// The entry could not be read and is missing in the archive, or its content is.
    #[error("it cannot be read: {0}")]
    Unreadable(rustix::io::Errno),
    /// More hard links than the table holds; the entry is archived as a file of its own.
    #[error("it is archived without its hard link, the table of links is full")]
    LinkTableFull,
    /// More attributes than an entry of an archive may have.
    #[error("it is archived without some of its extended attributes, which are too large")]
    XattrsTooLarge,
    /// Owner or group do not exist in this user namespace; setuid and setgid are dropped.
    #[error("its owner {0}:{1} cannot be set here; setuid and setgid are dropped")]
    Owner(u32, u32),
    /// The filesystem or the rights do not permit an extended attribute.
    #[error("an extended attribute cannot be set: {0}")]
    Xattr(rustix::io::Errno),
}

/// A bounded list of notes.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    listed: Vec<(Vec<u8>, Note)>,
    more: u64,
}

impl Notes {
    pub(crate) fn add(&mut self, path: &[u8], note: Note) {
        if self.listed.len() < LISTED {
            self.listed.push((path.to_vec(), note));
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn append(&mut self, other: Notes) {
        self.more += other.more;
        for (path, note) in other.listed {
            self.add(&path, note);
        }
    }

    /// The first notes with their paths.
    pub fn listed(&self) -> &[(Vec<u8>, Note)] {
        &self.listed
    }

    /// Count of all notes.
    pub fn count(&self) -> u64 {
        self.more + self.listed.len() as u64
    }

    /// One line for each listed note, and one for the rest.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.listed.iter().map(|(path, note)| format!("{}: {note}", quoted(path))).collect();
        if self.more > 0 {
            lines.push(format!("and {} more", self.more));
        }
        lines
    }
}
