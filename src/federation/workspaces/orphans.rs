//! Workspaces that run without a live placement record. A client cannot change them, so that a call about one fails
//! instead of doing nothing; an admin adopts or discards them.

use std::sync::Arc;

use crate::Error;
use crate::fleet::Fleet;
use crate::view::index::Index;
use crate::workspaces::ownership::{Ownership, Resource};
use domain::diff::Keeper;
use domain::names::{ClusterName, WorkspaceId};
use domain::record::{PlacementRecord, RecordState};
use domain::restore::Restores;
use domain::workspace::Phase;
use k8s::convert;
use k8s::resources::{Workspace, conditions};

/// Whether the resource of a record that has ended is left alone if it exists after all: it was given up with its cluster,
/// or came back with the cluster's backup. Nobody asked for its end there, and what it holds may be all that is left.
pub(crate) fn is_left_alone(record: &PlacementRecord, rewinds: Option<Restores>) -> bool {
    match record.state {
        RecordState::Ended { at, .. } => {
            record.given_up.is_some() || rewinds.is_some_and(|rewinds| rewinds.may_bring_back(at))
        }
        RecordState::Placed | RecordState::Confirmed => false,
    }
}

/// Why an orphan is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A restore of the cluster brought it back after it had ended.
    Restored,
    /// It has no record, or was given up.
    Unrecorded,
    /// The record of its name is of another start.
    Different,
}

/// Finds orphans, as the caches of this replica show them.
pub(crate) struct Orphans {
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    ownership: Arc<Ownership>,
    /// This installation's id.
    installation: Arc<str>,
}

impl Orphans {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        ownership: Arc<Ownership>,
        installation: Arc<str>,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, index, ownership, installation })
    }

    /// The error of a call about a workspace without a live record that runs; `None` if nothing of it runs, or it ends by
    /// itself.
    pub(crate) fn refusal(&self, id: &WorkspaceId) -> Option<Error> {
        let record = self.index.record_of(id).map(|(record, _)| record);
        self.fleet.connected().iter().find_map(|connected| {
            let cluster = connected.member.name();
            let found = connected.places().values().find_map(|place| place.cache.get(id.as_str()))?;
            let origin = self.origin(record.as_ref(), cluster, &found)?;
            Some(Error::Precondition { id: id.clone(), reason: reason(id, cluster, origin) })
        })
    }

    fn origin(
        &self,
        record: Option<&PlacementRecord>,
        cluster: &ClusterName,
        found: &Workspace,
    ) -> Option<Origin> {
        if convert::keeper(&found.metadata, &self.installation) != Keeper::Us || is_ending(found) {
            return None;
        }
        let Some(record) = record else { return Some(Origin::Unrecorded) };
        if record.is_live() {
            return None;
        }
        if record.given_up.is_some() {
            return Some(Origin::Unrecorded);
        }
        let is_its_own = record.cluster == *cluster
            && matches!(self.ownership.judged(record, Some(found)), Resource::There { .. });
        match (is_its_own, is_left_alone(record, self.index.rewinds_of(cluster))) {
            (false, _) => Some(Origin::Different),
            (true, true) => Some(Origin::Restored),
            // The leader stops it.
            (true, false) => None,
        }
    }
}

/// Whether the controller ends it without anybody's call.
fn is_ending(workspace: &Workspace) -> bool {
    let status = workspace.status.as_ref();
    let ends = [conditions::STOPPED_BY_REQUEST, conditions::FAILED, conditions::TIMEOUT];
    workspace.metadata.deletion_timestamp.is_some()
        || status.is_some_and(|status| {
            matches!(status.phase, Phase::Stopping | Phase::Stopped)
                || ends.iter().any(|kind| status.is_true(kind))
        })
}

fn reason(id: &WorkspaceId, cluster: &ClusterName, origin: Origin) -> String {
    let discard = format!("`spaceport cluster discard {cluster} {id} --force`");
    match origin {
        Origin::Restored => format!(
            "it has ended, and a restore of cluster {cluster} brought its resource back; without a placement record it \
             cannot be stopped or changed: an admin ends it with {discard}"
        ),
        Origin::Unrecorded => format!(
            "it runs on cluster {cluster} without a placement record, so it cannot be stopped or changed: an admin adopts \
             it with `spaceport cluster adopt {cluster} {id} --yes`, or ends it with {discard}"
        ),
        Origin::Different => format!(
            "a workspace of another start has its name on cluster {cluster}; without a placement record it cannot be \
             stopped or changed: an admin ends it with {discard}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    const SOON: Timestamp = Timestamp::constant(5, 0);
    const LATE: Timestamp = Timestamp::constant(60, 0);

    #[test]
    fn what_came_back_with_a_backup_or_was_given_up_is_left_alone() {
        let record = |state| crate::view::tests::sample(state);
        let ended = || record(RecordState::Ended { at: SOON, expires: LATE });
        let rewound = |last| Some(Restores { count: 1, last });
        assert!(is_left_alone(&ended(), rewound(LATE)));
        assert!(!is_left_alone(&ended(), rewound(Timestamp::UNIX_EPOCH)) && !is_left_alone(&ended(), None));
        assert!(!is_left_alone(&record(RecordState::Confirmed), rewound(LATE)));
        let given_up = record(RecordState::Confirmed).given_up("lost".to_owned(), 0, SOON, LATE);
        assert!(is_left_alone(&given_up, None));
    }

    #[test]
    fn each_origin_names_the_commands_that_end_it() {
        let (id, cluster) = ("ws".parse().unwrap(), "eu-1".parse().unwrap());
        for origin in [Origin::Restored, Origin::Unrecorded, Origin::Different] {
            let text = reason(&id, &cluster, origin);
            assert!(text.ends_with("ends it with `spaceport cluster discard eu-1 ws --force`"), "{text}");
            assert_eq!(text.contains("cluster adopt eu-1 ws --yes"), origin == Origin::Unrecorded, "{text}");
        }
    }

    #[test]
    fn one_that_ends_by_itself_needs_no_admin() {
        let with = |status: serde_json::Value| {
            let mut workspace = Workspace::new("ws", k8s::resources::WorkspaceSpec::default());
            workspace.status = serde_json::from_value(status).unwrap();
            workspace
        };
        assert!(is_ending(&with(json!({ "podStarts": 1, "phase": "Stopping" }))));
        assert!(!is_ending(&with(json!({ "podStarts": 1, "phase": "Running" }))));
        assert!(!is_ending(&with(json!(null))));
    }
}
