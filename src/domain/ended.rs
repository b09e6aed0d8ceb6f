//! A workspace that has ended, read from its record.

use jiff::Timestamp;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::StrDeserializer;

use super::ending::bounded;
use super::names::{ClusterName, MetaId, Namespace, OwnerId, WorkspaceId};
use super::record::{PlacementRecord, RecordState};
use super::workspace::{Conditions, Phase};

/// An ended workspace, read from its record.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The instance id.
    pub workspace: WorkspaceId,
    /// The long-lived id.
    pub meta: MetaId,
    /// The owner.
    pub owner: OwnerId,
    /// The cluster that it ran in.
    pub cluster: ClusterName,
    /// The namespace there.
    pub namespace: Namespace,
    /// When its record was written.
    pub placed_at: Timestamp,
    /// When its end was recorded.
    pub at: Timestamp,
    /// When its record expires and its id may be used again.
    pub expires: Timestamp,
    /// The phase before it began to stop; Unknown if not known.
    pub phase: Phase,
    /// Its last conditions.
    pub conditions: Conditions,
    /// Why it ended, in a sentence.
    pub message: String,
}

impl Ended {
    /// `None` if the record is live. A record of an earlier version, or of an end that was not observed, has only the place and the
    /// time of the end.
    pub fn of(record: &PlacementRecord) -> Option<Self> {
        let RecordState::Ended { at, expires } = record.state else { return None };
        let last = record.ending.clone().unwrap_or_default();
        let message = record.given_up.as_deref().map(bounded).unwrap_or(last.message);
        Some(Self {
            workspace: record.workspace.clone(),
            meta: record.meta.clone(),
            owner: record.owner.clone(),
            cluster: record.cluster.clone(),
            namespace: record.namespace.clone(),
            placed_at: record.placed_at,
            at,
            expires,
            phase: phase(&last.phase),
            conditions: Conditions {
                failed: last.failed,
                timeout: last.timeout,
                headless_task_failed: last.headless_task_failed,
                backup_failed: last.backup_failed,
                deployed: last.deployed,
                stopped_by_request: last.stopped_by_request,
                aborted: last.aborted,
                content_ready: last.content_ready,
                final_backup_complete: last.final_backup_complete,
                first_user_activity: last.first_user_activity,
                ..Conditions::default()
            },
            message: if message.is_empty() { "Nothing is known of its end.".to_owned() } else { message },
        })
    }
}

fn phase(name: &str) -> Phase {
    let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
    Phase::deserialize(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Ending;
    use crate::workspace::View;

    fn record(ending: Option<Ending>) -> PlacementRecord {
        let state = RecordState::Ended { at: Timestamp::UNIX_EPOCH, expires: Timestamp::MAX };
        PlacementRecord { ending, ..PlacementRecord::sample(state) }
    }

    fn last(failed: &str) -> View {
        let conditions =
            Conditions { failed: Some(failed.to_owned()), deployed: true, ..Conditions::default() };
        View { owner_token: "hunter2".to_owned(), conditions, ..View::of_record(&record(None)) }
    }

    #[test]
    fn a_failed_start_is_read_back_from_its_record() {
        let ending = Ending::of(&last("cannot pull image"), Phase::Creating, "Failed: cannot pull image");
        let text = serde_json::to_string(&record(Some(ending))).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let ended = Ended::of(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!((ended.phase, ended.message.as_str()), (Phase::Creating, "Failed: cannot pull image"));
        assert_eq!(ended.conditions.failed.as_deref(), Some("cannot pull image"));
        assert!(ended.conditions.deployed && !ended.conditions.stopped_by_request);
    }

    #[test]
    fn a_record_of_an_earlier_version_and_one_of_a_later_are_read() {
        let ended = Ended::of(&record(None)).unwrap();
        assert_eq!((ended.phase, ended.message.as_str()), (Phase::Unknown, "Nothing is known of its end."));
        assert!(!serde_json::to_string(&record(None)).unwrap().contains("ending"));
        let mut later = serde_json::to_value(record(Some(Ending::default()))).unwrap();
        later["ending"]["phase"] = "Hibernated".into();
        later["ending"]["unheardOf"] = 1.into();
        let read: PlacementRecord = serde_json::from_value(later).unwrap();
        assert_eq!(Ended::of(&read).unwrap().phase, Phase::Unknown);
    }

    #[test]
    fn a_live_record_has_no_ending() {
        assert_eq!(Ended::of(&PlacementRecord { state: RecordState::Confirmed, ..record(None) }), None);
    }
}
