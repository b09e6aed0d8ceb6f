//! What was seen of a run, and nothing that is concluded from it.
//!
//! All times are milliseconds of one clock of this machine. A history is plain data: it can be kept and checked again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Calls of clients, in any order.
    pub calls: Vec<Call>,
    /// Calls of the admin, who makes one after the other.
    #[serde(default)]
    pub admin: Vec<AdminCall>,
    /// What the clusters' apiservers logged of resources.
    pub resources: Vec<Resource>,
    /// What subscribers received, each in the order received.
    pub subscribers: BTreeMap<String, Vec<Seen>>,
    /// Subscribers whose stream broke before the end: what they were last told may have changed since.
    #[serde(default)]
    pub ended: BTreeSet<String>,
    /// What etcd holds at the end of every workspace that was called or seen.
    #[serde(default)]
    pub records: Vec<Record>,
    /// Fenced writes, as each cluster's apiserver noted them.
    pub writes: BTreeMap<String, Vec<Write>>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Workspace id.
    pub id: String,
    /// What was asked.
    pub asked: Asked,
    /// When it was sent.
    pub sent: u64,
    /// When the answer came.
    pub answered: u64,
    /// How it went.
    pub outcome: Outcome,
}

/// What a call asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Asked {
    /// A start; calls with equal contents are the same request.
    Start {
        /// Long-lived id.
        meta: String,
        /// What else tells requests of one id apart.
        content: String,
    },
    /// A stop.
    Stop,
    /// That somebody is active.
    Activity,
}

/// How a call went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// A start was acknowledged.
    Started(Answer),
    /// A stop was acknowledged.
    Stopped,
    /// Activity was acknowledged.
    Marked,
    /// Refused, or never answered: it may have happened.
    Failed(String),
}

/// The answer to a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Where it was placed.
    pub cluster: String,
    /// Address and token, in any form that is equal where they are.
    pub access: String,
}

/// One call of the admin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdminCall {
    /// The cluster.
    pub cluster: String,
    /// What was asked.
    pub act: Act,
    /// When it was sent.
    pub sent: u64,
    /// When the answer came, or was given up.
    pub answered: u64,
    /// Whether it was acknowledged; otherwise it may have been carried out, or be so later.
    pub acknowledged: bool,
}

/// What an admin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Keeps new workspaces away.
    Cordon,
    /// Lets them in again; also where a drain is over.
    Uncordon,
    /// Keeps new workspaces away and stops those that are there.
    Drain,
    /// Takes a drain back.
    CancelDrain,
}

impl Act {
    /// Whether it keeps new workspaces away.
    pub fn closes(self) -> bool {
        matches!(self, Self::Cordon | Self::Drain)
    }

    /// Whether it may let in what `closed` keeps away.
    pub fn opens(self, closed: Self) -> bool {
        match self {
            Self::Uncordon => true,
            Self::CancelDrain => closed == Self::Drain,
            Self::Cordon | Self::Drain => false,
        }
    }
}

/// The life of one Workspace resource in one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// The cluster.
    pub cluster: String,
    /// Workspace id.
    pub id: String,
    /// Long-lived id.
    pub meta: String,
    /// The object's own id: another one is another life.
    pub uid: String,
    /// The latest that it may have begun: its apiserver had answered.
    pub from: u64,
    /// The earliest that it may have ended: its apiserver received the request that removed it. None: it is there at the end.
    pub until: Option<u64>,
    /// Pods that ran for it, by their own ids.
    pub pods: Vec<String>,
    /// Its phase when it was last seen.
    pub phase: String,
    /// Version of the status when it was last seen.
    pub version: u64,
    /// Whether its end was logged, with its last state. The entry is lost where the apiserver was killed just then.
    #[serde(default)]
    pub seen_end: bool,
    /// When the apiserver received the write that asked for its stop.
    #[serde(default)]
    pub stop_asked: Option<u64>,
    /// The last activity that it knew of.
    #[serde(default)]
    pub active: Option<u64>,
    /// Where its content was when it was last seen.
    #[serde(default)]
    pub content: Content,
}

/// Where a workspace's content is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// There is none yet, or it is not wanted.
    #[default]
    None,
    /// On its node alone.
    Unsaved,
    /// In a backup.
    Saved,
}

/// A placement record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Workspace id.
    pub id: String,
    /// Where it says that the workspace is.
    pub cluster: String,
    /// How far the workspace came.
    pub state: Recorded,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recorded {
    /// The workspace may be there.
    Placed,
    /// It is there.
    Confirmed,
    /// It is gone.
    Ended,
}

/// One update that a subscriber received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Workspace id.
    pub id: String,
    /// `status_version`.
    pub version: u64,
    /// The phase.
    pub phase: String,
    /// Where it is said to be.
    pub cluster: String,
}

/// A write under an epoch that a cluster decided on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// When the apiserver received it.
    pub received: u64,
    /// When it had answered.
    pub answered: u64,
    /// Namespace written to; each has a fence of its own.
    pub namespace: String,
    /// What was written, such as `create workspaces/w1`.
    pub what: String,
    /// Incarnation and revision of the epoch that it showed.
    pub epoch: (u64, u64),
    /// Whether it was carried out.
    pub accepted: bool,
    /// Whether it was tried only (dry-run), or raised the fence itself.
    pub probe: bool,
}
