//! Writes to one namespace of a cluster. Each is checked against the leadership first and has a deadline.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::Value;

use crate::domain::names::{ClusterName, Namespace};
use crate::domain::secret::Secret;

use super::error::Result;
use super::resources::{Snapshot, Workspace};

/// Whether this process may write now. Asked before every write.
pub type Permit = Arc<dyn Fn() -> bool + Send + Sync>;

/// Outcome of a creation.
#[derive(Debug, Clone, PartialEq)]
pub enum Created<T> {
    /// It was made.
    New(T),
    /// An object of that name exists.
    Exists,
}

/// Outcome of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Patched<T> {
    /// It was changed.
    Done(T),
    /// There is no such object.
    NotFound,
    /// The object is another, or another version, than the caller saw.
    Conflict,
}

/// Outcome of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, or will be when its finalizers are.
    Accepted,
    /// There was no such object.
    NotFound,
    /// The object of that name is another one.
    Conflict,
}

/// Writes to one namespace.
#[derive(Clone)]
pub struct Writer {
    cluster: ClusterName,
    namespace: Namespace,
}

#[allow(clippy::unused_async, unused_variables)]
impl Writer {
    /// The cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }
    /// The workspace namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
    /// Reads a workspace from the apiserver, not from the cache.
    pub async fn get_workspace(&self, name: &str) -> Result<Option<Workspace>> {
        todo!()
    }
    /// Reads all workspaces of ours from the apiserver.
    pub async fn list_workspaces(&self) -> Result<Vec<Workspace>> {
        todo!()
    }
    /// Creates a workspace.
    pub async fn create_workspace(&self, workspace: &Workspace) -> Result<Created<Workspace>> {
        todo!()
    }
    /// Makes a secret hold exactly `content`, whatever it held before.
    pub async fn put_secret(
        &self,
        namespace: &Namespace,
        name: &str,
        workspace_id: &str,
        content: &Secret<BTreeMap<String, String>>,
    ) -> Result<()> {
        todo!()
    }
    /// Deletes a secret.
    pub async fn delete_secret(&self, namespace: &Namespace, name: &str) -> Result<Deleted> {
        todo!()
    }
    /// JSON merge patch of the status; `resource_version` makes it conditional.
    pub async fn patch_status(
        &self,
        name: &str,
        resource_version: Option<&str>,
        patch: Value,
    ) -> Result<Patched<Workspace>> {
        todo!()
    }
    /// JSON merge patch of metadata and spec.
    pub async fn patch_spec(
        &self,
        name: &str,
        resource_version: Option<&str>,
        patch: Value,
    ) -> Result<Patched<Workspace>> {
        todo!()
    }
    /// Deletes the workspace with this uid.
    pub async fn delete_workspace(&self, name: &str, uid: &str) -> Result<Deleted> {
        todo!()
    }
    /// Takes our finalizer off; other finalizers stay.
    pub async fn remove_finalizer(&self, workspace: &Workspace) -> Result<Patched<Workspace>> {
        todo!()
    }
    /// Creates a pod.
    pub async fn create_pod(&self, pod: &Pod) -> Result<Created<Pod>> {
        todo!()
    }
    /// Deletes the pod with this uid; `grace` in seconds, the pod's own where absent.
    pub async fn delete_pod(&self, name: &str, uid: &str, grace: Option<u32>) -> Result<Deleted> {
        todo!()
    }
    /// Takes our finalizer off the pod with this uid; other finalizers stay.
    pub async fn remove_pod_finalizer(&self, name: &str, uid: &str) -> Result<Patched<()>> {
        todo!()
    }
    /// Creates an event.
    pub async fn create_event(&self, event: &Event) -> Result<()> {
        todo!()
    }
    /// Creates a snapshot.
    pub async fn create_snapshot(&self, snapshot: &Snapshot) -> Result<Created<Snapshot>> {
        todo!()
    }
    /// Reads a snapshot.
    pub async fn get_snapshot(&self, name: &str) -> Result<Option<Snapshot>> {
        todo!()
    }
    /// Puts maintenance on until a time, or off.
    pub async fn set_maintenance(&self, until: Option<Timestamp>) -> Result<()> {
        todo!()
    }
}
