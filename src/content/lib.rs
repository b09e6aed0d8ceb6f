//! The content of workspaces: everything about files, archives and object stores that knows no Kubernetes.

pub mod archive;
pub mod initializer;
pub mod store;
pub mod tree;
