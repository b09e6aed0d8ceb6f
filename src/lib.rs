//! Spaceport: cloud development workspaces on many Kubernetes clusters behind one gRPC API.

pub mod domain;
pub mod federation;
pub mod proto;
pub mod store;
