//! Where watched objects go.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::cache::{NamespaceCache, NodeCache, version};
use crate::cluster::convert::{node_facts, pod_facts};
use crate::cluster::maintenance::Maintenance;
use crate::cluster::resources::Workspace;
use crate::cluster::resources::names::{MANAGED_BY, MANAGER};

use super::follow::Sink;

/// Workspaces of ours: those whose label names us or nobody.
pub(super) struct Workspaces(pub(super) Arc<NamespaceCache>);

impl Sink for Workspaces {
    type Object = Workspace;

    fn begin(&mut self) {
        self.0.begin_workspaces();
    }

    fn put(&mut self, workspace: Workspace) {
        if is_ours(&workspace.metadata) {
            self.0.put_workspace(workspace);
        } else {
            // It may have been handed over just now.
            self.remove(&workspace.metadata);
        }
    }

    fn keep(&mut self, name: &str) {
        self.0.keep_workspace(name);
    }

    fn remove(&mut self, meta: &ObjectMeta) {
        self.0.remove_workspace(meta.name.as_deref().unwrap_or_default(), version(meta));
    }

    fn end(&mut self) {
        self.0.end_workspaces();
    }
}

fn is_ours(meta: &ObjectMeta) -> bool {
    let manager = meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    manager.is_none_or(|manager| manager == MANAGER)
}

/// Pods of workspaces.
pub(super) struct Pods(pub(super) Arc<NamespaceCache>);

impl Sink for Pods {
    type Object = Pod;

    fn begin(&mut self) {
        self.0.begin_pods();
    }

    fn put(&mut self, pod: Pod) {
        match pod_facts(&pod) {
            Some(facts) => self.0.put_pod(facts),
            None => self.remove(&pod.metadata),
        }
    }

    fn keep(&mut self, name: &str) {
        self.0.keep_pod(name);
    }

    fn remove(&mut self, meta: &ObjectMeta) {
        self.0.remove_pod(meta.name.as_deref().unwrap_or_default(), version(meta));
    }

    fn end(&mut self) {
        self.0.end_pods();
    }
}

/// Nodes.
pub(super) struct Nodes(pub(super) Arc<NodeCache>);

impl Sink for Nodes {
    type Object = Node;

    fn begin(&mut self) {
        self.0.begin();
    }

    fn put(&mut self, node: Node) {
        self.0.put(node_facts(&node));
    }

    fn keep(&mut self, name: &str) {
        self.0.keep(name);
    }

    fn remove(&mut self, meta: &ObjectMeta) {
        self.0.remove(meta.name.as_deref().unwrap_or_default());
    }

    fn end(&mut self) {
        self.0.end();
    }
}

/// The maintenance ConfigMap of a namespace.
pub(super) struct MaintenanceOf {
    maintenance: Arc<Maintenance>,
    /// Whether the list under way named it.
    listed: bool,
}

impl MaintenanceOf {
    pub(super) fn new(maintenance: Arc<Maintenance>) -> Self {
        Self { maintenance, listed: false }
    }
}

impl Sink for MaintenanceOf {
    type Object = ConfigMap;

    fn begin(&mut self) {
        self.listed = false;
    }

    fn put(&mut self, object: ConfigMap) {
        self.listed = true;
        self.maintenance.take(Some(&object), Timestamp::now());
    }

    fn keep(&mut self, _: &str) {
        self.listed = true;
        self.maintenance.unreadable("the ConfigMap is no ConfigMap");
    }

    fn remove(&mut self, _: &ObjectMeta) {
        self.maintenance.take(None, Timestamp::now());
    }

    fn end(&mut self) {
        if !self.listed {
            self.maintenance.take(None, Timestamp::now());
        }
    }
}
