//! The registered specification of a member cluster.

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

/// The permission that marks a canary cluster: a cluster that requires it is preferred for requests that hold it.
pub const CANARY_PERMISSION: &str = "new-workspace-cluster";
/// The permission that the constraint `featurePreview` requires.
pub const FEATURE_PREVIEW_PERMISSION: &str = "feature-preview";
/// Default of `maxWeight`.
pub const DEFAULT_MAX_WEIGHT: u32 = 100;

/// Specification of a cluster by the admin. Observed state is a different type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Unique in the installation.
    pub name: ClusterName,
    /// Region, matched against the regions of requests.
    pub region: Region,
    /// Labels that a request may require.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Share of new workspaces relative to other clusters; at most `max_weight`; 0 means none.
    pub weight: u32,
    /// Upper bound of `weight`.
    pub max_weight: u32,
    /// Whether the cluster gets no new workspaces.
    #[serde(default)]
    pub cordoned: bool,
    /// Whether available capacity of the nodes limits placement.
    #[serde(default)]
    pub capacity: Capacity,
    /// Whether the cluster rejects writes of earlier leaders.
    #[serde(default)]
    pub fence: FenceMode,
    /// Constraints that a request must meet to be placed here, all of them.
    #[serde(default)]
    pub admission_constraints: Vec<Constraint>,
    /// The workspace namespaces, at least one; the first is the default.
    pub namespaces: Vec<NamespaceSpec>,
    /// Secret in the host cluster that has the kubeconfig; `None` if Spaceport stores the kubeconfig in etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret: Option<SecretRef>,
}

/// Limit on the workspaces of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Capacity {
    /// As many as fit on its current nodes.
    #[default]
    Nodes,
    /// No limit: an autoscaler adds nodes for pending pods.
    Unlimited,
}

/// Whether a cluster is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FenceMode {
    /// Its apiserver rejects writes of earlier leaders.
    #[default]
    Enforced,
    /// A late write of an earlier leader may still be applied. For clusters without the admission policies.
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
    /// The permission that a request needs; `None` if none.
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
    /// Gitpod's, which resolves references to Secrets only in git passwords.
    #[default]
    Existing,
    /// Spaceport's own, which resolves them in every secret field of a start.
    Spaceport,
}

/// Handling of a start with secrets that an existing node agent needs in clear text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClearText {
    /// They stay in clear text in the Workspace resource.
    #[default]
    Keep,
    /// The start is rejected.
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

/// One workspace namespace of a cluster. Absent fields default to the manager's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSpec {
    /// Namespace of Workspace resources and pods.
    pub namespace: Namespace,
    /// Namespace of token Secrets.
    pub secrets_namespace: Namespace,
    /// The class of requests that name none.
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
    /// Secrets that a start may reference in addition to labelled ones.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_secrets: BTreeSet<SecretName>,
    /// gRPC target of the cluster's image builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_builder: Option<ImageBuilder>,
}

/// Default namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultNamespaces {
    /// For workspaces.
    pub workspaces: Namespace,
    /// For their token secrets.
    pub secrets: Namespace,
}

impl NamespaceSpec {
    /// A namespace with the manager's configuration.
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

/// Address of a cluster's image builder.
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
    /// Checks the rules that the types do not enforce.
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
