//! Workspaces and pods of one namespace.

use std::sync::Arc;

use crate::cluster::resources::Workspace;
use crate::domain::names::Namespace;
use crate::domain::pod::PodFacts;

use super::Observer;

/// Workspaces by name, and pods by the workspace that owns them.
pub struct NamespaceCache {
    namespace: Namespace,
}

impl NamespaceCache {
    /// An empty cache that tells `observers`.
    pub fn new(namespace: Namespace, observers: Vec<Arc<dyn Observer>>) -> Self {
        let _ = observers;
        Self { namespace }
    }
    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
    /// A workspace.
    pub fn get(&self, name: &str) -> Option<Arc<Workspace>> {
        let _ = name;
        todo!()
    }
    /// The pods of a workspace, by name.
    pub fn pods_of(&self, workspace: &str) -> Vec<Arc<PodFacts>> {
        let _ = workspace;
        todo!()
    }
    /// Names of all workspaces, sorted.
    pub fn names(&self) -> Vec<String> {
        todo!()
    }
    /// All workspaces, by name.
    pub fn workspaces(&self) -> Vec<Arc<Workspace>> {
        todo!()
    }
    /// Names of workspaces on a node.
    pub fn on_node(&self, node: &str) -> Vec<String> {
        let _ = node;
        todo!()
    }
    /// Takes what a write of ours answered, if it is newer than what is known.
    pub fn offer(&self, workspace: Workspace) -> bool {
        let _ = workspace;
        todo!()
    }
    /// Number of workspaces.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether workspaces and pods were listed at least once.
    pub fn is_synced(&self) -> bool {
        todo!()
    }
}
