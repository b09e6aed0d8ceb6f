//! A workspace as it is shown.

use std::sync::Arc;

use jiff::Timestamp;

use super::encoded_status::Shown;
use domain::names::{ClusterName, Region};

/// A notice to the users of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// When workspaces are stopped even if busy; absent: not for that.
    pub until: Option<Timestamp>,
}

/// A workspace with what the federation knows of its place.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What the resource says.
    pub view: Arc<Shown>,
    /// The owning cluster.
    pub cluster: ClusterName,
    /// Its region.
    pub region: Option<Region>,
    /// Orders states of one workspace, whoever answers.
    pub version: u64,
    /// Whether the cluster answers.
    pub reachable: bool,
    /// When the cluster last answered; absent while it is reachable.
    pub observed_at: Option<Timestamp>,
    /// Present while the cluster is being emptied.
    pub draining: Option<Notice>,
    /// Why this replica, where it leads, cannot write what it decided about the workspace, in a sentence. The resource does not
    /// have it, and other replicas do not know it.
    pub obstacle: Option<Arc<str>>,
}
