//! The servers: the manager and the node agent, each wired together from its crates.

pub mod manager;
pub mod node;
