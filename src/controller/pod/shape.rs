//! Sample pods of a class: their requirements on nodes for placement, and pods for dry-run checks.
//!
//! Both use [`super::build`], so that they never differ from real pods.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::settings::Settings;
use domain::placement::capacity::Shape;
use domain::workspace::Kind;
use k8s::convert;
use k8s::resources::{Workspace, WorkspaceSpec, names};

use super::planned;

/// The shape of a class's pods; `None` if none can be built.
pub fn shape(settings: &Settings, class: &str, kind: Kind) -> Option<Shape> {
    Some(convert::shape(sample(settings, class, kind, "any")?.spec.as_ref()?))
}

/// The pod that the controller would create for workspace `id` of a class; `None` if none can be built.
pub fn sample(settings: &Settings, class: &str, kind: Kind, id: &str) -> Option<Pod> {
    planned(sample_workspace(class, kind, id), settings)
}

/// A workspace of a class without content.
pub fn sample_workspace(class: &str, kind: Kind, id: &str) -> Workspace {
    let mut spec = WorkspaceSpec { class: class.to_owned(), type_: kind, ..WorkspaceSpec::default() };
    spec.image.workspace.reference = Some("any".to_owned());
    (spec.ownership.owner, spec.ownership.workspace_id) = (id.to_owned(), id.to_owned());
    let labels = [(names::WORKSPACE_ID, id), (names::OWNER, id), (names::MANAGED_BY, names::MANAGER)];
    let metadata = ObjectMeta {
        name: Some(id.to_owned()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..ObjectMeta::default()
    };
    Workspace { metadata, spec, status: None }
}
