//! What the controller of a namespace is told by the configuration. Swapped as a whole when the configuration changes;
//! a pass works with one value from beginning to end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Pod;

use domain::class::Class;
use domain::keyed::{Keyed, Keying};
use domain::names::{Namespace, WorkspaceId};
use domain::pod_annotations::PodAnnotations;
use domain::template::WorkspaceUrl;
use k8s::resources::WorkspaceType;

use super::pod::merge_templates;
use super::templates::PodTemplates;

/// Settings of one namespace.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The workspace namespace.
    pub namespace: Namespace,
    /// Where `<id>-tokens` secrets are.
    pub secrets_namespace: Namespace,
    /// Secrets of the namespace that a workspace may reference, beside those that are labelled.
    pub allowed_secrets: BTreeSet<String>,
    /// Classes that pods can be made with, by id.
    pub classes: BTreeMap<String, ClassSettings>,
    /// Limits of a workspace's life.
    pub timeouts: Timeouts,
    /// URL of a workspace.
    pub url: WorkspaceUrl,
    /// `hostURL` of the configuration.
    pub host_url: String,
    /// Host of this cluster's workspaces; only an environment variable.
    pub workspace_cluster_host: String,
    /// Folder on the node under which contents are.
    pub workspace_host_path: String,
    /// Scheduler of the pods; empty for the cluster's default.
    pub scheduler_name: String,
    /// Seccomp profile on the node; the runtime's default where none is named.
    pub seccomp_profile: Option<String>,
    /// Registry that composes images; without one the workspace image is used directly.
    pub registry_facade_host: Option<String>,
    /// Whether images hold `/.supervisor/workspacekit`; without it the image's own entry point runs.
    pub workspacekit: bool,
    /// How often a workspace reports activity.
    pub heartbeat_interval: Duration,
    /// Whether workspaces trust the configured certificate authority.
    pub custom_ca: bool,
    /// Annotations of clients that reach the pod.
    pub pod_annotations: PodAnnotations,
    /// Making a refused pod again.
    pub recreation: Recreation,
    /// How many workspaces are worked on at once, at least 1.
    pub concurrency: usize,
    /// How long one pass may take.
    pub pass_deadline: Duration,
}

impl Settings {
    /// Where the content of a workspace is on its node.
    pub fn content_path(&self, id: &str) -> String {
        format!("{}/{id}", self.workspace_host_path.trim_end_matches('/'))
    }
}

/// Limits of a workspace's life. Zero means at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Creating and initializing, since the creation; also for a workspace that nobody ever opened.
    pub startup: Duration,
    /// Pending, since the creation.
    pub initialization: Duration,
    /// A container that the kubelet cannot create or start, since it says so.
    pub container_start: Duration,
    /// Inactivity.
    pub regular_workspace: Duration,
    /// Since the creation, whatever happens.
    pub max_lifetime: Duration,
    /// A headless workspace, since the creation.
    pub headless_workspace: Duration,
    /// Inactivity once the user closed it.
    pub after_close: Duration,
    /// The backup, since the stop.
    pub content_finalization: Duration,
    /// A pod that does not go away, since the stop.
    pub stopping: Duration,
    /// A pod whose state nobody can tell, since it cannot be told.
    pub interrupted: Duration,
}

impl Default for Timeouts {
    /// The values of an ordinary installation.
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Self {
            startup: minutes(60),
            initialization: minutes(30),
            container_start: minutes(5),
            regular_workspace: minutes(30),
            max_lifetime: minutes(36 * 60),
            headless_workspace: minutes(60),
            after_close: minutes(2),
            content_finalization: minutes(60),
            stopping: minutes(60),
            interrupted: minutes(5),
        }
    }
}

/// Making a pod again that its node refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recreation {
    /// How often at most.
    pub max_retries: u32,
    /// How long to wait before.
    pub backoff: Duration,
}

impl Default for Recreation {
    fn default() -> Self {
        Self { max_retries: 3, backoff: Duration::from_secs(15) }
    }
}

/// A class with its templates.
#[derive(Debug, Clone)]
pub struct ClassSettings {
    /// The class.
    pub class: Class,
    templates: Templates,
}

#[derive(Debug, Clone, Default)]
struct Templates {
    regular: Option<Pod>,
    prebuild: Option<Pod>,
    imagebuild: Option<Pod>,
}

impl ClassSettings {
    /// A class with its templates, the ones of a type merged into the default once and for all.
    pub fn new(class: Class, templates: &PodTemplates) -> Self {
        let merged = |of_type: &Option<Pod>| match (&templates.default, of_type) {
            (Some(default), Some(of_type)) => Some(merge_templates(default, of_type)),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        };
        let templates = Templates {
            regular: merged(&templates.regular),
            prebuild: merged(&templates.prebuild),
            imagebuild: merged(&templates.imagebuild),
        };
        Self { class, templates }
    }

    /// The template for workspaces of a type.
    pub fn template(&self, kind: WorkspaceType) -> Option<&Pod> {
        match kind {
            WorkspaceType::Regular => self.templates.regular.as_ref(),
            WorkspaceType::Prebuild => self.templates.prebuild.as_ref(),
            WorkspaceType::ImageBuild => self.templates.imagebuild.as_ref(),
        }
    }
}

/// Gives the token that opens a workspace.
pub trait OwnerTokens: Send + Sync {
    /// The token of one start of a workspace; the same whenever asked.
    fn owner_token(&self, id: &WorkspaceId, generation: u32, keying: Option<&Keying>) -> String;
}

impl OwnerTokens for ArcSwap<Keyed> {
    fn owner_token(&self, id: &WorkspaceId, generation: u32, keying: Option<&Keying>) -> String {
        self.load().owner_token(id, generation, keying)
    }
}
