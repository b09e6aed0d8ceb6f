//! The archive of a workspace: one `.tar.zst` object with an index at its end.
//!
//! The format is described in `docs/protocols/content-archive.md`. Everything here is synchronous; readers, writers
//! and directories are passed in.

mod builder;
mod decode;
mod error;
mod footer;
mod frames;
mod header;
mod index;
mod links;
mod member;
mod parse;
mod pax;
mod plain;
mod proof;
mod restore;
mod sink;
mod stream;
mod verify;
mod write;

#[cfg(test)]
mod tests;

pub use error::{Error, Rule};
pub use footer::{FOOTER_LENGTH, Footer, VERSION};
pub use index::{IndexRecord, Indexed};
pub use member::{Body, Member};
pub use parse::Limits;
pub use plain::{PlainSummary, write_plain};
pub use restore::{Format, RestoreOptions, Restored, restore};
pub use verify::{Index, TAIL, Tail, read_footer, read_index, verify};
pub use write::{Summary, Unreadable, WriteOptions, write};
