//! What a start requires of its place, and what it prefers.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{ClassId, ClusterName, Namespace, Region};
use crate::workspace::Kind;

/// Requirements and preferences of a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacementRequest {
    /// Regions in order of preference; empty: no preference.
    pub regions: Vec<Region>,
    /// Whether other regions are rejected.
    pub require_region: bool,
    /// Required cluster.
    pub cluster: Option<ClusterName>,
    /// Required labels of the cluster, with their values.
    pub labels: BTreeMap<String, String>,
    /// Permissions that the caller holds.
    pub permissions: BTreeSet<String>,
    /// Required namespace.
    pub namespace: Option<Namespace>,
    /// The class; `None`: the preferred class of the namespace.
    pub class: Option<ClassId>,
    /// The kind: headless workspaces have nodes of their own.
    pub kind: Kind,
    /// Breaks ties; the workspace id, so that a repeated call breaks them alike.
    pub seed: String,
}
