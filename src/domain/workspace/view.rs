//! The observed state of a workspace.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, IdeImage, Kind, Phase, Port};
use crate::names::{ClassId, Namespace, WorkspaceId};

/// Observed state of a workspace, from which `WorkspaceStatus` is encoded. Built once for each change, and shared.
#[derive(Clone, PartialEq)]
pub struct View {
    /// The instance id.
    pub id: WorkspaceId,
    /// The namespace in its cluster.
    pub namespace: Namespace,
    /// `metadata.uid`: a re-created resource of the same name is another one.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: u64,
    /// Placement generation in the resource's annotation; 1 if it has none.
    pub generation: u32,
    /// Digest of the start request; empty if it has none.
    pub digest: String,
    /// The long-lived id.
    pub meta: String,
    /// The owner.
    pub owner: String,
    /// Team of the owner.
    pub team: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// When the resource was created.
    pub created_at: Option<Timestamp>,
    /// The request's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its kind.
    pub kind: Kind,
    /// Its class.
    pub class: String,
    /// The workspace image.
    pub image: String,
    /// The IDE.
    pub ide: IdeImage,
    /// Ports with the URL each is served at.
    pub ports: Vec<(Port, Option<String>)>,
    /// Who may open it.
    pub admission: Access,
    /// Required to open it if only the owner may.
    pub owner_token: String,
    /// Its URL.
    pub url: String,
    /// Inactivity timeout as Go duration text.
    pub timeout: String,
    /// Closed timeout as Go duration text.
    pub closed_timeout: String,
    /// SSH keys. They are not shown, but subscribers are notified of a change.
    pub ssh_public_keys: Vec<String>,
    /// Phase.
    pub phase: Phase,
    /// Conditions.
    pub conditions: Conditions,
    /// One sentence for people that explains the phase.
    pub message: String,
    /// Which foreign finalizers hold resources of the ended workspace, in sentences; part of the message. Its meta id cannot
    /// be used until then. Empty if none.
    pub held: String,
    /// Name of the snapshot of a headless workspace.
    pub snapshot: String,
    /// Repository state after the backup.
    pub git: Option<Box<GitStatus>>,
    /// Where its pod runs.
    pub runtime: Option<Box<Runtime>>,
    /// Duration and size of the initialization.
    pub initializer_metrics: Option<Box<InitializerMetrics>>,
    /// Sizes of its image.
    pub image_metrics: Option<ImageMetrics>,
    /// What the node agent reported about the content.
    pub content: Option<Box<ContentReports>>,
    /// Time of the last user activity.
    pub last_activity: Option<Timestamp>,
    /// Whether the resource is being deleted.
    pub deleting: bool,
    /// Whether this installation owns it.
    pub ours: bool,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("id", &self.id)
            .field("phase", &self.phase)
            .field("resource_version", &self.resource_version)
            .field("conditions", &self.conditions)
            .finish_non_exhaustive()
    }
}

impl View {
    /// Whether `other` differs at most in the last activity, which is not published. It is called for every watch event, so it
    /// copies nothing.
    pub fn same_but_for_activity(&self, other: &Self) -> bool {
        // Destructures every field, so that a new one does not compile until it is compared or ignored here.
        let Self {
            resource_version: _,
            last_activity: _,
            id,
            namespace,
            uid,
            generation,
            digest,
            meta,
            owner,
            team,
            project,
            created_at,
            annotations,
            kind,
            class,
            image,
            ide,
            ports,
            admission,
            owner_token,
            url,
            timeout,
            closed_timeout,
            ssh_public_keys,
            phase,
            conditions,
            message,
            held,
            snapshot,
            git,
            runtime,
            initializer_metrics,
            image_metrics,
            content,
            deleting,
            ours,
        } = self;
        *id == other.id
            && *namespace == other.namespace
            && *uid == other.uid
            && *generation == other.generation
            && *digest == other.digest
            && *meta == other.meta
            && *owner == other.owner
            && *team == other.team
            && *project == other.project
            && *created_at == other.created_at
            && *annotations == other.annotations
            && *kind == other.kind
            && *class == other.class
            && *image == other.image
            && *ide == other.ide
            && *ports == other.ports
            && *admission == other.admission
            && *owner_token == other.owner_token
            && *url == other.url
            && *timeout == other.timeout
            && *closed_timeout == other.closed_timeout
            && *ssh_public_keys == other.ssh_public_keys
            && *phase == other.phase
            && *conditions == other.conditions
            && *message == other.message
            && *held == other.held
            && *snapshot == other.snapshot
            && *git == other.git
            && *runtime == other.runtime
            && *initializer_metrics == other.initializer_metrics
            && *image_metrics == other.image_metrics
            && *content == other.content
            && *deleting == other.deleting
            && *ours == other.ours
    }
}

/// Conditions of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a condition of its own on the wire")]
pub struct Conditions {
    /// Why it failed; never an empty text.
    pub failed: Option<String>,
    /// Which timeout ended it.
    pub timeout: Option<String>,
    /// Termination message of the headless task.
    pub headless_task_failed: Option<String>,
    /// A pod was seen.
    pub deployed: bool,
    /// An image is being pulled.
    pub pulling_images: bool,
    /// A stop was requested.
    pub stopped_by_request: bool,
    /// The content was initialized.
    pub content_ready: bool,
    /// The last backup is complete.
    pub final_backup_complete: bool,
    /// Why the last backup failed; never an empty text.
    pub backup_failed: Option<String>,
    /// Its user closed it.
    pub closed: bool,
    /// It was stopped without a backup.
    pub aborted: bool,
    /// Time of the first user activity.
    pub first_user_activity: Option<Timestamp>,
}

/// Where a pod runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    /// Node.
    pub node_name: String,
    /// Pod.
    pub pod_name: String,
    /// Address of the node.
    pub node_ip: String,
}

/// State of the working copy, as the resource has it. The lists may be cut short; the totals are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names say it
pub struct GitStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_uncommited_files: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_unpushed_commits: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_untracked_files: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncommited_files: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpushed_commits: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untracked_files: Vec<String>,
}

/// Metrics of one step of the initialization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InitializerMetric {
    /// Time.
    pub duration: Duration,
    /// Bytes.
    pub size: u64,
}

/// Metrics of the initialization, by source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InitializerMetrics {
    /// Cloning.
    pub git: Option<InitializerMetric>,
    /// Downloads.
    pub file_download: Option<InitializerMetric>,
    /// A snapshot.
    pub snapshot: Option<InitializerMetric>,
    /// A backup.
    pub backup: Option<InitializerMetric>,
    /// A prebuild.
    pub prebuild: Option<InitializerMetric>,
    /// All of a composite.
    pub composite: Option<InitializerMetric>,
}

/// Sizes of an image in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageMetrics {
    /// With the IDE.
    pub total: i64,
    /// The workspace image alone.
    pub workspace: i64,
}

/// What a node agent reported about the content of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentReports {
    /// How the initialization ended.
    pub initialization: Option<ContentReport>,
    /// How the backup ended. Why it failed says where the content is kept.
    pub backup: Option<ContentReport>,
    /// What an initialization or a backup that takes long does at the moment.
    pub progress: Option<ContentReport>,
}

/// One report of a node agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentReport {
    /// Whether it succeeded; true for a progress.
    pub succeeded: bool,
    /// When it was reported, in whole seconds.
    pub at: Timestamp,
    /// In the words of the agent; may be empty.
    pub message: String,
}

/// A workspace class as clients see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassView {
    /// Its id.
    pub id: ClassId,
    /// Name for people.
    pub display_name: String,
    /// Description for people.
    pub description: String,
    /// Price.
    pub credits_per_minute: f32,
}
