//! Passes what the caches of a member cluster see to the index, the controllers and the fleet's caller.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::callbacks::Callbacks;
use super::settings::Settings;
use crate::view::index::{ClusterFacts, Index, Session};
use controller::{Controller, ObstacleObserver};
use domain::names::{Namespace, WorkspaceId};
use k8s::convert::{ViewSettings, end_message, lacks_labels, view};
use k8s::resources::Workspace;
use member::cache::Observer;

/// Passes what a member's caches see to the index, the controllers and the fleet's caller.
pub(super) struct Watcher {
    /// Of the connection whose caches these are.
    pub(super) session: Session,
    pub(super) index: Arc<Index>,
    pub(super) callbacks: Arc<dyn Callbacks>,
    pub(super) settings: BTreeMap<Namespace, Arc<ArcSwap<Settings>>>,
    /// This installation's id.
    pub(super) installation: Arc<str>,
    pub(super) changes: watch::Sender<()>,
    /// Not held: a controller holds the cache that holds this, and a member that left would never go.
    pub(super) controllers: RwLock<BTreeMap<Namespace, Weak<Controller>>>,
}

impl Watcher {
    fn controller(&self, namespace: &Namespace) -> Option<Arc<Controller>> {
        self.controllers.read().get(namespace).and_then(Weak::upgrade)
    }
}

impl Watcher {
    /// Shows a workspace as the settings of now have it.
    pub(super) fn show(&self, namespace: &Namespace, workspace: &Workspace) {
        let Some(settings) = self.settings.get(namespace) else { return };
        let settings = settings.load();
        let view_settings = ViewSettings {
            default_timeout: &settings.default_timeout,
            closed_timeout: &settings.closed_timeout,
            urls: &**settings,
            installation: &self.installation,
        };
        if let Some(view) = view(workspace, &view_settings) {
            let id = view.id.clone();
            self.index.resource(&self.session, view);
            if self.index.has_ended(&id) || lacks_labels(&workspace.metadata) {
                self.callbacks.recheck(&id);
            }
        } else if let Some(Ok(id)) = workspace.metadata.name.as_deref().map(str::parse::<WorkspaceId>) {
            // Another installation took it over.
            self.index.let_go(&self.session, namespace, &id);
        }
    }
}

impl Watcher {
    /// Takes what is known of the cluster now.
    pub(super) fn tell(&self, facts: ClusterFacts) {
        self.index.cluster(&self.session, facts);
    }

    /// Takes that a restore of the cluster was detected; `found` is for the log.
    pub(super) fn set_back(&self, found: &str) {
        let cluster = self.session.cluster();
        tracing::error!(%cluster, found, "restore of the cluster's etcd detected");
        self.index.rewound(&self.session);
    }
}

/// Passes why workspaces of a namespace cannot be written to the index.
pub(super) struct Obstacles {
    pub(super) watcher: Arc<Watcher>,
    pub(super) namespace: Namespace,
}

impl ObstacleObserver for Obstacles {
    fn obstacle(&self, workspace: &str, why: Option<&str>) {
        if let Ok(id) = workspace.parse::<WorkspaceId>() {
            self.watcher.index.obstacle(&self.watcher.session, &self.namespace, &id, why);
        }
    }
}

impl Observer for Watcher {
    fn workspace(&self, namespace: &Namespace, workspace: &Arc<Workspace>) {
        self.show(namespace, workspace);
        if let (Some(controller), Some(name)) = (self.controller(namespace), &workspace.metadata.name) {
            controller.enqueue(name);
        }
    }

    fn workspace_gone(&self, namespace: &Namespace, last: &Arc<Workspace>) {
        let Some(name) = &last.metadata.name else { return };
        if let Some(controller) = self.controller(namespace) {
            controller.enqueue(name);
        }
        if let Ok(id) = name.parse::<WorkspaceId>() {
            self.index.resource_gone(&self.session, namespace, &id, end_message(last));
            self.callbacks.recheck(&id);
        }
    }

    fn workspace_unreadable(&self, namespace: &Namespace, workspace: &str) {
        if let Ok(id) = workspace.parse::<WorkspaceId>() {
            self.index.unreadable(&self.session, namespace, &id);
        }
    }

    fn pods_changed(&self, namespace: &Namespace, workspace: &str) {
        if let Some(controller) = self.controller(namespace) {
            controller.enqueue(workspace);
        }
    }

    fn node_changed(&self, node: &str) {
        for controller in self.controllers.read().values().filter_map(Weak::upgrade) {
            controller.node_changed(node);
        }
    }

    fn rewound(&self, _namespace: &Namespace) {
        self.set_back("Listed");
    }

    fn synced(&self, namespace: &Namespace) {
        self.index.listed(&self.session, namespace);
        for id in self.index.placed_on(self.session.cluster()) {
            self.callbacks.recheck(&id);
        }
        self.changes.send_replace(());
    }
}
