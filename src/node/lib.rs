//! The node agent: one a node. Watches its own node's workspaces and Snapshots, initialises, backs up, snapshots and wipes their
//! content, and writes the conditions of the contract under its own identity.

pub mod agent;
pub mod archives;
pub mod config;
pub mod decide;
pub mod helper;
pub mod operations;
pub mod quota;
pub mod state;
