//! A workspace: the request of a client ([`Start`]) and the observed state ([`View`]).

mod kind;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::NodeAgent;
use super::names::{MetaId, OwnerId, WorkspaceId};
use super::placement::PlacementRequest;

pub use kind::Kind;
pub use view::{
    ClassView, Conditions, ContentReport, ContentReports, GitStatus, ImageMetrics, InitializerMetric,
    InitializerMetrics, Runtime, View,
};

/// Phase of a workspace; the values of `status.phase`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// The state of the pod is not known.
    #[default]
    Unknown,
    /// No pod runs yet.
    Pending,
    /// Only written by older managers; shown as Pending.
    Imagebuild,
    /// The pod's containers are being created.
    Creating,
    /// Content is being initialized.
    Initializing,
    /// In use.
    Running,
    /// The pod is being stopped, content is being backed up.
    Stopping,
    /// The workspace has ended.
    Stopped,
}

/// Who may open a workspace or a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Only the owner.
    #[default]
    Owner,
    /// Everyone who has the URL.
    Everyone,
}

/// Protocol of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

/// A port of a workspace that the proxy serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Port {
    /// 1 to 65535.
    pub port: u16,
    /// Who may open it.
    pub visibility: Access,
    /// Protocol.
    pub protocol: Protocol,
}

/// Images of the IDE, which are layered on the workspace image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct IdeImage {
    /// Further layers.
    #[serde(rename = "refs", default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// The supervisor.
    pub supervisor: String,
    /// The IDE in the browser.
    pub web: String,
}

/// Author of commits in the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct GitIdentity {
    /// Address in commits.
    pub email: String,
    /// Name in commits.
    pub username: String,
}

/// A reference to a key of a Secret in the workspace namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnvSecretRef {
    /// Name of the Secret.
    pub name: String,
    /// Key in it.
    pub key: String,
}

/// An environment variable. Values may be secrets and are never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EnvVar {
    /// Name, never empty.
    pub name: String,
    /// Value or reference.
    pub value: EnvValue,
}

/// Value of a variable, or where it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum EnvValue {
    /// Given in the request.
    Plain(String),
    /// In an existing Secret.
    Secret(EnvSecretRef),
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=***", self.name)
    }
}

/// Feature flags of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// The node agent limits new connections per minute.
    pub connection_limiting: bool,
    /// The node agent reports pressure stall information.
    pub psi: bool,
    /// The workspace trusts the configured SSH certificate authority.
    pub ssh_ca: bool,
}

/// Timeouts of one workspace that override [`Timeouts`](crate::manager::Timeouts).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct OwnTimeouts {
    /// Since the last activity.
    pub inactivity: Option<Duration>,
    /// Since the last editor was closed; zero disables it.
    pub closed: Option<Duration>,
    /// Since the start, whatever happens.
    pub maximum_lifetime: Option<Duration>,
}

/// An encoded `contentservice.WorkspaceInitializer` with references in place of secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SealedInitializer {
    /// The encoded message.
    pub content: Vec<u8>,
    /// The secrets, by the key in the reference.
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for SealedInitializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedInitializer({} bytes, {} secrets)", self.content.len(), self.secrets.len())
    }
}

/// A valid request to start a workspace, parsed and checked.
#[derive(Clone)]
pub struct Start {
    /// The instance id.
    pub id: WorkspaceId,
    /// The long-lived id.
    pub meta: MetaId,
    /// The owner.
    pub owner: OwnerId,
    /// The kind.
    pub kind: Kind,
    /// Annotations of the Workspace; those that the configuration allows are also on the pod.
    pub annotations: BTreeMap<String, String>,
    /// Team of the owner.
    pub team: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// The workspace image.
    pub image: String,
    /// The IDE.
    pub ide: IdeImage,
    /// Initializer of the content, without passwords.
    pub initializer: SealedInitializer,
    /// The same for Spaceport's own node agent, without any secret; `None` if it is equal.
    pub own_agents_initializer: Option<SealedInitializer>,
    /// Secret fields of the request that stay in clear text in `initializer`.
    pub clear_text: Vec<String>,
    /// Folder under `/workspace` where the IDE opens.
    pub workspace_location: String,
    /// Commit identity.
    pub git: Option<GitIdentity>,
    /// Ports served from the start, without duplicates.
    pub ports: Vec<Port>,
    /// The user's variables.
    pub user_env: Vec<EnvVar>,
    /// The system's variables.
    pub sys_env: Vec<EnvVar>,
    /// Who may open it.
    pub admission: Access,
    /// Overrides of timeouts.
    pub timeouts: OwnTimeouts,
    /// SSH keys that may log in.
    pub ssh_public_keys: Vec<String>,
    /// Feature flags.
    pub features: Features,
    /// Placement request, including the class.
    pub placement: PlacementRequest,
    /// Canonical form of the whole request, the input of the digest. It contains secrets and is never stored.
    pub canonical: Vec<u8>,
}

impl Start {
    /// The initializer for this node agent.
    pub fn initializer_for(&self, agent: NodeAgent) -> &SealedInitializer {
        match agent {
            NodeAgent::Existing => &self.initializer,
            NodeAgent::Spaceport => self.own_agents_initializer.as_ref().unwrap_or(&self.initializer),
        }
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("id", &self.id).field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// How a workspace is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopPolicy {
    /// Grace period of 30 s, then the backup.
    Normally,
    /// Grace period of 1 s, then the backup.
    Immediately,
    /// Grace period of 1 s, no backup.
    Abort,
}

impl StopPolicy {
    /// Grace period of the pod.
    pub fn grace(self) -> Duration {
        match self {
            Self::Normally => Duration::from_secs(30),
            Self::Immediately | Self::Abort => Duration::from_secs(1),
        }
    }
}

/// A new value of a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutChange {
    /// Inactivity timeout; it disables the closed timeout.
    Inactivity(Duration),
    /// Timeout since the last editor was closed.
    Closed(Duration),
}
