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
    /// What the clusters themselves told of resources, by watches that no fault touches.
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
}

/// How a call went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// A start was acknowledged.
    Started(Answer),
    /// A stop was acknowledged.
    Stopped,
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
    /// When it was first seen.
    pub from: u64,
    /// When it was seen to be gone; none: it is there at the end.
    pub until: Option<u64>,
    /// Pods that ran for it, by their own ids.
    pub pods: Vec<String>,
    /// Its phase when it was last seen.
    pub phase: String,
    /// Version of the status when it was last seen.
    pub version: u64,
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
