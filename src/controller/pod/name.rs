//! Names of the pod of a workspace and of its container.

use domain::workspace::Kind;

/// Name of the container that the user works in.
pub const CONTAINER: &str = domain::pod::WORKSPACE_CONTAINER;

/// Name of the pod of a workspace: derived from its id, so that it cannot have two.
pub fn name(kind: Kind, id: &str) -> String {
    let prefix = match kind {
        Kind::Regular => "ws",
        Kind::Prebuild => "prebuild",
        Kind::ImageBuild => "imagebuild",
    };
    format!("{prefix}-{id}")
}
