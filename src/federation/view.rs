//! What this replica knows of workspaces. Reads never wait.

pub mod encoded_status;
pub mod events;
pub mod index;
pub mod seen;
#[cfg(test)]
pub(crate) mod tests;
