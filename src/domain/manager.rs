//! `manager` of the configuration: how workspaces run, unless the cluster overrides it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::class::Class;
use super::cluster::{ClearText, NodeAgent};
use super::names::{ClassId, Namespace};
use super::pod_annotations::PodAnnotations;
use super::template::{PortUrl, WorkspaceUrl};

/// How workspaces run.
#[derive(Debug, Clone)]
pub struct Manager {
    /// Default namespace of workspaces.
    pub namespace: Namespace,
    /// Default namespace of their token Secrets.
    pub secrets_namespace: Namespace,
    /// Scheduler; `None` means the cluster's default.
    pub scheduler_name: Option<String>,
    /// A localhost profile.
    pub seccomp_profile: Option<String>,
    /// Timeouts of workspaces.
    pub timeouts: Timeouts,
    /// URL template of workspaces.
    pub workspace_url: WorkspaceUrl,
    /// URL template of ports.
    pub port_url: PortUrl,
    /// Folder on the node for workspaces' content.
    pub workspace_host_path: String,
    /// Interval at which a workspace reports activity.
    pub heartbeat_interval: Duration,
    /// URL of the installation.
    pub host_url: Url,
    /// Default node agent.
    pub node_agent: NodeAgent,
    /// Default handling of starts whose secrets an existing node agent needs in clear text.
    pub clear_text_secrets: ClearText,
    /// Registry facade from which images are pulled.
    pub registry_facade_host: Option<String>,
    /// Whether workspaces start through workspacekit; otherwise by the image's own entry point.
    pub workspacekit: bool,
    /// An environment variable of workspaces.
    pub workspace_cluster_host: Option<String>,
    /// Classes of namespaces that define none.
    pub classes: BTreeMap<ClassId, Class>,
    /// Folder with the pod templates that cluster files may name.
    pub template_folder: Option<PathBuf>,
    /// Class of requests that name none.
    pub preferred_class: Option<ClassId>,
    /// Concurrent reconciles in one namespace.
    pub workspace_reconcilers: usize,
    /// Whether workspaces trust the installation's own certificate authority.
    pub custom_ssl_certificate: bool,
    /// An environment variable of workspaces.
    pub ssh_gateway_ca_public_key: Option<String>,
    /// Annotations of clients that are copied to pods.
    pub pod_annotations: PodAnnotations,
    /// Recreation of pods that a node refused.
    pub pod_recreation: Recreation,
    /// Name of the ConfigMap that puts a namespace under maintenance.
    pub maintenance_config_map: String,
}

/// Timeouts of a workspace, each with its start. Zero means at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Creating and initializing, since the creation; also for a workspace that nobody ever opened.
    pub startup: Duration,
    /// Pending, since the creation.
    pub initialization: Duration,
    /// A container that the kubelet cannot create or start, since its first failure.
    pub container_start: Duration,
    /// Since the last activity.
    pub regular_workspace: Duration,
    /// Since the creation, whatever happens.
    pub max_lifetime: Duration,
    /// A headless workspace, since the creation.
    pub headless_workspace: Duration,
    /// Since the last activity, once the user closed the workspace.
    pub after_close: Duration,
    /// The backup, since the stop.
    pub content_finalization: Duration,
    /// Termination of the pod, since the stop.
    pub stopping: Duration,
    /// Since the state of the pod is unknown.
    pub interrupted: Duration,
}

impl Default for Timeouts {
    /// Defaults of the configuration.
    fn default() -> Self {
        Self {
            startup: Duration::from_hours(1),
            initialization: Duration::from_mins(30),
            container_start: Duration::from_mins(5),
            regular_workspace: Duration::from_mins(30),
            max_lifetime: Duration::from_hours(36),
            headless_workspace: Duration::from_hours(1),
            after_close: Duration::from_mins(2),
            content_finalization: Duration::from_hours(1),
            stopping: Duration::from_hours(1),
            interrupted: Duration::from_mins(5),
        }
    }
}

/// Recreation of a pod that its node refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recreation {
    /// Maximum number of recreations.
    pub max_retries: u32,
    /// Delay before each.
    pub backoff: Duration,
}

impl Default for Recreation {
    fn default() -> Self {
        Self { max_retries: 3, backoff: Duration::from_secs(15) }
    }
}
