//! Nodes of one cluster.

use std::sync::Arc;

use crate::domain::pod::NodeFacts;

use super::Observer;

/// Nodes by name.
pub struct NodeCache {}

impl NodeCache {
    /// An empty cache that tells `observers`.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        let _ = observers;
        Self {}
    }
    /// A node.
    pub fn get(&self, name: &str) -> Option<Arc<NodeFacts>> {
        let _ = name;
        todo!()
    }
    /// Number of nodes.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether nodes were listed at least once: only then a missing node is a node that is gone.
    pub fn is_synced(&self) -> bool {
        todo!()
    }
}
