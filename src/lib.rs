//! Spaceport: cloud development workspaces on many Kubernetes clusters behind one gRPC API.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod domain;
pub mod federation;
#[cfg(test)]
mod fuzz;
pub mod manager;
pub mod proto;
pub mod runtime;
pub mod store;
