//! Spaceport: cloud development workspaces across many Kubernetes clusters behind one gRPC API.

pub mod domain;

pub mod runtime;
