//! What a use case can answer instead of a result. The API maps it to status codes in one place.

use std::time::Duration;

use domain::check::Check;
use domain::names::{ClusterName, MetaId, Namespace, WorkspaceId};
use domain::placement::Rejection;

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field breaks a rule that depends on the fleet's state.
    #[error("{field}: {rule}")]
    Invalid {
        /// The field.
        field: std::borrow::Cow<'static, str>,
        /// The rule.
        rule: String,
    },
    /// There is no such workspace.
    #[error("workspace {0} does not exist")]
    NoWorkspace(WorkspaceId),
    /// Nothing is known of how the workspace was placed.
    #[error("no decision about workspace {0} is kept: it was never asked for, or too long ago")]
    NoDecision(WorkspaceId),
    /// There is no such cluster.
    #[error("cluster {0} is not registered")]
    NoCluster(ClusterName),
    /// The id is taken, by another request or by a workspace that ended.
    #[error("workspace {id} exists already: {reason}")]
    WorkspaceExists {
        /// The id.
        id: WorkspaceId,
        /// What has it.
        reason: &'static str,
    },
    /// Another live workspace has the long-lived id.
    #[error("workspace {workspace} with meta id {meta} is still live")]
    MetaTaken {
        /// The long-lived id.
        meta: MetaId,
        /// The live workspace.
        workspace: WorkspaceId,
    },
    /// The URL of a port of one of the two is the URL of the other.
    #[error(
        "meta id {meta} would share a URL with workspace {workspace}, which is still live: that of a port of one is that of \
         the other"
    )]
    HostTaken {
        /// The long-lived id.
        meta: MetaId,
        /// The live workspace.
        workspace: WorkspaceId,
    },
    /// A folder on nodes would be that of another live workspace.
    #[error("workspace {id} would share a folder on nodes with workspace {workspace}, which is still live")]
    FolderTaken {
        /// The id.
        id: WorkspaceId,
        /// The live workspace.
        workspace: WorkspaceId,
    },
    /// The namespace is under maintenance, or every cluster that would fit is.
    #[error("under maintenance")]
    Maintenance {
        /// Where, in words.
        place: String,
        /// Why no other cluster would do, where another was looked for.
        verdicts: Vec<(ClusterName, Rejection)>,
    },
    /// No cluster fits.
    #[error("no cluster can take workspace {id}: {}", rejections(verdicts))]
    Unplaceable {
        /// The workspace.
        id: WorkspaceId,
        /// Why each cluster does not fit, by name.
        verdicts: Vec<(ClusterName, Rejection)>,
    },
    /// No cluster can build images.
    #[error("no cluster can build images: {}", sentences(verdicts))]
    NoBuilder {
        /// Why each cluster cannot, by name.
        verdicts: Vec<(ClusterName, String)>,
    },
    /// The state of the workspace forbids it.
    #[error("workspace {id}: {reason}")]
    Precondition {
        /// The workspace.
        id: WorkspaceId,
        /// Why.
        reason: String,
    },
    /// The node agent could not take a snapshot.
    #[error("workspace {id}: the snapshot failed: {reason}")]
    SnapshotFailed {
        /// The workspace.
        id: WorkspaceId,
        /// The node agent's words.
        reason: String,
    },
    /// Its log cannot be had now; another moment may do.
    #[error("workspace {id}: its log cannot be read: {reason}")]
    NoLog {
        /// The workspace.
        id: WorkspaceId,
        /// Why.
        reason: String,
    },
    /// A session cannot be opened now, or ended before its command; another moment may do.
    #[error("workspace {id}: the session ended: {reason}")]
    SessionEnded {
        /// The workspace.
        id: WorkspaceId,
        /// Why.
        reason: String,
    },
    /// A session reached a limit of its time.
    #[error("workspace {id}: the session ended: {reason}, which is the limit")]
    SessionLimit {
        /// The workspace.
        id: WorkspaceId,
        /// Which.
        reason: String,
    },
    /// The other clusters cannot take the workspaces of a cluster that is to be drained.
    #[error("cluster {cluster} is not drained: no other cluster has capacity for {} of its workspaces", without.len())]
    NoRoom {
        /// The cluster.
        cluster: ClusterName,
        /// The workspaces, with each other cluster's reason.
        without: Vec<(WorkspaceId, String)>,
    },
    /// As many former secrets of the installation as are kept are in use.
    #[error(
        "the installation's secret was rotated too often: records name each former secret that is kept; end workspaces \
         that were started long ago, and try again when their records have expired"
    )]
    SecretsInUse,
    /// The cluster has no drain.
    #[error("cluster {0} has no drain")]
    NoDrain(ClusterName),
    /// The drain is not where that can be done.
    #[error("cluster {cluster} {reason}")]
    DrainStage {
        /// The cluster.
        cluster: ClusterName,
        /// Why not.
        reason: &'static str,
    },
    /// The cluster still holds workspaces.
    #[error("cluster {cluster} still holds {} workspaces: {}", workspaces.len(), some(workspaces))]
    NotEmpty {
        /// The cluster.
        cluster: ClusterName,
        /// All of them.
        workspaces: Vec<WorkspaceId>,
    },
    /// This replica does not lead, or not any more, and nothing was written. The call may be repeated: another one does, or
    /// will soon.
    #[error("this replica does not lead")]
    NotLeader,
    /// The cluster does not serve a namespace that a record names.
    #[error("cluster {cluster} serves no namespace {namespace} now")]
    NoNamespace {
        /// The cluster.
        cluster: ClusterName,
        /// The namespace.
        namespace: Namespace,
    },
    /// The cluster's registration cannot be used here.
    #[error("cluster {cluster} cannot be used: {reason}")]
    Unusable {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        reason: String,
    },
    /// A Secret gives no kubeconfig.
    #[error("cluster {cluster}: {unread}")]
    Unread {
        /// The cluster that it is for.
        cluster: ClusterName,
        /// Which Secret, and why.
        unread: host::Unread,
    },
    /// A check keeps the cluster from being a member.
    #[error("cluster {cluster} may not be a member: {}", failures(checks))]
    Unfit {
        /// The cluster.
        cluster: ClusterName,
        /// All checks.
        checks: Vec<Check>,
    },
    /// The change was decided on another version than the present one.
    #[error(
        "cluster {cluster} has changed: its version is {found}, and the change was decided on {expected}"
    )]
    Changed {
        /// The cluster.
        cluster: ClusterName,
        /// The version the caller named.
        expected: i64,
        /// The present one.
        found: i64,
    },
    /// The cluster is registered already, under another name and address.
    #[error(
        "cluster {cluster} is the cluster that is registered as {other}, and both name the namespace {namespace}"
    )]
    SameCluster {
        /// The cluster.
        cluster: ClusterName,
        /// The name it is registered under.
        other: ClusterName,
        /// What both would serve.
        namespace: Namespace,
    },
    /// The name is registered, with another specification or kubeconfig than is asked for.
    #[error(
        "cluster {cluster} is registered already, and differs from what is asked for in {}; `spaceport cluster update \
         {cluster}` changes it",
        fields.join(", ")
    )]
    RegisteredOtherwise {
        /// The cluster.
        cluster: ClusterName,
        /// Paths of the fields that differ.
        fields: Vec<String>,
    },
    /// Workspaces are recorded under the name of a cluster that was taken out, and this is not that cluster.
    #[error(
        "cluster {cluster} {}, and {} workspaces are still recorded under its name: {}; register it under another name, or \
         give these workspaces up with `spaceport cluster forget {cluster}`",
        told_apart(*known),
        workspaces.len(),
        some(workspaces)
    )]
    NameInUse {
        /// The cluster.
        cluster: ClusterName,
        /// Whether it is certainly another one.
        known: bool,
        /// All of them.
        workspaces: Vec<WorkspaceId>,
    },
    /// Only of a cluster that is not registered are workspaces given up.
    #[error(
        "cluster {0} is registered: its workspaces are given up only after it was deregistered, with --force"
    )]
    StillRegistered(ClusterName),
    /// The cluster whose workspaces are to be given up is registered under another name.
    #[error(
        "cluster {cluster} is registered as {now}: adopt its workspaces there with `spaceport cluster adopt {now}`"
    )]
    RegisteredAs {
        /// The former name.
        cluster: ClusterName,
        /// The present one.
        now: ClusterName,
    },
    /// A start may or may not have reached its cluster; it is settled there, and a repeated call gets its answer.
    #[error("workspace {id} may have started on cluster {cluster}: {reason}; repeat the call")]
    Undecided {
        /// The workspace.
        id: WorkspaceId,
        /// Where it was sent.
        cluster: ClusterName,
        /// What is not known.
        reason: String,
    },
    /// Concurrent changes kept getting in the way.
    #[error("{what} kept changing; try again")]
    Contended {
        /// What.
        what: String,
    },
    /// It was not done in time.
    #[error("{what} took longer than {within:?}")]
    Deadline {
        /// What.
        what: &'static str,
        /// The limit.
        within: Duration,
    },
    /// The manager has no object store.
    #[error(
        "this manager has no object store: set content.storage in its configuration, as for the node agents, and restart it"
    )]
    NoStorage,
    /// There is no such content.
    #[error("{what}")]
    NoContent {
        /// What there is not, in a sentence.
        what: String,
    },
    /// Content of live workspaces is not deleted.
    #[error(
        "{}: {}; stop {} and repeat the call",
        if *begun { "a workspace was started while its content was deleted" } else { "its content is in use by a live workspace" },
        some(workspaces),
        if workspaces.len() == 1 { "it" } else { "them" }
    )]
    ContentInUse {
        /// All of them.
        workspaces: Vec<WorkspaceId>,
        /// Whether content was deleted before that was known.
        begun: bool,
    },
    /// Too many calls use the object store.
    #[error("{limit} calls use the object store already; try again")]
    StorageBusy {
        /// Calls at a time.
        limit: usize,
    },
    /// The object store failed.
    #[error(transparent)]
    Content(#[from] content::store::Error),
    /// A member cluster failed.
    #[error(transparent)]
    Cluster(#[from] member::Error),
    /// etcd failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A registration that breaks a rule.
    #[error(transparent)]
    Spec(#[from] domain::cluster::Error),
}

impl From<k8s::convert::budget::Exceeded> for Error {
    fn from(exceeded: k8s::convert::budget::Exceeded) -> Self {
        Self::Invalid { field: exceeded.field.into(), rule: exceeded.to_string() }
    }
}

fn told_apart(known: bool) -> &'static str {
    if known {
        "is not the one that was deregistered under its name"
    } else {
        "may not be the one that was deregistered under its name: it holds none of its workspaces"
    }
}

fn failures(checks: &[Check]) -> String {
    let failed = checks.iter().filter(|check| check.is_failed());
    failed.map(|check| format!("{}: {}", check.name, check.detail)).collect::<Vec<_>>().join("; ")
}

/// Once where no cluster is the one that was asked for.
fn rejections(verdicts: &[(ClusterName, Rejection)]) -> String {
    match Rejection::unknown_pin(verdicts) {
        Some(wanted) => format!("cluster {wanted} is not registered"),
        None => sentences(verdicts),
    }
}

fn sentences(verdicts: &[(ClusterName, impl std::fmt::Display)]) -> String {
    if verdicts.is_empty() {
        return "no cluster is registered".to_owned();
    }
    let sentences: Vec<String> = verdicts.iter().map(|(cluster, why)| format!("{cluster} {why}")).collect();
    sentences.join("; ")
}

/// The first ids, and how many more.
fn some(ids: &[WorkspaceId]) -> String {
    const SHOWN: usize = 20;
    let mut text = ids.iter().take(SHOWN).map(WorkspaceId::as_str).collect::<Vec<_>>().join(", ");
    if ids.len() > SHOWN {
        text.push_str(", …");
    }
    text
}
