//! The leader, and incarnations.

use jiff::Timestamp;
use serde::Serialize;

use super::{moment, text, timestamp};
use crate::table::Table;
use proto::spaceport::v1::{IncarnationOpening, LeaderResponse, Replica};

/// The leader.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderView {
    replica: String,
    address: String,
    epoch: i64,
    since: Option<Timestamp>,
    answered_by: String,
    installation: String,
    incarnation: u64,
    replicas: Vec<ReplicaView>,
    openings: Vec<OpeningView>,
}

#[derive(Debug, Serialize)]
struct ReplicaView {
    name: String,
    address: String,
    epoch: i64,
}

/// An incarnation that an admin opened.
#[derive(Debug, Serialize)]
pub struct OpeningView {
    pub incarnation: u64,
    at: Option<Timestamp>,
    by: String,
    reason: String,
}

impl From<IncarnationOpening> for OpeningView {
    fn from(opening: IncarnationOpening) -> Self {
        let IncarnationOpening { incarnation, at, by, reason } = opening;
        Self { incarnation, at: timestamp(at.as_ref()), by, reason }
    }
}

impl OpeningView {
    /// The fields for people.
    pub fn details(&self, now: Timestamp) -> Table {
        Table::of_fields([
            ("incarnation", self.incarnation.to_string()),
            ("opened", moment(self.at, now)),
            ("by", self.by.clone()),
            ("reason", self.reason.clone()),
        ])
    }
}

impl From<LeaderResponse> for LeaderView {
    fn from(leader: LeaderResponse) -> Self {
        Self {
            since: timestamp(leader.since.as_ref()),
            replica: leader.replica,
            address: leader.address,
            epoch: leader.epoch,
            answered_by: leader.answered_by,
            installation: leader.installation,
            incarnation: leader.incarnation,
            replicas: leader
                .replicas
                .into_iter()
                .map(|Replica { name, address, epoch }| ReplicaView { name, address, epoch })
                .collect(),
            openings: leader.openings.into_iter().map(OpeningView::from).collect(),
        }
    }
}

impl LeaderView {
    /// The fields for people.
    pub fn details(&self, now: Timestamp) -> Table {
        let names: Vec<&str> = self.replicas.iter().map(|replica| replica.name.as_str()).collect();
        let nobody = "nobody: a takeover is under way";
        Table::of_fields([
            ("leader", text(&self.replica).unwrap_or_else(|| nobody.to_owned())),
            ("address", self.address.clone()),
            ("epoch", self.epoch.to_string()),
            ("since", moment(self.since, now)),
            ("installation", self.installation.clone()),
            ("incarnation", self.incarnation.to_string()),
            ("replicas", names.join(", ")),
            ("answered by", self.answered_by.clone()),
        ])
    }
}
