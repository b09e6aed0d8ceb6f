//! What the agent keeps on disk for each workspace: what began, and what is proven.
//!
//! One small JSON file an instance, replaced atomically. A file that cannot be read is reported as [`Known::Broken`] and never leads
//! to a deletion. The tree states of unchanged content and the journals of uploads are files beside it.

mod begun;
mod disk;
mod error;
mod layout;
mod record;

pub use begun::{Agents, Begun};
pub use disk::{Disk, Known, STATE_MAX, keep_reserve, read_file, remove_file, unless_missing, write_file};
pub use error::Error;
pub use layout::Layout;
pub use record::{Base, Content, Done, KeptFolder, Origin, PendingBackup, SnapshotRecord, Stage, State};
