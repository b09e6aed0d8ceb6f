//! The placement record: says where a workspace is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ending::Ending;
use super::names::{ClusterName, MetaId, Namespace, OwnerId, WorkspaceId};
use super::signing::Keying;
use super::workspace::{Access, Conditions, IdeImage, Kind, Phase, View};

pub use super::digest::Digest;

/// Where a workspace is placed. It is written before the cluster is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementRecord {
    /// The instance id; the record's key.
    pub workspace: WorkspaceId,
    /// At most one live record of the installation has it.
    pub meta: MetaId,
    /// For the STOPPED status that is built from the record when the resource is gone.
    pub owner: OwnerId,
    /// The cluster.
    pub cluster: ClusterName,
    /// The namespace there.
    pub namespace: Namespace,
    /// From 1; grows with a move, a re-creation under the same id, and a restore of the cluster from an old backup.
    pub generation: u32,
    /// Digest of the start request.
    pub digest: Digest,
    /// Inputs of its digest and owner token; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keying: Option<Keying>,
    /// When the record was written.
    pub placed_at: Timestamp,
    /// State.
    pub state: RecordState,
    /// Why it was given up: an admin ended the record although the cluster did not confirm that the workspace is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// How it ended, by its last observed state. Absent while it is live, if the end was not observed, and in records that an
    /// earlier version ended. An earlier version loses nothing, because ended records are not rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Meta ids with a port whose URL is this workspace's: none of them may be live at the same time. Absent in records of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_of: Option<Vec<MetaId>>,
}

/// State of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum RecordState {
    /// Recorded; the resource may or may not exist in the cluster.
    Placed,
    /// The resource was seen in the cluster.
    Confirmed,
    /// The workspace is gone; the record is kept until `expires` so that a late repetition of the start is rejected.
    #[serde(rename_all = "camelCase")]
    Ended {
        /// When its end was recorded.
        at: Timestamp,
        /// When the record may be removed.
        expires: Timestamp,
    },
}

impl PlacementRecord {
    /// Whether a resource with this digest and generation was created by the start of this record. A resource without a
    /// digest was adopted.
    pub fn is_of(&self, digest: &str, generation: u32) -> bool {
        let adopted = self.digest.is_adopted() && Digest::of_start(digest).is_none();
        (adopted || self.digest.0 == digest) && self.generation == generation
    }

    /// Whether a resource of its name belongs to the record. Once confirmed, one without a digest does, too: its annotations
    /// may have been removed.
    pub fn takes(&self, digest: &str, generation: u32) -> bool {
        let unnamed = self.digest.is_adopted() || Digest::of_start(digest).is_none();
        self.is_of(digest, generation) || (self.state == RecordState::Confirmed && unnamed)
    }

    /// The record, ended by an admin because its cluster does not return; users see `reason`. The generation grows by one more
    /// than the number of restores of the cluster, `rewinds`, so that the status version is above all that were shown.
    #[must_use]
    pub fn given_up(&self, reason: String, rewinds: u32, at: Timestamp, expires: Timestamp) -> Self {
        Self {
            generation: self.generation.saturating_add(rewinds),
            state: RecordState::Ended { at, expires },
            given_up: Some(reason),
            ..self.clone()
        }
    }

    /// Meta ids with a port whose URL is this workspace's; empty in records of earlier versions.
    pub fn port_of(&self) -> &[MetaId] {
        self.port_of.as_deref().unwrap_or_default()
    }

    /// Whether the workspace may still run.
    pub fn is_live(&self) -> bool {
        !matches!(self.state, RecordState::Ended { .. })
    }
}

impl View {
    /// The view of a workspace of which only the record is known.
    pub fn of_record(record: &PlacementRecord) -> Self {
        Self {
            id: record.workspace.clone(),
            namespace: record.namespace.clone(),
            uid: String::new(),
            resource_version: 0,
            generation: record.generation,
            digest: record.digest.0.clone(),
            meta: record.meta.to_string(),
            owner: record.owner.to_string(),
            team: None,
            project: None,
            created_at: Some(record.placed_at),
            annotations: BTreeMap::new(),
            kind: Kind::Regular,
            class: String::new(),
            image: String::new(),
            ide: IdeImage::default(),
            ports: Vec::new(),
            admission: Access::Owner,
            owner_token: String::new(),
            url: String::new(),
            timeout: String::new(),
            closed_timeout: String::new(),
            ssh_public_keys: Vec::new(),
            phase: Phase::Unknown,
            conditions: Conditions::default(),
            message: String::new(),
            held: String::new(),
            snapshot: String::new(),
            git: None,
            runtime: None,
            initializer_metrics: None,
            image_metrics: None,
            content: None,
            last_activity: None,
            deleting: false,
            ours: true,
        }
    }
}

/// Bits of a status version for the resource version. Generations have the 10 bits above, so that the whole is below 2^53
/// and exact as a double in clients.
const RESOURCE_VERSION_BITS: u32 = 43;

/// The status version: a function of generation and resource version only, so that it is equal on every replica, and grows
/// with both.
pub fn status_version(generation: u32, resource_version: u64) -> u64 {
    let generation = u64::from(generation).min((1 << 10) - 1);
    let resource_version = resource_version.min((1 << RESOURCE_VERSION_BITS) - 1);
    (generation << RESOURCE_VERSION_BITS) | resource_version
}

#[cfg(test)]
impl PlacementRecord {
    /// Record of the first start of workspace `ws` of jane on eu-1, for tests of all crates.
    #[allow(clippy::missing_panics_doc, reason = "for tests alone")]
    pub fn sample(state: RecordState) -> Self {
        Self {
            workspace: "ws".parse().unwrap(),
            meta: "meta".parse().unwrap(),
            owner: "jane".parse().unwrap(),
            cluster: "eu-1".parse().unwrap(),
            namespace: "workspaces".parse().unwrap(),
            generation: 1,
            digest: Digest(String::new()),
            keying: None,
            placed_at: Timestamp::UNIX_EPOCH,
            state,
            given_up: None,
            ending: None,
            port_of: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_matches_only_the_resource_of_its_own_start() {
        let digest = |secret| crate::signing::SigningKeys::new(1, &[secret; 32]).digest(b"a start");
        let record = |digest, state| PlacementRecord { digest, ..PlacementRecord::sample(state) };
        let ended = RecordState::Ended { at: Timestamp::UNIX_EPOCH, expires: Timestamp::UNIX_EPOCH };
        let (own, other) = (digest(1), digest(2));
        for state in [RecordState::Placed, RecordState::Confirmed, ended] {
            let record = record(own.clone(), state);
            assert!(record.takes(&own.0, 1), "{state:?}");
            assert!(!record.takes(&other.0, 1), "{state:?}");
            // Created by hand, or its annotations were removed.
            assert_eq!(record.takes("", 1), state == RecordState::Confirmed, "{state:?}");
        }
        assert!(!record(own.clone(), RecordState::Placed).takes(&own.0, 2), "of another generation");
        let adopted = record(Digest::adopted(), RecordState::Placed);
        assert!(adopted.takes("", 1) && !adopted.takes(&own.0, 1));
    }

    #[test]
    fn a_record_without_the_field_given_up_is_read_and_written_unchanged() {
        let text = concat!(
            r#"{"workspace":"ws","meta":"meta","owner":"jane","cluster":"eu-1","namespace":"workspaces","generation":1,"#,
            r#""digest":"","placedAt":"1970-01-01T00:00:00Z","state":{"kind":"confirmed"}}"#
        );
        let read: PlacementRecord = serde_json::from_str(text).unwrap();
        assert_eq!((&read.given_up, read.is_live()), (&None, true));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let given_up = read.given_up("it burned down".to_owned(), 2, Timestamp::UNIX_EPOCH, Timestamp::MAX);
        assert!(!given_up.is_live() && given_up.generation == 3, "{given_up:?}");
    }

    proptest! {
        #[test]
        fn a_status_version_grows_with_either_part_and_is_exact_as_a_double(
            generation in 1u32..1022, rv in 0u64..(1 << 43) - 1, other in 0u64..(1 << 43) - 1
        ) {
            let version = status_version(generation, rv);
            prop_assert!(version < 1 << 53);
            prop_assert!(status_version(generation, rv + 1) > version);
            prop_assert!(status_version(generation + 1, other) > version);
        }
    }
}
