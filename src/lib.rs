//! Spaceport: cloud development workspaces on many Kubernetes clusters behind one gRPC API.

pub mod cli;
pub mod domain;
pub mod proto;
