//! Spaceport: cloud development workspaces on many Kubernetes clusters behind one gRPC API.

pub mod cluster;
pub mod domain;
pub mod proto;
