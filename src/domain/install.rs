//! Putting into a cluster what a member needs.

use super::names::Namespace;

/// Folder on nodes that holds content, where neither configuration nor cluster says otherwise.
pub const WORKSPACE_HOST_PATH: &str = "/var/gitpod/workspaces-mk2";

/// What shall be put there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Workspace namespaces with their secrets namespaces; empty: those of the manifests.
    pub namespaces: Vec<(Namespace, Namespace)>,
    /// Whether fields are taken over that others own with other values.
    pub force_conflicts: bool,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
    /// Whether a kubeconfig of the manager's own login is made.
    pub with_login: bool,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there and is another now.
    Changed,
    /// It was there as it should be.
    Unchanged,
}

/// One object and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its kind.
    pub kind: String,
    /// Empty where it is of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}
