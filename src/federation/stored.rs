//! Use cases about stored content: what the object store has of workspaces, blobs and IDE plug-ins.
//!
//! They need no leader and no member cluster: every replica serves them. A deletion first asks etcd which workspaces are live, so
//! a replica that is cut off from etcd deletes nothing.

pub use content::store::catalog::{Entry, Listed};
pub use content::store::{Presigned, WorkspaceKeys};

pub mod backups;
pub mod blobs;
pub mod deletion;
pub mod objects;
pub mod reads;
