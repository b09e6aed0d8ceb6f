//! Settles placement records: compares them with their resources, and confirms, ends or removes them.
//!
//! Ids are queued on every change and handled one by one; a pure function decides. A record is ended or
//! removed only after the apiserver said that the resource does not exist: in answer to a read, or, for a
//! confirmed record, by the deletion event of that very resource.

pub mod queue;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use crate::fleet::{Fleet, Place};
use crate::locks::Locks;
use crate::view::index::Index;
use crate::workspaces::changes::Changes;
use crate::workspaces::orphans::is_left_alone;
use crate::workspaces::ownership::{Ownership, Resource};
use crate::workspaces::records::Records;
use crate::workspaces::settle::queue::Queue;
use crate::{Error, Result};
use domain::names::{Region, WorkspaceId};
use domain::record::{PlacementRecord, RecordState};
use domain::restore::Restores;
use domain::workspace::StopPolicy;
use member::apply::Writer;
use store::Term;

/// Workspaces settled at once.
const CONCURRENCY: usize = 16;
/// Before a retry of one that could not be settled.
const RETRY: Duration = Duration::from_secs(2);
/// A recorded start is given up once its cluster said twice, so far apart, that its resource does not exist. The apiserver
/// gave up the creation before that, since it was sent with a shorter timeout; and its client could repeat the call.
const ABANDONED: Duration = Duration::from_secs(20);

/// What to do about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Confirm,
    End,
    Forget,
    /// It came after its end was recorded: a creation that was thought lost.
    Stop,
    Later,
}

/// `absent_for`: for how long the cluster has said that the resource of a recorded start does not exist.
fn step(
    record: &PlacementRecord,
    resource: Resource,
    rewinds: Option<Restores>,
    absent_for: Duration,
) -> Step {
    match (record.state, resource) {
        (RecordState::Placed, Resource::There { .. }) => Step::Confirm,
        // Its adoption was cut off, and a repeated call continues it.
        (RecordState::Placed, Resource::Foreign) if record.digest.is_adopted() => Step::Nothing,
        (RecordState::Placed, Resource::Absent | Resource::Different | Resource::Foreign) => {
            if absent_for >= ABANDONED { Step::Forget } else { Step::Later }
        }
        (RecordState::Confirmed, Resource::Absent | Resource::Different) => Step::End,
        (RecordState::Ended { .. }, _) if is_left_alone(record, rewinds) => Step::Nothing,
        (RecordState::Ended { .. }, Resource::There { deleting: false }) => Step::Stop,
        (RecordState::Placed | RecordState::Confirmed, Resource::NotKnown) => Step::Later,
        (RecordState::Confirmed, Resource::There { .. } | Resource::Foreign)
        | (RecordState::Ended { .. }, _) => Step::Nothing,
    }
}

/// Settles the placement records of all workspaces.
pub struct Settling {
    records: Arc<Records>,
    index: Arc<Index>,
    fleet: Arc<Fleet>,
    locks: Arc<Locks>,
    queue: Queue,
    ownership: Arc<Ownership>,
    changes: Arc<Changes>,
}

impl Settling {
    pub(crate) fn new(
        records: Arc<Records>,
        index: Arc<Index>,
        fleet: Arc<Fleet>,
        locks: Arc<Locks>,
        queue: Queue,
        ownership: Arc<Ownership>,
        changes: Arc<Changes>,
    ) -> Arc<Self> {
        Arc::new(Self { records, index, fleet, locks, queue, ownership, changes })
    }

    /// Settles until the term ends.
    pub(crate) async fn run(&self, term: &Term) {
        let _open = self.queue.open();
        for (record, _) in self.index.live_records() {
            self.queue.push(&record.workspace);
        }
        for id in self.ended_but_there() {
            self.queue.push(&id);
        }
        let ids = futures::stream::unfold((), |()| async { Some((self.queue.pop().await, ())) });
        let settling = ids.for_each_concurrent(CONCURRENCY, |id| async move {
            match self.settle_one(term, &id).await {
                Ok(Step::Later) => self.queue.later(id),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(workspace = %id, %error, "cannot settle a record yet");
                    self.queue.later(id);
                }
            }
        });
        let looking_again = async {
            let mut ticks = tokio::time::interval(RETRY);
            loop {
                ticks.tick().await;
                self.queue.look_again();
            }
        };
        tokio::select! {
            () = settling => {}
            () = looking_again => {}
            () = term.ended() => {}
        }
    }

    /// Workspaces whose record has ended and whose resource is there: it may have come while nobody settled.
    fn ended_but_there(&self) -> Vec<WorkspaceId> {
        let members = self.fleet.connected();
        let names =
            members.iter().flat_map(|connected| connected.member.caches()).flat_map(|cache| cache.names());
        let ids = names.filter_map(|name| name.parse::<WorkspaceId>().ok());
        ids.filter(|id| self.index.has_ended(id)).collect()
    }

    async fn settle_one(&self, term: &Term, id: &WorkspaceId) -> Result<Step> {
        // The lock's holder works on this very record; it is handled again afterwards.
        let Some(_turn) = self.locks.try_lock(id) else { return Ok(Step::Later) };
        let Some((record, version)) = self.index.record_of(id) else {
            self.queue.not_absent(id);
            return Ok(Step::Nothing);
        };
        let reached = self.fleet.reach(term, &record).await;
        if let Ok((writer, place, _)) = &reached
            && !self.ownership.put_labels_back(writer, place, &record).await?
        {
            return Ok(Step::Later);
        }
        let resource = self.resource_of(reached, &record).await?;
        let is_absent = record.state == RecordState::Placed
            && matches!(resource, Resource::Absent | Resource::Different | Resource::Foreign);
        let absent_for = if is_absent { self.queue.absent_for(id) } else { Duration::ZERO };
        if !is_absent {
            self.queue.not_absent(id);
        }
        let step = step(&record, resource, self.index.rewinds_of(&record.cluster), absent_for);
        if step != Step::Stop {
            self.queue.not_back(id);
        }
        match step {
            Step::Nothing | Step::Later => {}
            // It may have come back with its cluster's backup.
            Step::Stop if !self.is_history_proven(&record) => return Ok(Step::Later),
            Step::Confirm => {
                self.records.confirm(term, record, version).await?;
            }
            Step::End => self.records.end(term, record, version).await?,
            Step::Forget => {
                self.records.forget(term, &record, version).await?;
                self.queue.not_absent(id);
                tracing::info!(workspace = %id, cluster = %record.cluster, "an abandoned start created nothing");
            }
            Step::Stop => self.changes.request_stop(term, &record, StopPolicy::Abort).await?,
        }
        Ok(step)
    }

    /// Whether the cluster was not restored between the end of a workspace and the moment it was seen there again.
    fn is_history_proven(&self, record: &PlacementRecord) -> bool {
        let place =
            self.fleet.get(&record.cluster).and_then(|connected| connected.place(&record.namespace).ok());
        let since = self.queue.back_since(&record.workspace);
        place.is_some_and(|place| !place.cache.is_listing())
            && self.fleet.is_history_proven(&record.cluster, since)
    }

    /// From the cache where it is there; only its absence is worth a question to the apiserver.
    async fn resource_of(
        &self,
        reached: Result<(Writer, Place, Region)>,
        record: &PlacementRecord,
    ) -> Result<Resource> {
        let (writer, place, _) = match reached {
            Ok(reached) => reached,
            Err(Error::NoCluster(_) | Error::NoNamespace { .. }) => return Ok(Resource::NotKnown),
            Err(error) => return Err(error),
        };
        if let Some(known) = place.cache.get(record.workspace.as_str()) {
            return Ok(self.ownership.judged(record, Some(&known)));
        }
        if !record.is_live() {
            return Ok(Resource::Absent);
        }
        if !place.cache.is_synced() {
            return Ok(Resource::NotKnown);
        }
        if record.state == RecordState::Confirmed && place.cache.was_deleted(record.workspace.as_str()) {
            return Ok(Resource::Absent);
        }
        let found = writer.get_workspace(record.workspace.as_str()).await?;
        Ok(self.ownership.judged(record, found.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use domain::record::Digest;

    fn record(state: RecordState) -> PlacementRecord {
        crate::view::tests::sample(state)
    }

    const AT_ONCE: Duration = Duration::ZERO;
    const SOON: Timestamp = Timestamp::constant(5, 0);
    const LATE: Timestamp = Timestamp::constant(60, 0);
    const ENDED: RecordState = RecordState::Ended { at: SOON, expires: LATE };
    const THERE: Resource = Resource::There { deleting: false };

    #[test]
    fn a_start_that_arrived_is_confirmed_and_one_that_did_not_is_forgotten_when_abandoned() {
        assert_eq!(step(&record(RecordState::Placed), THERE, None, AT_ONCE), Step::Confirm);
        assert_eq!(step(&record(RecordState::Placed), Resource::Absent, None, AT_ONCE), Step::Later);
        assert_eq!(step(&record(RecordState::Placed), Resource::Absent, None, ABANDONED), Step::Forget);
    }

    #[test]
    fn another_resource_of_the_name_confirms_nothing_and_is_never_stopped() {
        for resource in [Resource::Different, Resource::Foreign] {
            assert_eq!(step(&record(RecordState::Placed), resource, None, AT_ONCE), Step::Later);
            assert_eq!(step(&record(RecordState::Placed), resource, None, ABANDONED), Step::Forget);
            assert_eq!(step(&record(ENDED), resource, None, ABANDONED), Step::Nothing);
        }
        // Where another start's has its name, its own is gone; what was handed to others may run on.
        assert_eq!(step(&record(RecordState::Confirmed), Resource::Different, None, AT_ONCE), Step::End);
        assert_eq!(step(&record(RecordState::Confirmed), Resource::Foreign, None, ABANDONED), Step::Nothing);
        let begun = PlacementRecord { digest: Digest::adopted(), ..record(RecordState::Placed) };
        assert_eq!(step(&begun, Resource::Foreign, None, ABANDONED), Step::Nothing);
    }

    #[test]
    fn a_confirmed_workspace_ends_only_when_its_cluster_says_that_it_is_gone() {
        assert_eq!(step(&record(RecordState::Confirmed), Resource::NotKnown, None, ABANDONED), Step::Later);
        assert_eq!(step(&record(RecordState::Confirmed), THERE, None, ABANDONED), Step::Nothing);
        assert_eq!(step(&record(RecordState::Confirmed), Resource::Absent, None, AT_ONCE), Step::End);
    }

    #[test]
    fn a_workspace_that_came_back_with_its_clusters_backup_is_left_alone() {
        let rewound = |last| Some(Restores { count: 1, last });
        assert_eq!(step(&record(ENDED), THERE, rewound(LATE), ABANDONED), Step::Nothing);
        assert_eq!(step(&record(ENDED), THERE, rewound(Timestamp::UNIX_EPOCH), ABANDONED), Step::Stop);
    }

    #[test]
    fn a_workspace_that_was_given_up_and_is_there_after_all_is_left_alone() {
        let given_up = record(RecordState::Confirmed).given_up("lost".to_owned(), 0, SOON, LATE);
        for resource in [THERE, Resource::Absent, Resource::Foreign] {
            assert_eq!(step(&given_up, resource, None, ABANDONED), Step::Nothing);
        }
    }

    #[test]
    fn a_resource_that_comes_after_its_end_is_stopped() {
        assert_eq!(step(&record(ENDED), THERE, None, ABANDONED), Step::Stop);
        assert_eq!(step(&record(ENDED), Resource::There { deleting: true }, None, ABANDONED), Step::Nothing);
        assert_eq!(step(&record(ENDED), Resource::Absent, None, ABANDONED), Step::Nothing);
    }
}
