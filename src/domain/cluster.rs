//! A member cluster as the admin registered it.

mod change;
mod differences;
pub mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::{ClusterName, Namespace, Region, SecretName};
use super::secret_ref::SecretRef;

pub use change::SpecChange;
pub use differences::differences;

/// The permission that marks a canary cluster: where a cluster demands it, those who hold it are placed there first.
pub const CANARY_PERMISSION: &str = "new-workspace-cluster";
/// The permission that the constraint `featurePreview` asks for.
pub const FEATURE_PREVIEW_PERMISSION: &str = "feature-preview";
/// Upper bound of a weight where the registration names none.
pub const DEFAULT_MAX_WEIGHT: u32 = 100;

/// What the admin wants of a cluster. Kept apart from what is observed of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Unique in the installation.
    pub name: ClusterName,
    /// Where it is.
    pub region: Region,
    /// Free labels that a request may ask for.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Share of new workspaces against other clusters; never above `max_weight`; 0 takes none.
    pub weight: u32,
    /// Upper bound of `weight`.
    pub max_weight: u32,
    /// Whether new workspaces are kept away.
    #[serde(default)]
    pub cordoned: bool,
    /// Whether what its nodes have left limits what is placed there.
    #[serde(default)]
    pub capacity: Capacity,
    /// Whether the cluster itself refuses what an earlier leader writes.
    #[serde(default)]
    pub fence: FenceMode,
    /// What a request must hold to be placed here; all must hold.
    #[serde(default)]
    pub admission_constraints: Vec<Constraint>,
    /// The workspace namespaces, at least one; the first is the default.
    pub namespaces: Vec<NamespaceSpec>,
    /// Where its kubeconfig is in the manager's own cluster; absent where Spaceport keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret: Option<SecretRef>,
}

/// How many workspaces a cluster takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Capacity {
    /// As many as its nodes have room for now.
    #[default]
    Nodes,
    /// As many as are placed there: an autoscaler adds nodes for pods that find none.
    Unlimited,
}

/// Whether a cluster is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FenceMode {
    /// Its apiserver refuses writes of earlier leaders.
    #[default]
    Enforced,
    /// It does not: a write that an earlier leader sent may still arrive. For clusters without the policies.
    Off,
}

/// A condition on requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Constraint {
    /// The request must carry this permission.
    Permission(String),
    /// The request must carry [`FEATURE_PREVIEW_PERMISSION`].
    FeaturePreview(bool),
}

impl Constraint {
    /// The permission a request needs, if it needs one.
    pub fn permission(&self) -> Option<&str> {
        match self {
            Self::Permission(permission) => Some(permission),
            Self::FeaturePreview(true) => Some(FEATURE_PREVIEW_PERMISSION),
            Self::FeaturePreview(false) => None,
        }
    }
}

/// Which node agent serves a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeAgent {
    /// One that resolves references to secrets in git passwords alone.
    #[default]
    Existing,
    /// Spaceport's own, which resolves them wherever a start has a secret.
    Spaceport,
}

/// What becomes of a start with secrets that an existing node agent must be given in clear text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClearText {
    /// They stay in the Workspace resource as they are.
    #[default]
    Keep,
    /// It is rejected there.
    Refuse,
}

impl fmt::Display for NodeAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Existing => "existing",
            Self::Spaceport => "spaceport",
        })
    }
}

impl fmt::Display for ClearText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Refuse => "refuse",
        })
    }
}

impl FromStr for NodeAgent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "existing" => Ok(Self::Existing),
            "spaceport" => Ok(Self::Spaceport),
            _ => Err("must be existing or spaceport"),
        }
    }
}

impl FromStr for ClearText {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keep" => Ok(Self::Keep),
            "refuse" => Ok(Self::Refuse),
            _ => Err("must be keep or refuse"),
        }
    }
}

/// One workspace namespace of a cluster; what is absent falls back to the manager's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSpec {
    /// Where Workspace resources and pods live.
    pub namespace: Namespace,
    /// Where token secrets live.
    pub secrets_namespace: Namespace,
    /// The class used where a request names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_class: Option<String>,
    /// Classes by id, in the form of the configuration's `workspaceClass` entries; empty: those of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, serde_json::Value>,
    /// Overrides `manager.urlTemplate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_template: Option<String>,
    /// Overrides `manager.portUrlTemplate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_url_template: Option<String>,
    /// Overrides `manager.workspaceClusterHost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_cluster_host: Option<String>,
    /// Overrides `manager.registryFacadeHost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_facade_host: Option<String>,
    /// Overrides `manager.seccompProfile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<String>,
    /// Overrides `manager.schedulerName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// Overrides `manager.nodeAgent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_agent: Option<NodeAgent>,
    /// Overrides `manager.clearTextSecrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_text_secrets: Option<ClearText>,
    /// Secrets of the namespace that a start may reference, beside those that are labelled.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_secrets: BTreeSet<SecretName>,
    /// gRPC target of the cluster's image builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_builder: Option<ImageBuilder>,
}

/// Namespaces of clusters that name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultNamespaces {
    /// For workspaces.
    pub workspaces: Namespace,
    /// For their token secrets.
    pub secrets: Namespace,
}

impl NamespaceSpec {
    /// One that takes everything from the manager's configuration.
    pub fn of_defaults(namespace: Namespace, secrets_namespace: Namespace) -> Self {
        Self {
            namespace,
            secrets_namespace,
            preferred_class: None,
            classes: BTreeMap::new(),
            url_template: None,
            port_url_template: None,
            workspace_cluster_host: None,
            registry_facade_host: None,
            seccomp_profile: None,
            scheduler_name: None,
            node_agent: None,
            clear_text_secrets: None,
            allowed_secrets: BTreeSet::new(),
            image_builder: None,
        }
    }
}

/// Where a cluster's image builder answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBuilder {
    /// gRPC target, `host:port`.
    pub target_addr: String,
}

/// A specification that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster}: {field} {rule}")]
pub struct Error {
    /// The cluster.
    pub cluster: ClusterName,
    /// The field, as in the cluster file.
    pub field: &'static str,
    /// The rule.
    pub rule: &'static str,
}

/// The largest `maxWeight`.
pub const LARGEST_WEIGHT: u32 = 1000;

impl ClusterSpec {
    /// Checks what the types alone do not hold.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |field, rule| Err(Error { cluster: self.name.clone(), field, rule });
        if self.max_weight == 0 || self.max_weight > LARGEST_WEIGHT {
            return fail("maxWeight", "must be from 1 to 1000");
        }
        if self.weight > self.max_weight {
            return fail("weight", "must not be above maxWeight");
        }
        if self.namespaces.is_empty() {
            return fail("namespaces", "must name at least one namespace");
        }
        for (at, namespace) in self.namespaces.iter().enumerate() {
            if self.namespaces[..at].iter().any(|other| other.namespace == namespace.namespace) {
                return fail("namespaces", "must not name a namespace twice");
            }
            if namespace.secrets_namespace == namespace.namespace {
                return fail("namespaces.secretsNamespace", "must differ from the workspace namespace");
            }
        }
        if self.admission_constraints.iter().any(|c| c.permission() == Some("")) {
            return fail("admissionConstraints.permission", "must not be empty");
        }
        let is_key = |key: &str| {
            let character = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            (1..=253).contains(&key.len()) && key.chars().all(character)
        };
        if !self.labels.keys().all(|key| is_key(key)) {
            return fail("labels", "must have keys of 1 to 253 letters, digits, '-', '_', '.' or '/'");
        }
        let is_value = |value: &str| value.len() <= 253 && !value.chars().any(char::is_control);
        if !self.labels.values().all(|value| is_value(value)) {
            return fail("labels", "must have values of at most 253 bytes without control characters");
        }
        Ok(())
    }
}
