//! Pure: sizes of a workspace's image, from the images that the kubelet reports in the node's status.

use k8s::resources::{ImageInfo, Workspace};
use k8s_openapi::api::core::v1::{ContainerImage, Node};

/// What is known of the image of a workspace; `None` where the node does not list it (yet).
///
/// The image that the pod runs is composed by a registry facade, under `<facade>/remote/<instance id>`; where there is none, it
/// is the workspace's own.
pub fn info(node: &Node, workspace: &Workspace, instance: &str) -> Option<ImageInfo> {
    let images = node.status.as_ref()?.images.as_deref()?;
    let reference = workspace.spec.image.workspace.reference.as_deref();
    let own = reference.and_then(|reference| size(images, |name| is_same(name, reference)));
    let composed = format!("/remote/{instance}");
    let total = size(images, |name| without_version(name).ends_with(&composed)).or(own)?;
    Some(ImageInfo {
        total_size: total,
        workspace_image_ref: reference.map(str::to_owned),
        workspace_image_size: own,
    })
}

fn size(images: &[ContainerImage], is_it: impl Fn(&str) -> bool) -> Option<i64> {
    let image = images.iter().find(|image| image.names.iter().flatten().any(|name| is_it(name)))?;
    image.size_bytes
}

/// Whether a node's name of an image is the one that was asked for: nodes write default registry and tag out.
fn is_same(name: &str, asked: &str) -> bool {
    let full = |text: &str| {
        let text = text.strip_prefix("docker.io/").unwrap_or(text);
        let text = text.strip_prefix("library/").unwrap_or(text);
        if without_version(text) == text { format!("{text}:latest") } else { text.to_owned() }
    };
    full(name) == full(asked)
}

/// Without tag and digest. A colon before the last slash is that of a port.
fn without_version(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let path = name.rfind('/').map_or(0, |at| at + 1);
    match name.get(path..).and_then(|last| last.find(':')) {
        Some(colon) => name.get(..path + colon).unwrap_or(name),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({"status": {"images": [
            {"names": ["reg.example.com:20000/remote/abc@sha256:1", "reg.example.com:20000/remote/abc:latest"], "sizeBytes": 7},
            {"names": ["docker.io/library/busybox:1.36"], "sizeBytes": 3},
        ]}}))
        .unwrap()
    }

    fn workspace(reference: &str) -> Workspace {
        let mut workspace = Workspace::new("abc", Default::default());
        workspace.spec.image.workspace.reference = Some(reference.to_owned());
        workspace
    }

    #[test]
    fn the_composed_image_counts_and_the_users_own_is_named() {
        let found = info(&node(), &workspace("busybox:1.36"), "abc").unwrap();
        assert_eq!((found.total_size, found.workspace_image_size), (7, Some(3)));
        assert_eq!(found.workspace_image_ref.as_deref(), Some("busybox:1.36"));
        let alone = info(&node(), &workspace("busybox:1.36"), "other").unwrap();
        assert_eq!((alone.total_size, alone.workspace_image_size), (3, Some(3)));
    }

    #[test]
    fn an_image_that_the_node_does_not_list_has_no_sizes() {
        assert_eq!(info(&node(), &workspace("busybox:1.37"), "other"), None);
        assert_eq!(info(&Node::default(), &workspace("busybox:1.36"), "abc"), None);
        assert_eq!(info(&node(), &workspace("busybox"), "ab"), None);
    }
}
