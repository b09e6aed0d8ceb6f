//! The record of a run: observations only, no conclusions.
//!
//! All times are milliseconds of one clock of this machine. A history is plain data: it can be stored and checked
//! again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// All observations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Calls of clients, in any order.
    pub calls: Vec<Call>,
    /// Calls of the admin, one after the other.
    #[serde(default)]
    pub admin: Vec<AdminCall>,
    /// Resources, from the audit logs of the clusters' apiservers.
    pub resources: Vec<Resource>,
    /// What each subscriber received, in order.
    pub subscribers: BTreeMap<String, Vec<Seen>>,
    /// Subscribers whose stream broke before the end: the last state that they received may have changed since.
    #[serde(default)]
    pub ended: BTreeSet<String>,
    /// What etcd holds at the end for every workspace that was requested or seen.
    #[serde(default)]
    pub records: Vec<Record>,
    /// Fenced writes in the audit log of each cluster.
    pub writes: BTreeMap<String, Vec<Write>>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub id: String,
    /// The request.
    pub asked: Asked,
    /// When it was sent.
    pub sent: u64,
    /// When the response came.
    pub answered: u64,
    /// The outcome.
    pub outcome: Outcome,
}

/// Request of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Asked {
    /// A start; calls with equal contents are the same request.
    Start {
        /// Long-lived id.
        meta: String,
        /// What else distinguishes requests of one id.
        content: String,
    },
    /// A stop.
    Stop,
    /// A report of activity.
    Activity,
}

/// Outcome of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// A start was acknowledged.
    Started(Answer),
    /// A stop was acknowledged.
    Stopped,
    /// Activity was acknowledged.
    Marked,
    /// Rejected, or without a response: it may have taken effect.
    Failed(String),
}

/// The response to a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Where it was placed.
    pub cluster: String,
    /// Address and token, in any form that can be compared.
    pub access: String,
}

/// One call of the admin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdminCall {
    pub cluster: String,
    /// The request.
    pub act: Act,
    /// When it was sent.
    pub sent: u64,
    /// When the response came, or the call was given up.
    pub answered: u64,
    /// Whether it was acknowledged; if not, it may have been carried out, or may be later.
    pub acknowledged: bool,
}

/// A call of an admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Accepts no new workspaces.
    Cordon,
    /// Accepts new workspaces again; also removes a finished drain.
    Uncordon,
    /// Accepts no new workspaces and stops the existing ones.
    Drain,
    /// Cancels a drain.
    CancelDrain,
}

impl Act {
    /// Whether it excludes new workspaces.
    pub fn closes(self) -> bool {
        matches!(self, Self::Cordon | Self::Drain)
    }

    /// Whether it may end what `closed` began.
    pub fn opens(self, closed: Self) -> bool {
        match self {
            Self::Uncordon => true,
            Self::CancelDrain => closed == Self::Drain,
            Self::Cordon | Self::Drain => false,
        }
    }
}

/// One lifetime of a Workspace resource in one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub cluster: String,
    pub id: String,
    /// Long-lived id.
    pub meta: String,
    /// UID: another one is another lifetime.
    pub uid: String,
    /// The latest time at which it may have begun: the apiserver had answered.
    pub from: u64,
    /// The earliest time at which it may have ended: the apiserver received the request that removed it. `None`: it
    /// exists at the end.
    pub until: Option<u64>,
    /// UIDs of pods that ran for it.
    pub pods: Vec<String>,
    /// Its last known phase.
    pub phase: String,
    /// Its last known status version.
    pub version: u64,
    /// Whether its removal was logged with its last state. The entry is lost if the apiserver is killed at that moment.
    #[serde(default)]
    pub seen_end: bool,
    /// When the apiserver received the write that asked for its stop.
    #[serde(default)]
    pub stop_asked: Option<u64>,
    /// Its last recorded activity.
    #[serde(default)]
    pub active: Option<u64>,
    /// Where its content was, when last known.
    #[serde(default)]
    pub content: Content,
}

/// Location of a workspace's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// None yet, or none wanted.
    #[default]
    None,
    /// On its node only.
    Unsaved,
    /// In a backup.
    Saved,
}

/// A placement record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    /// The cluster that it names.
    pub cluster: String,
    pub state: Recorded,
}

/// State of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recorded {
    /// The workspace may exist there.
    Placed,
    /// It exists there.
    Confirmed,
    /// It has ended.
    Ended,
}

/// One update that a subscriber received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub id: String,
    /// `status_version`.
    pub version: u64,
    pub phase: String,
    /// The cluster that it names.
    pub cluster: String,
}

/// A fenced write that a cluster accepted or rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// When the apiserver received it.
    pub received: u64,
    /// When it had answered.
    pub answered: u64,
    /// Namespace written to; each has its own fence.
    pub namespace: String,
    /// What was written, such as `create workspaces/w1`.
    pub what: String,
    /// Incarnation and revision of the epoch that it sent.
    pub epoch: (u64, u64),
    /// Whether it was carried out.
    pub accepted: bool,
    /// Whether it was a dry run, or raised the fence itself.
    pub probe: bool,
}
