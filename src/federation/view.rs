//! What this replica knows of workspaces: readable at once, without waiting.

pub mod encoded_status;
pub mod events;
pub mod index;
#[cfg(test)]
pub(crate) mod samples;
pub mod seen;
