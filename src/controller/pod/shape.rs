//! What the pods of a class ask of nodes: taken from such a pod as it would be made, so that the two never differ.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::convert;
use crate::cluster::resources::{Workspace, WorkspaceSpec, WorkspaceType};
use crate::controller::settings::Settings;
use crate::domain::placement::capacity::Shape;
use crate::domain::workspace::Kind;

use super::{PodInput, build};

/// The shape of a class's pods, or `None` where no pod of it could be made.
pub fn shape(settings: &Settings, class: &str, kind: Kind) -> Option<Shape> {
    let mut spec =
        WorkspaceSpec { class: class.to_owned(), type_: type_of(kind), ..WorkspaceSpec::default() };
    spec.image.workspace.reference = Some("any".to_owned());
    let metadata =
        ObjectMeta { name: Some("any".to_owned()), uid: Some("any".to_owned()), ..ObjectMeta::default() };
    let workspace = Workspace { metadata, spec, status: None };
    let input = PodInput::parse(&workspace, settings).ok()?;
    Some(convert::shape(build(&input).spec.as_ref()?))
}

fn type_of(kind: Kind) -> WorkspaceType {
    match kind {
        Kind::Regular => WorkspaceType::Regular,
        Kind::Prebuild => WorkspaceType::Prebuild,
        Kind::ImageBuild => WorkspaceType::ImageBuild,
    }
}
