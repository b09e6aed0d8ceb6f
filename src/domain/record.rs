//! The placement record: the one answer to where a workspace is.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ending::Ending;
use super::keyed::Keying;
use super::names::{ClusterName, MetaId, Namespace, OwnerId, WorkspaceId};

/// Keyed hash over the canonical form of a start request, in lower-case hex. It tells a repeated call from a different
/// one and gives no secret away.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(pub String);

/// Stands for a digest where no start of ours was placed: no request has it, since it is no hex.
const ADOPTED: &str = "adopted";

impl Digest {
    /// Of a workspace that no start of ours made.
    pub fn adopted() -> Self {
        Self(ADOPTED.to_owned())
    }

    /// Whether no start of ours made the workspace.
    pub fn is_adopted(&self) -> bool {
        self.0 == ADOPTED
    }

    /// What a resource says of the start that it was made for; `None` where that is no digest.
    pub fn of_start(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 64 && is_hex).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a workspace is placed. Written before any cluster is written to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementRecord {
    /// The instance id; the record's key.
    pub workspace: WorkspaceId,
    /// At most one live record of the installation has it.
    pub meta: MetaId,
    /// Kept for the STOPPED message made from the record where the resource is gone.
    pub owner: OwnerId,
    /// The owning cluster.
    pub cluster: ClusterName,
    /// The namespace there.
    pub namespace: Namespace,
    /// From 1; grows with a move, a re-creation under the same id, and a member restored from an old backup.
    pub generation: u32,
    /// Of the request that was placed.
    pub digest: Digest,
    /// What its digest and owner token are keyed with; absent where an earlier version recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keying: Option<Keying>,
    /// When the record was made.
    pub placed_at: Timestamp,
    /// How far the start came.
    pub state: RecordState,
    /// Why it was given up: an admin ended it, and its cluster never said that the workspace is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// How it ended, as it was last seen. Absent while it is live, where nobody saw the end, and in records that an earlier
    /// version ended; which drops nothing, since an ended record is not written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Meta ids that have a port whose URL is this workspace's: none of them is live beside it. Absent in records that were
    /// made before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_of: Option<Vec<MetaId>>,
}

/// How far a placement came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum RecordState {
    /// Recorded; the resource may or may not exist in the cluster.
    Placed,
    /// The resource was seen in the cluster.
    Confirmed,
    /// The workspace is gone; the record is kept until `expires` so that a late repeat of the start is refused.
    #[serde(rename_all = "camelCase")]
    Ended {
        /// When its end was recorded.
        at: Timestamp,
        /// When the record may be removed.
        expires: Timestamp,
    },
}

impl PlacementRecord {
    /// Whether it is the record of the start that a resource was made for, by the digest and generation that the resource
    /// names. One that names no start was adopted.
    pub fn is_of(&self, digest: &str, generation: u32) -> bool {
        let adopted = self.digest.is_adopted() && Digest::of_start(digest).is_none();
        (adopted || self.digest.0 == digest) && self.generation == generation
    }

    /// Whether a resource under its name is taken for what it is about. Once confirmed, one that names no start is too: its
    /// annotations may have been taken off.
    pub fn takes(&self, digest: &str, generation: u32) -> bool {
        let unnamed = self.digest.is_adopted() || Digest::of_start(digest).is_none();
        self.is_of(digest, generation) || (self.state == RecordState::Confirmed && unnamed)
    }

    /// Ended by an admin, as its cluster does not return; `reason` is told to users. What was ever shown of it has a version
    /// below that of the generation it has then: the cluster was set back so often, `rewinds`, and each counted as one.
    #[must_use]
    pub fn given_up(&self, reason: String, rewinds: u32, at: Timestamp, expires: Timestamp) -> Self {
        Self {
            generation: self.generation.saturating_add(rewinds),
            state: RecordState::Ended { at, expires },
            given_up: Some(reason),
            ..self.clone()
        }
    }

    /// Meta ids that have a port whose URL is this workspace's, as far as they are noted.
    pub fn port_of(&self) -> &[MetaId] {
        self.port_of.as_deref().unwrap_or_default()
    }

    /// Whether the workspace may still run.
    pub fn is_live(&self) -> bool {
        !matches!(self.state, RecordState::Ended { .. })
    }
}

/// Bits of a status version that hold the resource version; generations take the 10 bits above, so that the whole
/// stays below 2^53 and a client that reads it as a double loses nothing.
const RESOURCE_VERSION_BITS: u32 = 43;

/// The status version: a function of generation and resource version alone, so equal on every replica, and never
/// falling while either grows.
pub fn status_version(generation: u32, resource_version: u64) -> u64 {
    let generation = u64::from(generation).min((1 << 10) - 1);
    let resource_version = resource_version.min((1 << RESOURCE_VERSION_BITS) - 1);
    (generation << RESOURCE_VERSION_BITS) | resource_version
}

#[cfg(test)]
impl PlacementRecord {
    /// The first start of workspace `ws` of jane on eu-1, for tests of any room.
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
    fn the_mark_of_an_adopted_workspace_is_never_the_digest_of_a_start() {
        let digest = crate::keyed::Keyed::new(1, &[7; 32]).digest(b"a start");
        assert_eq!(Digest::of_start(&digest.0), Some(digest));
        for other in [ADOPTED, "", &"A".repeat(64)] {
            assert_eq!(Digest::of_start(other), None);
        }
        assert!(Digest::adopted().is_adopted());
    }

    #[test]
    fn a_record_takes_the_resource_of_its_own_start_and_no_other_of_the_name() {
        let digest = |secret| crate::keyed::Keyed::new(1, &[secret; 32]).digest(b"a start");
        let record = |digest, state| PlacementRecord { digest, ..PlacementRecord::sample(state) };
        let ended = RecordState::Ended { at: Timestamp::UNIX_EPOCH, expires: Timestamp::UNIX_EPOCH };
        let (own, other) = (digest(1), digest(2));
        for state in [RecordState::Placed, RecordState::Confirmed, ended] {
            let record = record(own.clone(), state);
            assert!(record.takes(&own.0, 1), "{state:?}");
            assert!(!record.takes(&other.0, 1), "{state:?}");
            // Made by hand, or its annotations were taken off.
            assert_eq!(record.takes("", 1), state == RecordState::Confirmed, "{state:?}");
        }
        assert!(!record(own.clone(), RecordState::Placed).takes(&own.0, 2), "of another generation");
        let adopted = record(Digest::adopted(), RecordState::Placed);
        assert!(adopted.takes("", 1) && !adopted.takes(&own.0, 1));
    }

    #[test]
    fn a_record_of_before_workspaces_could_be_given_up_is_read_and_written_as_it_was() {
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
