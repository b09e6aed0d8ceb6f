//! In-memory caches of a member cluster's objects. Synchronous: locks are held for microseconds and never across await.

mod capacity;
mod namespace;
mod nodes;
mod queue;

use std::sync::Arc;

pub(crate) use capacity::key;
pub use capacity::{Capacity, Reservation, RoomsByShape, ShapeKey, Source, Totals};
pub use namespace::NamespaceCache;
pub use nodes::NodeCache;

use domain::names::Namespace;
use k8s::resources::Workspace;

/// Told of changes, in their order, outside the cache's lock. Must not block.
#[allow(unused_variables, reason = "every method may be left out")]
pub trait Observer: Send + Sync {
    /// A workspace is new or changed.
    fn workspace(&self, namespace: &Namespace, workspace: &Arc<Workspace>) {}
    /// A workspace is gone; `last` is what was last seen of it.
    fn workspace_gone(&self, namespace: &Namespace, last: &Arc<Workspace>) {}
    /// A workspace is there and cannot be read, or is not kept: what was last read of it holds.
    fn workspace_unreadable(&self, namespace: &Namespace, workspace: &str) {}
    /// Pods of a workspace changed, came or went.
    fn pods_changed(&self, namespace: &Namespace, workspace: &str) {}
    /// A node that was known changed or is gone, or a new one is not ready.
    fn node_changed(&self, node: &str) {}
    /// The list under way names states of before those known: the cluster was set back, as by a restore of its etcd.
    /// Told before any of these states.
    fn rewound(&self, namespace: &Namespace) {}
    /// Workspaces and pods of the namespace are complete: after the first list, and again after each re-list, when
    /// everything that vanished meanwhile was told as gone.
    fn synced(&self, namespace: &Namespace) {}
}
