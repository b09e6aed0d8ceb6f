//! The controller of one namespace: its dependencies, its queue, and what it remembers between reconciles.

use std::sync::Arc;

use arc_swap::ArcSwap;

use member::acceptance::Acceptance;
use member::apply::Writer;
use member::cache::{Capacity, NamespaceCache, NodeCache};
use member::maintenance::Maintenance;

use super::backoff::Backoff;
use super::debounce::Debounce;
use super::obstacles::{ObstacleObserver, Obstacles};
use super::pod_failure::FailureEvents;
use super::queue::Queue;
use super::recent_actions::RecentActions;
use super::settings::{OwnerTokens, Settings};

/// Dependencies of a controller.
pub struct Parts {
    /// Workspaces and pods of the namespace.
    pub cache: Arc<NamespaceCache>,
    /// Nodes of the cluster.
    pub nodes: Arc<NodeCache>,
    /// Maintenance of the namespace.
    pub maintenance: Arc<Maintenance>,
    /// Learns which pods the namespace accepts.
    pub acceptance: Arc<Acceptance>,
    /// Learns what admitted pods request.
    pub capacity: Arc<Capacity>,
    /// Writes to the namespace in the current term; replaced only while the controller does not run.
    pub writer: ArcSwap<Writer>,
    /// Current settings; replaced when the configuration changes.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Derives owner tokens.
    pub tokens: Arc<dyn OwnerTokens>,
    /// Shows why workspaces cannot be written.
    pub obstacles: Arc<dyn ObstacleObserver>,
    /// Id of this installation: workspaces of other installations are ignored.
    pub installation: Arc<str>,
}

/// The controller of one namespace.
pub struct Controller {
    pub(super) parts: Parts,
    pub(super) queue: Queue,
    pub(super) backoff: Backoff,
    pub(super) recent: RecentActions,
    pub(super) debounce: Debounce,
    pub(super) failure_events: FailureEvents,
    pub(super) obstacles: Obstacles,
}

impl Controller {
    /// A controller that does nothing until [`Controller::run`].
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            queue: Queue::default(),
            backoff: Backoff::default(),
            recent: RecentActions::default(),
            debounce: Debounce::default(),
            failure_events: FailureEvents::default(),
            obstacles: Obstacles::default(),
        }
    }

    /// Queues a workspace that changed, or whose pod did. Cheap; ignored unless the controller runs.
    pub fn enqueue(&self, name: &str) {
        self.queue.add(name);
    }

    /// Number of workspaces whose reconcile failed several times in a row.
    pub fn failing(&self) -> usize {
        self.backoff.failing()
    }

    /// Number of workspaces that are due and not being reconciled.
    pub fn waiting(&self) -> usize {
        self.queue.due()
    }

    /// Queues all workspaces, as after a change of the settings.
    pub fn enqueue_all(&self) {
        for name in self.parts.cache.names() {
            self.queue.add(&name);
        }
    }
}
