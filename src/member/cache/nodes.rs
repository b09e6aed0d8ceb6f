//! Cache of the nodes of one cluster.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;

use domain::pod::NodeFacts;

use super::observer::Observer;
use super::queue::Queue;

/// Nodes by name.
pub struct NodeCache {
    state: RwLock<State>,
    changes: Queue<String>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<String, Arc<NodeFacts>>,
    listed: Option<HashSet<String>>,
    synced: bool,
}

impl NodeCache {
    /// An empty cache that notifies `observers`.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { state: RwLock::default(), changes: Queue::new(observers) }
    }

    /// A node.
    pub fn get(&self, name: &str) -> Option<Arc<NodeFacts>> {
        self.state.read().nodes.get(name).cloned()
    }

    /// All nodes, in no order.
    pub fn nodes(&self) -> Vec<Arc<NodeFacts>> {
        self.state.read().nodes.values().cloned().collect()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.state.read().nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nodes were listed at least once: only then an absent node is one that is gone.
    pub fn is_synced(&self) -> bool {
        self.state.read().synced
    }

    /// A list of nodes begins.
    pub fn begin(&self) {
        self.state.write().listed = Some(HashSet::new());
    }

    /// A node that is there but cannot be read.
    pub fn keep(&self, name: &str) {
        if let Some(listed) = &mut self.state.write().listed {
            listed.insert(name.to_owned());
        }
    }

    /// A node is listed, new or changed.
    pub fn put(&self, node: NodeFacts) {
        {
            let mut state = self.state.write();
            if let Some(listed) = &mut state.listed {
                listed.insert(node.name.clone());
            }
            let known = state.nodes.get(&node.name);
            if known.is_some_and(|known| **known == node) {
                return;
            }
            if known.is_some() || !node.ready {
                self.changes.push(node.name.clone());
            }
            state.nodes.insert(node.name.clone(), Arc::new(node));
        }
        self.tell();
    }

    /// A node is gone.
    pub fn remove(&self, name: &str) {
        {
            let mut state = self.state.write();
            if state.nodes.remove(name).is_some() {
                self.changes.push(name.to_owned());
            }
        }
        self.tell();
    }

    /// A list of nodes is complete: what it did not name is gone.
    pub fn end(&self) {
        {
            let mut state = self.state.write();
            let Some(listed) = state.listed.take() else { return };
            state.nodes.retain(|name, _| {
                let stays = listed.contains(name);
                if !stays {
                    self.changes.push(name.clone());
                }
                stays
            });
            state.synced = true;
        }
        self.tell();
    }

    fn tell(&self) {
        self.changes.drain(|observer, node| observer.node_changed(node));
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Observer for Told {
        fn node_changed(&self, node: &str) {
            self.0.lock().push(node.to_owned());
        }
    }

    #[test]
    fn a_node_that_stops_answering_is_a_change_and_a_repeated_state_is_none() {
        let told = Arc::new(Told::default());
        let cache = NodeCache::new(vec![Arc::clone(&told) as Arc<dyn Observer>]);
        let node = |ready, unreachable| NodeFacts {
            name: "n".to_owned(),
            tainted: false,
            ready,
            unreachable,
            workload: None,
        };
        let news = |change: &dyn Fn()| {
            let before = told.0.lock().len();
            change();
            told.0.lock().len() - before
        };
        assert_eq!(news(&|| cache.put(node(true, false))), 0, "one that joins");
        assert_eq!(news(&|| cache.put(node(true, false))), 0);
        assert_eq!(news(&|| cache.put(node(false, true))), 1);
        assert_eq!(news(&|| cache.put(node(true, false))), 1);
        assert_eq!(news(&|| cache.remove("n")), 1);
        assert_eq!(news(&|| cache.put(node(false, false))), 1);
    }
}
