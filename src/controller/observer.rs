//! Which changes of a cluster queue a workspace for a reconcile.

use std::sync::Arc;

use super::controller::Controller;
use domain::names::Namespace;
use k8s::resources::Workspace;
use member::cache::Observer;

impl Observer for Controller {
    fn workspace(&self, namespace: &Namespace, workspace: &Arc<Workspace>) {
        if namespace == self.parts.cache.namespace()
            && let Some(name) = &workspace.metadata.name
        {
            self.enqueue(name);
        }
    }

    fn workspace_gone(&self, namespace: &Namespace, last: &Arc<Workspace>) {
        self.workspace(namespace, last);
    }

    fn pods_changed(&self, namespace: &Namespace, workspace: &str) {
        if namespace == self.parts.cache.namespace() {
            self.enqueue(workspace);
        }
    }

    fn node_changed(&self, node: &str) {
        for name in self.parts.cache.on_node(node) {
            self.enqueue(&name);
        }
    }

    fn synced(&self, namespace: &Namespace) {
        if namespace == self.parts.cache.namespace() {
            self.enqueue_all();
        }
    }
}
