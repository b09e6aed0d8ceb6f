//! The Workspace resource: metadata and spec.

use std::fmt;

use k8s_openapi::ByteString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::env::EnvVar;
use super::schema;
use super::workspace_status::WorkspaceStatus;
use domain::workspace::{Access, GitIdentity, IdeImage, Kind, Protocol};

/// What a workspace shall be.
#[allow(clippy::duplicated_attributes)] // one printcolumn a column, and columns share a type
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "workspace.gitpod.io",
    version = "v1",
    kind = "Workspace",
    plural = "workspaces",
    singular = "workspace",
    shortname = "ws",
    namespaced,
    status = "WorkspaceStatus",
    derive = "PartialEq",
    doc = "One run of a workspace.",
    selectable = ".status.runtime.nodeName",
    printcolumn(
        name = "Workspace",
        type_ = "string",
        json_path = ".spec.ownership.workspaceID",
        priority = 10
    ),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.class"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.runtime.nodeName"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.ownership.owner"),
    printcolumn(name = "Team", type_ = "string", json_path = ".spec.ownership.team"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Waits",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="WorkspaceContainerRunning")].message"#,
        priority = 1
    ),
    printcolumn(
        name = "Timeout",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Timeout")].message"#,
        priority = 1
    ),
    printcolumn(
        name = "Failed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Failed")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::workspace_rules()))]
pub struct WorkspaceSpec {
    /// Who may enter.
    pub admission: Admission,
    /// Name of the workspace class.
    pub class: String,
    /// Who commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Box<GitIdentity>>,
    /// What the workspace runs.
    pub image: Image,
    /// How the content comes to be: a serialised contentservice.WorkspaceInitializer.
    pub initializer: Initializer,
    /// Whose workspace it is.
    pub ownership: Ownership,
    /// Ports that are open to others than the workspace itself. One entry a port.
    #[schemars(extend(
        "minItems" = 0,
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["port"]
    ))]
    pub ports: Vec<Port>,
    /// Public key of the CA whose SSH certificates may log in.
    #[serde(rename = "sshGatewayCAPublicKey", default, skip_serializing_if = "Option::is_none")]
    pub ssh_gateway_ca_public_key: Option<String>,
    /// SSH keys that may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_public_keys: Vec<String>,
    /// Bytes the content may take; the node agent holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub storage_quota: Option<i64>,
    /// Environment variables of the installation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sys_env_vars: Vec<EnvVar>,
    /// Limits that differ from the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Box<Timeout>>,
    /// What kind of run it is.
    #[serde(rename = "type")]
    pub type_: Kind,
    /// Environment variables of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_env_vars: Vec<EnvVar>,
    /// Folder the IDE opens, relative to /workspace.
    pub workspace_location: String,
}

/// Whose workspace it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = schema::ownership_rules()))]
pub struct Ownership {
    /// The owner's id.
    #[schemars(length(min = 1, max = 63))]
    pub owner: String,
    /// The owner's team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The owner's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The meta id: the workspace across its runs.
    #[serde(rename = "workspaceID")]
    #[schemars(length(min = 1, max = 63))]
    pub workspace_id: String,
}

/// What the workspace runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// The IDE's images.
    pub ide: IdeImage,
    /// The user's image.
    pub workspace: WorkspaceImage,
}

/// The user's image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceImage {
    /// Image reference.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// A serialised contentservice.WorkspaceInitializer; `Debug` shows its length only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Initializer(#[schemars(schema_with = "schema::bytes")] pub ByteString);

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Initializer({} bytes)", self.0.0.len())
    }
}

/// Limits as Go durations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeout {
    /// Without activity, once the user closed the workspace; 0 means that closing changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h)?)+$"))]
    pub closed: Option<String>,
    /// Whatever the activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h)?)+$"))]
    pub maximum_lifetime: Option<String>,
    /// Without activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))]
    pub time: Option<String>,
}

/// Who may enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Admission {
    /// The level.
    #[schemars(extend("default" = "Owner"))]
    pub level: Access,
}

/// A port that is open to others than the workspace itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// Number of the port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// What is spoken there.
    #[schemars(extend("default" = "Http"))]
    pub protocol: Protocol,
    /// Who may reach it.
    #[schemars(extend("default" = "Owner"))]
    pub visibility: Access,
}
