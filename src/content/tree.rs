//! A tree of files by directory file descriptors: walk, extraction, excludes, and the state of unchanged content.
//!
//! Everything here is synchronous and runs in a helper process beside files of a user who may be hostile: nothing
//! follows a symbolic link, and nothing is opened by a path of more than one name.

pub(crate) mod coding;
mod compare;
mod error;
mod excludes;
pub(crate) mod extract;
pub(crate) mod holes;
pub(crate) mod meta;
mod names;
mod notes;
mod stat;
mod state;
#[cfg(test)]
mod tests;
mod walk;
pub(crate) mod xattr;

pub use compare::{Comparison, Reason, compare};
pub use error::{Error, Rule, quoted};
pub use excludes::{Excludes, IGNORE_FILE};
pub use holes::Segment;
pub use meta::Meta;
pub use notes::{Note, Notes};
pub use stat::{Kind, Stat, Time};
pub use state::{Record, StateReader, StateWriter, record};
pub use walk::{Entry, MAX_DEPTH, Walk};
pub use xattr::Xattr;
