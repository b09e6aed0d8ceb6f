//! What this replica knows of workspaces: readable at once, without waiting.

pub mod events;
pub mod index;
