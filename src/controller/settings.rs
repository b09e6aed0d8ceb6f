//! Settings of the controller of a namespace. They are replaced as a whole when the configuration changes; a reconcile uses
//! one value from beginning to end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Pod;

use domain::class::Class;
use domain::manager::{Recreation, Timeouts};
use domain::names::{Namespace, WorkspaceId};
use domain::pod_annotations::PodAnnotations;
use domain::signing::{Keying, SigningKeys};
use domain::template::WorkspaceUrl;
use domain::workspace::Kind;

use super::pod::merge_templates;
use super::templates::PodTemplates;

/// Settings of one namespace.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The workspace namespace.
    pub namespace: Namespace,
    /// Namespace of the `<id>-tokens` Secrets.
    pub secrets_namespace: Namespace,
    /// Secrets that a workspace may reference in addition to labelled ones.
    pub allowed_secrets: BTreeSet<String>,
    /// Workspace classes by id.
    pub classes: BTreeMap<String, ClassSettings>,
    /// Timeouts of a workspace.
    pub timeouts: Timeouts,
    /// Template of a workspace's URL.
    pub url: WorkspaceUrl,
    /// `hostURL` of the configuration.
    pub host_url: String,
    /// Host of this cluster's workspaces, only for an environment variable.
    pub workspace_cluster_host: String,
    /// Folder on the node that has the contents of workspaces.
    pub workspace_host_path: String,
    /// Scheduler of the pods; empty for the cluster's default.
    pub scheduler_name: String,
    /// Localhost seccomp profile; `None` for the runtime's default.
    pub seccomp_profile: Option<String>,
    /// Registry facade, which composes images; without one the workspace image is used directly.
    pub registry_facade_host: Option<String>,
    /// Whether images have `/.supervisor/workspacekit`; without it the image's own entry point runs.
    pub workspacekit: bool,
    /// Interval at which a workspace reports activity.
    pub heartbeat_interval: Duration,
    /// Whether workspaces trust the configured certificate authority.
    pub custom_ca: bool,
    /// Annotations of a Workspace that are copied to its pod.
    pub pod_annotations: PodAnnotations,
    /// Recreation of refused pods.
    pub recreation: Recreation,
    /// Number of concurrent reconciles, at least 1.
    pub concurrency: usize,
    /// Deadline of a reconcile.
    pub pass_deadline: Duration,
}

impl Settings {
    /// Path of a workspace's content on its node.
    pub fn content_path(&self, id: &str) -> String {
        format!("{}/{id}", self.workspace_host_path.trim_end_matches('/'))
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
    /// Merges the template of each workspace type into the default one.
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

    /// The merged template for a workspace type.
    pub fn template(&self, kind: Kind) -> Option<&Pod> {
        match kind {
            Kind::Regular => self.templates.regular.as_ref(),
            Kind::Prebuild => self.templates.prebuild.as_ref(),
            Kind::ImageBuild => self.templates.imagebuild.as_ref(),
        }
    }
}

/// Derives owner tokens, which authorize access to a workspace.
pub trait OwnerTokens: Send + Sync {
    /// The token of a start; deterministic for the same arguments.
    fn owner_token(&self, id: &WorkspaceId, generation: u32, keying: Option<&Keying>) -> String;
}

impl OwnerTokens for ArcSwap<SigningKeys> {
    fn owner_token(&self, id: &WorkspaceId, generation: u32, keying: Option<&Keying>) -> String {
        self.load().owner_token(id, generation, keying)
    }
}
