//! Handlers that apply watch events to the caches.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::{Capacity, NamespaceCache, NodeCache, Source, key};
use crate::canary::Canary;
use crate::maintenance::Maintenance;
use domain::names::Namespace;
use k8s::convert::{node, node_facts, pod_facts, resource_version};
use k8s::resources::names::{MANAGED_BY, MANAGER};
use k8s::resources::{SeenPod, Workspace};

use super::follow::Sink;

/// Workspaces of Spaceport: those whose label names Spaceport or no manager.
pub(super) struct Workspaces {
    cache: Arc<NamespaceCache>,
    capacity: Arc<Capacity>,
    source: Source,
}

impl Workspaces {
    /// Its source of capacity.
    pub(super) fn source(namespace: &Namespace) -> Source {
        Source::Workspaces(namespace.clone())
    }

    pub(super) fn new(cache: Arc<NamespaceCache>, capacity: Arc<Capacity>) -> Self {
        let source = Self::source(cache.namespace());
        Self { cache, capacity, source }
    }
}

impl Sink for Workspaces {
    type Object = Workspace;

    fn begin(&mut self) {
        self.capacity.begin(&self.source);
        self.cache.begin_workspaces();
    }

    fn put(&mut self, workspace: Workspace) {
        if is_ours(&workspace.metadata) {
            self.capacity.put_workspace(&self.source, &workspace);
            self.cache.put_workspace(workspace);
        } else {
            // It may have been handed over just now.
            self.remove(&workspace.metadata);
        }
    }

    fn keep(&mut self, name: &str) {
        self.capacity.keep(&self.source, &key(self.cache.namespace().as_str(), name));
        self.cache.keep_workspace(name);
    }

    fn remove(&mut self, meta: &ObjectMeta) {
        self.capacity.remove(&self.source, &name(meta));
        self.cache.remove_workspace(meta.name.as_deref().unwrap_or_default(), resource_version(meta));
    }

    fn deleted(&mut self, meta: &ObjectMeta) {
        self.capacity.remove(&self.source, &name(meta));
        self.cache.delete_workspace(meta.name.as_deref().unwrap_or_default(), resource_version(meta));
    }

    fn end(&mut self) {
        self.cache.end_workspaces();
        self.capacity.end(&self.source);
    }
}

fn name(meta: &ObjectMeta) -> String {
    key(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn is_ours(meta: &ObjectMeta) -> bool {
    let manager = meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    manager.is_none_or(|manager| manager == MANAGER)
}

/// Pods of workspaces.
pub(super) struct Pods {
    cache: Arc<NamespaceCache>,
    capacity: Arc<Capacity>,
    source: Source,
}

impl Pods {
    /// Its source of capacity.
    pub(super) fn source(namespace: &Namespace) -> Source {
        Source::Pods(namespace.to_string())
    }

    pub(super) fn new(cache: Arc<NamespaceCache>, capacity: Arc<Capacity>) -> Self {
        let source = Self::source(cache.namespace());
        Self { cache, capacity, source }
    }
}

impl Sink for Pods {
    type Object = SeenPod;

    fn begin(&mut self) {
        self.capacity.begin(&self.source);
        self.cache.begin_pods();
    }

    fn put(&mut self, pod: SeenPod) {
        let facts = pod_facts(&pod);
        self.capacity.put_pod(&self.source, &pod, facts.as_ref().map(|facts| facts.workspace.as_str()));
        if let Some(facts) = facts {
            self.cache.put_pod(facts);
        } else {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            self.cache.remove_pod(name, resource_version(&pod.metadata));
        }
    }

    fn keep(&mut self, name: &str) {
        self.capacity.keep(&self.source, &key(self.cache.namespace().as_str(), name));
        self.cache.keep_pod(name);
    }

    fn remove(&mut self, meta: &ObjectMeta) {
        self.capacity.remove(&self.source, &name(meta));
        self.cache.remove_pod(meta.name.as_deref().unwrap_or_default(), resource_version(meta));
    }

    fn end(&mut self) {
        self.cache.end_pods();
        self.capacity.end(&self.source);
    }
}

/// Other pods: they take capacity, and nothing else of them is kept.
pub(super) struct Others {
    pub(super) capacity: Arc<Capacity>,
    pub(super) source: Source,
}

impl Sink for Others {
    type Object = SeenPod;

    fn begin(&mut self) {
        self.capacity.begin(&self.source);
    }

    fn put(&mut self, pod: SeenPod) {
        self.capacity.put_pod(&self.source, &pod, None);
    }

    fn keep(&mut self, _: &str) {}

    fn remove(&mut self, meta: &ObjectMeta) {
        self.capacity.remove(&self.source, &name(meta));
    }

    fn end(&mut self) {
        self.capacity.end(&self.source);
    }
}

/// Nodes.
pub(super) struct Nodes(pub(super) Arc<NodeCache>, pub(super) Arc<Capacity>);

impl Sink for Nodes {
    type Object = Node;

    fn begin(&mut self) {
        self.1.begin(&Source::Nodes);
        self.0.begin();
    }

    fn put(&mut self, listed: Node) {
        self.1.put_node(node(&listed));
        self.0.put(node_facts(&listed));
    }

    fn keep(&mut self, name: &str) {
        self.1.keep(&Source::Nodes, name);
        self.0.keep(name);
    }

    fn remove(&mut self, meta: &ObjectMeta) {
        let name = meta.name.as_deref().unwrap_or_default();
        self.1.remove(&Source::Nodes, name);
        self.0.remove(name);
    }

    fn end(&mut self) {
        self.1.end(&Source::Nodes);
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

/// The canary's Lease.
pub(super) struct CanaryOf(pub(super) Arc<Canary>);

impl Sink for CanaryOf {
    type Object = Lease;

    fn begin(&mut self) {}

    fn put(&mut self, lease: Lease) {
        self.0.show(resource_version(&lease.metadata));
    }

    fn keep(&mut self, _: &str) {}

    fn remove(&mut self, _: &ObjectMeta) {}

    fn end(&mut self) {}
}
