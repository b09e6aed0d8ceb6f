//! What the leader settles: records whose resource came, went, or never came.
//!
//! Ids are pushed when something about them changed and looked at one by one; what is done is decided by a pure
//! function. Nothing is forgotten or ended before the apiserver itself said that the resource is not there: its answer to a
//! question, or for a confirmed record its word that the very resource was deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Error, Federation, Result};
use crate::cluster::convert;
use crate::cluster::resources::Workspace;
use crate::domain::diff::Keeper;
use crate::domain::names::WorkspaceId;
use crate::domain::record::{PlacementRecord, RecordState};
use crate::domain::rewind::Rewinds;
use crate::domain::workspace::StopPolicy;
use crate::store::Term;

/// Workspaces settled at once.
const CONCURRENCY: usize = 16;
/// Before one that could not be settled is looked at again.
const RETRY: Duration = Duration::from_secs(2);
/// A start that was cut off is left alone this long: its client may repeat the call.
const ABANDONED: SignedDuration = SignedDuration::from_secs(60);

/// Workspaces to look at; no more than there are workspaces.
#[derive(Debug, Clone, Default)]
pub struct Queue(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    ids: Mutex<BTreeSet<WorkspaceId>>,
    /// To be looked at again after a while.
    later: Mutex<BTreeSet<WorkspaceId>>,
    wake: Notify,
}

impl Queue {
    /// Asks for a look at a workspace.
    pub fn push(&self, id: &WorkspaceId) {
        if self.0.ids.lock().insert(id.clone()) {
            self.0.wake.notify_one();
        }
    }

    /// Workspaces that are to be looked at, now or after a while.
    pub(super) fn waiting(&self) -> usize {
        self.0.ids.lock().len() + self.0.later.lock().len()
    }

    async fn pop(&self) -> WorkspaceId {
        loop {
            if let Some(id) = self.0.ids.lock().pop_first() {
                return id;
            }
            self.0.wake.notified().await;
        }
    }

    fn later(&self, id: WorkspaceId) {
        self.0.later.lock().insert(id);
    }

    /// Asks for a look at everything that was put off.
    fn look_again(&self) {
        let mut later = std::mem::take(&mut *self.0.later.lock());
        if !later.is_empty() {
            self.0.ids.lock().append(&mut later);
            self.0.wake.notify_one();
        }
    }

    fn clear(&self) {
        self.0.ids.lock().clear();
        self.0.later.lock().clear();
    }
}

/// What is known of a recorded workspace's resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// It is there; `deleting`: and on its way out.
    There { deleting: bool },
    /// One of ours has its name, and is of another start. So it is not there itself.
    Different,
    /// Somebody else's has its name; or it was somebody else's, and is not taken over yet.
    Foreign,
    /// The apiserver says that it is not there.
    Absent,
    /// The cluster was not asked, or did not answer.
    NotKnown,
}

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

fn step(record: &PlacementRecord, resource: Resource, rewinds: Option<Rewinds>, now: Timestamp) -> Step {
    match (record.state, resource) {
        (RecordState::Placed, Resource::There { .. }) => Step::Confirm,
        // Its adoption was cut off, and is gone on with.
        (RecordState::Placed, Resource::Foreign) if record.digest.is_adopted() => Step::Nothing,
        (RecordState::Placed, Resource::Absent | Resource::Different | Resource::Foreign) => {
            let is_abandoned = now.duration_since(record.placed_at) >= ABANDONED;
            if is_abandoned { Step::Forget } else { Step::Later }
        }
        (RecordState::Confirmed, Resource::Absent | Resource::Different) => Step::End,
        // It came back with its cluster: nobody asked for its end there.
        (RecordState::Ended { .. }, _) if record.given_up.is_some() => Step::Nothing,
        // It came back with its cluster's backup: nobody asked for it, and what it holds may be all that there is.
        (RecordState::Ended { at, .. }, _) if rewinds.is_some_and(|rewinds| rewinds.may_bring_back(at)) => {
            Step::Nothing
        }
        (RecordState::Ended { .. }, Resource::There { deleting: false }) => Step::Stop,
        (RecordState::Placed | RecordState::Confirmed, Resource::NotKnown) => Step::Later,
        (RecordState::Confirmed, Resource::There { .. } | Resource::Foreign)
        | (RecordState::Ended { .. }, _) => Step::Nothing,
    }
}

impl Federation {
    /// Settles until the term ends.
    pub(super) async fn settle(&self, term: &Term) {
        self.settle.clear();
        for (record, _) in self.index.live_records() {
            self.settle.push(&record.workspace);
        }
        let ids = futures::stream::unfold((), |()| async { Some((self.settle.pop().await, ())) });
        let settling = ids.for_each_concurrent(CONCURRENCY, |id| async move {
            match self.settle_one(term, &id).await {
                Ok(Step::Later) => self.settle.later(id),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(workspace = %id, %error, "cannot settle a record yet");
                    self.settle.later(id);
                }
            }
        });
        let looking_again = async {
            let mut ticks = tokio::time::interval(RETRY);
            loop {
                ticks.tick().await;
                self.settle.look_again();
            }
        };
        tokio::select! {
            () = settling => {}
            () = looking_again => {}
            () = term.ended() => {}
        }
    }

    async fn settle_one(&self, term: &Term, id: &WorkspaceId) -> Result<Step> {
        // Whoever holds the lock works on this very record; it is looked at again afterwards.
        let Some(_turn) = self.locks.try_lock(id) else { return Ok(Step::Later) };
        let Some((record, version)) = self.index.record_of(id) else { return Ok(Step::Nothing) };
        let resource = self.resource_of(term, &record).await?;
        let step = step(&record, resource, self.index.rewinds_of(&record.cluster), Timestamp::now());
        match step {
            Step::Nothing | Step::Later => {}
            // It may have come back with its cluster's backup.
            Step::Stop if !self.is_history_known(&record) => return Ok(Step::Later),
            Step::Confirm => {
                let version = self.store.confirm(term, &record, version).await?;
                self.index.record(PlacementRecord { state: RecordState::Confirmed, ..record }, version);
            }
            Step::End => self.end(term, record, version).await?,
            Step::Forget => {
                self.store.forget(term, &record, version).await?;
                self.index.record_gone(id, version);
                self.release(&record);
                tracing::info!(workspace = %id, cluster = %record.cluster, "an abandoned start created nothing");
            }
            Step::Stop => self.request_stop(term, &record, StopPolicy::Abort).await?,
        }
        Ok(step)
    }

    fn is_history_known(&self, record: &PlacementRecord) -> bool {
        let place =
            self.fleet.get(&record.cluster).and_then(|connected| connected.place(&record.namespace).ok());
        place.is_some_and(|place| !place.cache.is_listing()) && self.fleet.is_history_known(&record.cluster)
    }

    /// Now, and until when what ends now is remembered.
    pub(super) fn tombstone(&self) -> (Timestamp, Timestamp) {
        let at = Timestamp::now();
        let life = SignedDuration::try_from(self.options.tombstone_life).unwrap_or(SignedDuration::MAX);
        (at, at.saturating_add(life).unwrap_or(Timestamp::MAX))
    }

    pub(super) async fn end(&self, term: &Term, record: PlacementRecord, version: i64) -> Result<()> {
        let (at, expires) = self.tombstone();
        let version = self.store.end(term, &record, version, at, expires).await?;
        self.index.record(PlacementRecord { state: RecordState::Ended { at, expires }, ..record }, version);
        Ok(())
    }

    /// From the cache where it is there; only its absence is worth a question to the apiserver.
    async fn resource_of(&self, term: &Term, record: &PlacementRecord) -> Result<Resource> {
        let (writer, place, _) = match self.reach(term, record).await {
            Ok(reached) => reached,
            Err(Error::NoCluster(_) | Error::NoNamespace { .. }) => return Ok(Resource::NotKnown),
            Err(error) => return Err(error),
        };
        if let Some(known) = place.cache.get(record.workspace.as_str()) {
            return Ok(self.judged(record, Some(&known)));
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
        Ok(self.judged(record, found.as_ref()))
    }

    /// Whether what the apiserver has under a record's name is what the record is about.
    pub(super) fn judged(&self, record: &PlacementRecord, found: Option<&Workspace>) -> Resource {
        found.map_or(Resource::Absent, |found| judged(record, found, &self.installation.id.to_string()))
    }
}

fn judged(record: &PlacementRecord, found: &Workspace, installation: &str) -> Resource {
    let meta = &found.metadata;
    let takes = record.takes(convert::digest(meta), convert::generation(meta));
    match convert::keeper(meta, installation) {
        Keeper::Us if takes => Resource::There { deleting: meta.deletion_timestamp.is_some() },
        Keeper::Us => Resource::Different,
        // Its label was taken off by hand; before it is taken over, an adopted one has none either.
        Keeper::Nobody if takes && !(record.digest.is_adopted() && record.state == RecordState::Placed) => {
            Resource::There { deleting: meta.deletion_timestamp.is_some() }
        }
        Keeper::Nobody | Keeper::Manager(_) | Keeper::Installation(_) => Resource::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Digest;

    fn record(state: RecordState) -> PlacementRecord {
        PlacementRecord {
            workspace: "ws".parse().unwrap(),
            meta: "meta".parse().unwrap(),
            owner: "jane".parse().unwrap(),
            cluster: "eu-1".parse().unwrap(),
            namespace: "workspaces".parse().unwrap(),
            generation: 1,
            digest: Digest(String::new()),
            placed_at: Timestamp::UNIX_EPOCH,
            state,
            given_up: None,
        }
    }

    const SOON: Timestamp = Timestamp::constant(5, 0);
    const LATE: Timestamp = Timestamp::constant(60, 0);
    const ENDED: RecordState = RecordState::Ended { at: SOON, expires: LATE };
    const THERE: Resource = Resource::There { deleting: false };

    #[test]
    fn a_start_that_arrived_is_confirmed_and_one_that_did_not_is_forgotten_when_abandoned() {
        assert_eq!(step(&record(RecordState::Placed), THERE, None, SOON), Step::Confirm);
        assert_eq!(step(&record(RecordState::Placed), Resource::Absent, None, SOON), Step::Later);
        assert_eq!(step(&record(RecordState::Placed), Resource::Absent, None, LATE), Step::Forget);
    }

    #[test]
    fn another_resource_of_the_name_confirms_nothing_and_is_never_stopped() {
        for resource in [Resource::Different, Resource::Foreign] {
            assert_eq!(step(&record(RecordState::Placed), resource, None, SOON), Step::Later);
            assert_eq!(step(&record(RecordState::Placed), resource, None, LATE), Step::Forget);
            assert_eq!(step(&record(ENDED), resource, None, LATE), Step::Nothing);
        }
        // Where another start's has its name, its own is gone; what was handed to others may run on.
        assert_eq!(step(&record(RecordState::Confirmed), Resource::Different, None, SOON), Step::End);
        assert_eq!(step(&record(RecordState::Confirmed), Resource::Foreign, None, LATE), Step::Nothing);
        let begun = PlacementRecord { digest: Digest::adopted(), ..record(RecordState::Placed) };
        assert_eq!(step(&begun, Resource::Foreign, None, LATE), Step::Nothing);
    }

    #[test]
    fn a_confirmed_workspace_ends_only_when_its_cluster_says_that_it_is_gone() {
        assert_eq!(step(&record(RecordState::Confirmed), Resource::NotKnown, None, LATE), Step::Later);
        assert_eq!(step(&record(RecordState::Confirmed), THERE, None, LATE), Step::Nothing);
        assert_eq!(step(&record(RecordState::Confirmed), Resource::Absent, None, SOON), Step::End);
    }

    #[test]
    fn a_workspace_that_came_back_with_its_clusters_backup_is_left_alone() {
        let rewound = |last| Some(Rewinds { count: 1, last });
        assert_eq!(step(&record(ENDED), THERE, rewound(LATE), LATE), Step::Nothing);
        assert_eq!(step(&record(ENDED), THERE, rewound(Timestamp::UNIX_EPOCH), LATE), Step::Stop);
    }

    #[test]
    fn a_workspace_that_was_given_up_and_is_there_after_all_is_left_alone() {
        let given_up = record(RecordState::Confirmed).given_up("lost".to_owned(), 0, SOON, LATE);
        for resource in [THERE, Resource::Absent, Resource::Foreign] {
            assert_eq!(step(&given_up, resource, None, LATE), Step::Nothing);
        }
    }

    #[test]
    fn a_resource_that_comes_after_its_end_is_stopped() {
        assert_eq!(step(&record(ENDED), THERE, None, LATE), Step::Stop);
        assert_eq!(step(&record(ENDED), Resource::There { deleting: true }, None, LATE), Step::Nothing);
        assert_eq!(step(&record(ENDED), Resource::Absent, None, LATE), Step::Nothing);
    }
}
