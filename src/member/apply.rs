//! Writes to one namespace of a cluster. Each checks the permit before it sends anything, and has a deadline.
//!
//! Outcomes that a caller acts on are values ([`Created`], [`Patched`], [`Deleted`]); everything else is an
//! [`Error`](crate::Error), whose [`is_definite_refusal`](crate::Error::is_definite_refusal) says whether the write certainly
//! did not happen.

mod canary;
mod objects;
mod pods;
mod secrets;
mod workspaces;
mod writer;

pub use canary::Renewed;
pub use objects::Awaited;
pub use secrets::{MadeFor, Owner, Purpose, SecretPage, SecretSeen};
pub use writer::{Created, Deleted, Patched, Permit, Writer};

#[cfg(test)]
mod tests;
