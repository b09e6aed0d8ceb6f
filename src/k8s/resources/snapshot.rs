//! The Snapshot resource: a request to a node agent, and its result.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What is to be taken a snapshot of.
#[allow(clippy::duplicated_attributes)] // one printcolumn a column, and columns share a type
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "workspace.gitpod.io",
    version = "v1",
    kind = "Snapshot",
    plural = "snapshots",
    singular = "snapshot",
    shortname = "snapshot",
    namespaced,
    status = "SnapshotStatus",
    derive = "PartialEq",
    doc = "A snapshot of a running workspace's content, taken by the node agent of its node.",
    selectable = ".spec.nodeName",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspaceID"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 10),
    printcolumn(name = "Completed", type_ = "boolean", json_path = ".status.completed")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::snapshot_rules()))]
pub struct SnapshotSpec {
    /// Node whose agent takes the snapshot.
    #[schemars(length(min = 1))]
    pub node_name: String,
    /// Name of the Workspace.
    #[serde(rename = "workspaceID")]
    #[schemars(length(min = 1))]
    pub workspace_id: String,
}

/// The node agent's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotStatus {
    /// True when the upload ended, well or not.
    pub completed: bool,
    /// Why it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where the snapshot is, or will be before `completed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}
