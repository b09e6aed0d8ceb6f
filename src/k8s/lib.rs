//! Resource types of member clusters, their CRDs, and the conversion to and from domain types.
//!
//! No calls: the room `member` sends and watches. [`protobuf`] only transcodes responses.

pub mod convert;
pub mod events;
pub mod fast_decode;
pub mod protobuf;
pub mod references;
pub mod resources;
