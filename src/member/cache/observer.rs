//! [`Observer`]: receives the changes of the caches.

use std::sync::Arc;

use domain::names::Namespace;
use k8s::resources::Workspace;

/// Notified of changes in their order, outside the cache's lock. Must not block.
#[allow(unused_variables, reason = "every method may be left out")]
pub trait Observer: Send + Sync {
    /// A workspace is new or changed.
    fn workspace(&self, namespace: &Namespace, workspace: &Arc<Workspace>) {}
    /// A workspace is gone; `last` is its last known state.
    fn workspace_gone(&self, namespace: &Namespace, last: &Arc<Workspace>) {}
    /// A workspace exists and cannot be decoded, or is not kept: the last decoded state stays.
    fn workspace_unreadable(&self, namespace: &Namespace, workspace: &str) {}
    /// Pods of a workspace changed, came or went.
    fn pods_changed(&self, namespace: &Namespace, workspace: &str) {}
    /// A known node changed or is gone, or a new one is not ready.
    fn node_changed(&self, node: &str) {}
    /// The current list has states older than the known ones: the cluster was restored from a backup of its etcd.
    /// Called before any of these states.
    fn rewound(&self, namespace: &Namespace) {}
    /// Workspaces and pods of the namespace are complete: after the first list, and again after each re-list, once
    /// everything that disappeared was reported as gone.
    fn synced(&self, namespace: &Namespace) {}
}
