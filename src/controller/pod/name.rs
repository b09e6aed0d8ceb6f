//! Names of the pod of a workspace and of its container.

use k8s::resources::WorkspaceType;

/// Name of the container that the user works in.
pub const CONTAINER: &str = domain::pod::WORKSPACE_CONTAINER;

/// Name of the pod of a workspace: derived from its id, so that it cannot have two.
pub fn name(kind: WorkspaceType, id: &str) -> String {
    let prefix = match kind {
        WorkspaceType::Regular => "ws",
        WorkspaceType::Prebuild => "prebuild",
        WorkspaceType::ImageBuild => "imagebuild",
    };
    format!("{prefix}-{id}")
}
