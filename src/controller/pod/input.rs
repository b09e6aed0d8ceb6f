//! Checked input of a pod.

use k8s_openapi::api::core::v1::Pod;
use prost::Message;

use crate::settings::Settings;
use domain::class::Class;
use domain::template::Values;
use domain::workspace::Kind;
use k8s::resources::Workspace;
use proto::contentservice::{WorkspaceInitializer, workspace_initializer::Spec};

/// Why no pod can be built from a Workspace. A retry does not help; somebody must change the Workspace or the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The class is not configured in this namespace.
    #[error("workspace class {class:?} is not configured in this namespace; it has {}", known.join(", "))]
    UnknownClass {
        /// The requested class.
        class: String,
        /// The configured classes.
        known: Vec<String>,
    },
    /// The initializer does not decode as `contentservice.WorkspaceInitializer`.
    #[error("the initializer cannot be read")]
    Initializer(#[source] prost::DecodeError),
    /// No image is given, and none can be composed.
    #[error(
        "spec.image.workspace.ref is empty, and no registry facade is configured that could compose an image"
    )]
    NoImage,
    /// The resource has no uid or name, so it does not come from an apiserver.
    #[error("the workspace has no name or uid")]
    NoIdentity,
}

/// Checked input of a pod: [`super::build`] cannot fail with it.
#[derive(Debug)]
pub struct PodInput<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) settings: &'a Settings,
    pub(super) id: &'a str,
    pub(super) kind: Kind,
    pub(super) class: &'a Class,
    pub(super) template: Option<&'a Pod>,
    pub(super) image: String,
    pub(super) url: String,
    pub(super) checkout_roots: Vec<String>,
}

impl<'a> PodInput<'a> {
    /// Checks a Workspace against the settings.
    pub fn parse(workspace: &'a Workspace, settings: &'a Settings) -> Result<Self, Error> {
        let spec = &workspace.spec;
        let id =
            workspace.metadata.name.as_deref().filter(|name| !name.is_empty()).ok_or(Error::NoIdentity)?;
        if workspace.metadata.uid.as_deref().unwrap_or_default().is_empty() {
            return Err(Error::NoIdentity);
        }
        let class = settings.classes.get(&spec.class).ok_or_else(|| Error::UnknownClass {
            class: spec.class.clone(),
            known: settings.classes.keys().cloned().collect(),
        })?;
        let initializer =
            WorkspaceInitializer::decode(spec.initializer.0.0.as_slice()).map_err(Error::Initializer)?;
        let values = Values { id, prefix: &spec.ownership.workspace_id, host: &settings.host_url };
        Ok(Self {
            workspace,
            settings,
            id,
            kind: spec.type_,
            class: &class.class,
            template: class.template(spec.type_),
            image: image(workspace, settings, id)?,
            url: settings.url.render(&values),
            checkout_roots: checkout_roots(&initializer),
        })
    }

    pub(super) fn headless(&self) -> bool {
        self.kind != Kind::Regular
    }
}

fn image(workspace: &Workspace, settings: &Settings, id: &str) -> Result<String, Error> {
    if let Some(host) = &settings.registry_facade_host {
        return Ok(format!("{host}/remote/{id}"));
    }
    let reference = workspace.spec.image.workspace.reference.as_deref();
    reference.filter(|reference| !reference.is_empty()).map(ToOwned::to_owned).ok_or(Error::NoImage)
}

/// Folders of the repositories below `/workspace`; without a repository one empty entry, which means `/workspace` itself.
fn checkout_roots(initializer: &WorkspaceInitializer) -> Vec<String> {
    let mut locations = Vec::new();
    collect_locations(initializer, &mut locations);
    if locations.is_empty() {
        locations.push(String::new());
    }
    locations.iter().map(|location| under_workspace(location)).collect()
}

fn collect_locations(initializer: &WorkspaceInitializer, found: &mut Vec<String>) {
    match &initializer.spec {
        Some(Spec::Git(git)) => found.push(git.checkout_location.clone()),
        Some(Spec::Backup(backup)) => found.push(backup.checkout_location.clone()),
        Some(Spec::Prebuild(prebuild)) => {
            found.extend(prebuild.git.iter().map(|git| git.checkout_location.clone()));
        }
        // prost bounds how deep a message can nest, so this ends.
        Some(Spec::Composite(composite)) => {
            for child in &composite.initializer {
                collect_locations(child, found);
            }
        }
        Some(Spec::Empty(_) | Spec::Snapshot(_) | Spec::Download(_)) | None => {}
    }
}

/// A path under `/workspace`; `path` may begin with that folder or not.
pub(super) fn under_workspace(path: &str) -> String {
    let inner = path.strip_prefix("/workspace").unwrap_or(path).trim_matches('/');
    if inner.is_empty() { "/workspace".to_owned() } else { format!("/workspace/{inner}") }
}
