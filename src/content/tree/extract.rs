//! Extraction of files into a directory, by directory file descriptors.
//!
//! One thread gives the entries in the order of the archive. It makes directories, hard links and large files itself;
//! threads make the small files, each directory's by one of them. A directory gets its mode and times when the last
//! file in it is complete.

mod directory;
mod extractor;
mod node;
mod path;
mod pool;

pub(crate) use extractor::{Extractor, LargeFile, SMALL};
pub(crate) use node::Node;
pub(crate) use pool::{Ticket, scope};
