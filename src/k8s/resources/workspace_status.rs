//! The Workspace resource: status.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{conditions, schema};
use domain::workspace::{GitStatus, Phase};

/// What a workspace is.
// Rarely filled parts are boxed: thousands of these are kept in memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// What is known besides the phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// State of the working copy at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Box<GitStatus>>,
    /// Sizes of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_info: Option<Box<ImageInfo>>,
    /// What initialisation took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initializer_metrics: Option<Box<InitializerMetrics>>,
    /// When a user was last active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_activity: Option<Time>,
    /// Lets its holder in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_token: Option<OwnerToken>,
    /// Where in its life the workspace is.
    #[serde(default)]
    pub phase: Phase,
    /// When the pod's deletion was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub pod_deletion_time: Option<Time>,
    /// How often the pod was made again after the kubelet refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub pod_recreated: Option<i32>,
    /// How often a pod was made.
    #[schemars(schema_with = "schema::integer")]
    pub pod_starts: i32,
    /// When the pod began to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub pod_stopping_time: Option<Time>,
    /// Where the workspace runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Box<Runtime>>,
    /// Where the last snapshot is; set before its upload for headless workspaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Left over from persistent volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Box<Storage>>,
    /// Where users find the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl WorkspaceStatus {
    /// The condition of a type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        conditions::find(&self.conditions, kind)
    }

    /// Whether the condition of a type is there and True.
    pub fn is_true(&self, kind: &str) -> bool {
        conditions::is_true(&self.conditions, kind)
    }
}

/// Lets its holder into the workspace; `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct OwnerToken(pub String);

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Sizes of the image, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// Of everything the node pulled.
    pub total_size: i64,
    /// The user's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_image_ref: Option<String>,
    /// Of the user's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_image_size: Option<i64>,
}

/// What each kind of initializer took; absent where it did not run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // one field a kind of initializer
pub struct InitializerMetrics {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<InitializerMetric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<InitializerMetric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_download: Option<InitializerMetric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<InitializerMetric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prebuild: Option<InitializerMetric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<InitializerMetric>,
}

/// What one initializer took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InitializerMetric {
    /// As a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
}

/// Where the workspace runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Address of the node.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// Name of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Address of the pod.
    #[serde(rename = "podIP", default, skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
}

/// Left over from persistent volumes: empty strings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // nobody reads them
pub struct Storage {
    pub attached_device: String,
    pub mount_path: String,
    pub volume_name: String,
}
