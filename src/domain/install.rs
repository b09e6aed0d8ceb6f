//! Installing in a cluster the objects that a member cluster needs.

use super::names::Namespace;

/// Default folder on nodes for the contents of workspaces.
pub const WORKSPACE_HOST_PATH: &str = "/var/gitpod/workspaces-mk2";

/// Options of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Workspace namespaces with their secrets namespaces; empty: those of the manifests.
    pub namespaces: Vec<(Namespace, Namespace)>,
    /// Whether to force conflicts of server-side apply with other field managers.
    pub force_conflicts: bool,
    /// Whether to report the changes without making them.
    pub dry_run: bool,
    /// Whether to create a kubeconfig with the manager's own login.
    pub with_login: bool,
}

/// Result for one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did not exist.
    Created,
    /// It existed and was changed.
    Changed,
    /// It existed and is unchanged.
    Unchanged,
}

/// One object and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its kind.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Result.
    pub outcome: Outcome,
}
