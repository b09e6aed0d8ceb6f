//! Resource types of member clusters, their CRDs, and the conversion to and from domain types.
//!
//! No calls: what is sent and watched is in the room `member`. [`protobuf`] only decodes answers.

pub mod convert;
pub mod events;
pub mod fast_decode;
pub mod protobuf;
pub mod references;
pub mod resources;
