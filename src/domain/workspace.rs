//! A workspace: what a client asks for ([`Start`]) and what is seen of it ([`View`]).

mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cluster::NodeAgent;
use super::names::{MetaId, OwnerId, WorkspaceId};
use super::placement::PlacementRequest;

pub use view::{
    ClassView, Conditions, GitStatus, ImageMetrics, InitializerMetric, InitializerMetrics, Runtime, View,
};

/// What a workspace is for. Prebuilds and image builds are headless: they end by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A person works in it.
    #[default]
    Regular,
    /// Prepares content; leaves a snapshot.
    Prebuild,
    /// Builds an image; nothing to back up.
    ImageBuild,
}

impl Kind {
    /// Whether it runs a task to its end instead of serving a person.
    pub fn is_headless(self) -> bool {
        self != Self::Regular
    }
}

/// Where a workspace is in its life; the values of `status.phase`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Cannot be told.
    #[default]
    Unknown,
    /// No pod runs yet.
    Pending,
    /// Left over from older managers; shown as Pending.
    Imagebuild,
    /// The pod's containers are being made.
    Creating,
    /// Content is being laid in.
    Initializing,
    /// In use.
    Running,
    /// Shutting down; content is being backed up.
    Stopping,
    /// Over.
    Stopped,
}

/// Who may open a workspace or a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Only the owner.
    #[default]
    Owner,
    /// Everyone who has the URL.
    Everyone,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// What it speaks.
    pub protocol: Protocol,
}

/// The IDE that is laid over the workspace image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct IdeImage {
    /// Image of the web IDE.
    pub web: String,
    /// Further layers.
    pub layers: Vec<String>,
    /// Image of the supervisor.
    pub supervisor: String,
}

/// Who commits made in the workspace are by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GitIdentity {
    /// `user.name`.
    pub username: String,
    /// `user.email`.
    pub email: String,
}

/// A reference to a key of a Secret in the workspace namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretRef {
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

/// Where a variable's value is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum EnvValue {
    /// Given in the request.
    Plain(String),
    /// In a Secret that exists already.
    Secret(SecretRef),
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=***", self.name)
    }
}

/// Behaviour that a request asks for by feature flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// The node agent limits new connections per minute.
    pub connection_limiting: bool,
    /// The node agent reports pressure stall information.
    pub psi: bool,
    /// The workspace trusts the configured SSH certificate authority.
    pub ssh_ca: bool,
}

/// Limits of a workspace's life where the request overrides the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Inactivity.
    pub inactivity: Option<Duration>,
    /// After the last editor was closed; zero turns the rule off.
    pub closed: Option<Duration>,
    /// Since the start, whatever happens.
    pub maximum_lifetime: Option<Duration>,
}

/// How the content comes to be: a serialised `contentservice.WorkspaceInitializer` with references where secrets were.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SealedInitializer {
    /// The message.
    pub content: Vec<u8>,
    /// What the references name, by key.
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for SealedInitializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedInitializer({} bytes, {} secrets)", self.content.len(), self.secrets.len())
    }
}

/// A valid request to start a workspace. Everything fallible was done in parsing it.
#[derive(Clone)]
pub struct Start {
    /// The instance id.
    pub id: WorkspaceId,
    /// The long-lived id.
    pub meta: MetaId,
    /// The owner.
    pub owner: OwnerId,
    /// What it is for.
    pub kind: Kind,
    /// Free annotations; they are put on the resource, and on the pod where the configuration names them.
    pub annotations: BTreeMap<String, String>,
    /// Team of the owner.
    pub team: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// The workspace image.
    pub image: String,
    /// The IDE.
    pub ide: IdeImage,
    /// How the content comes to be, its passwords taken out.
    pub initializer: SealedInitializer,
    /// The same for Spaceport's own node agent, everything secret taken out; absent where it is the same.
    pub own_agents_initializer: Option<SealedInitializer>,
    /// Fields of the request that are secret and stay in clear text in `initializer`.
    pub clear_text: Vec<String>,
    /// Folder under `/workspace` where the IDE opens.
    pub workspace_location: String,
    /// Commit identity.
    pub git: Option<GitIdentity>,
    /// Ports served from the start; no number twice.
    pub ports: Vec<Port>,
    /// The user's variables.
    pub user_env: Vec<EnvVar>,
    /// The system's variables.
    pub sys_env: Vec<EnvVar>,
    /// Who may open it.
    pub admission: Access,
    /// Overrides of timeouts.
    pub timeouts: Timeouts,
    /// SSH keys that may log in.
    pub ssh_public_keys: Vec<String>,
    /// Feature flags.
    pub features: Features,
    /// What it asks of the fleet, the class included.
    pub placement: PlacementRequest,
    /// The canonical form of the whole request, from which the digest is made; it holds secrets and is never kept.
    pub canonical: Vec<u8>,
}

impl Start {
    /// How the content comes to be, as the node agent that serves there understands it.
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
    /// 30 s to end, then the backup.
    Normally,
    /// 1 s to end, then the backup.
    Immediately,
    /// 1 s to end and no backup.
    Abort,
}

impl StopPolicy {
    /// Grace given to the pod.
    pub fn grace(self) -> Duration {
        match self {
            Self::Normally => Duration::from_secs(30),
            Self::Immediately | Self::Abort => Duration::from_secs(1),
        }
    }
}

/// Which timeout a call sets, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutChange {
    /// Inactivity; it turns the closed timeout off.
    Inactivity(Duration),
    /// After the last editor was closed.
    Closed(Duration),
}
