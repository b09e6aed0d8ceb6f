//! Starting a workspace exactly once.
//!
//! *Flow.* Place (pure) -> record in etcd -> secrets and resource in the cluster -> answer. *Guarantees.* The record is
//! the first write and is unique by workspace id and by meta id over the federation. A start moves on to the next
//! cluster only after a definite refusal of its first call there; whatever is not known stays where it is and a
//! repeated call goes on there, refused or not.
//! The same request gets the same answer while the workspace lives, because token and URL are derived from it.
//! *Caveat.* A start that was cut off after the record and is not repeated is settled by the leader ([`crate::workspaces::settle`]).

mod attempt;
mod create;
mod hosts;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use self::attempt::Attempt;
use crate::fleet::{InFlight, Place};
use crate::workspaces::settle::Resource;
use crate::{Error, Federation, Result};
use cluster::apply::Writer;
use cluster::convert::budget;
use domain::keyed::Keyed;
use domain::names::{ClusterName, Namespace, Region};
use domain::placement::{self, Rejection, Target};
use domain::record::{PlacementRecord, RecordState};
use domain::workspace::{Phase, Start};
use store::{Claim, Term};

/// The answer to a start.
#[derive(Clone, PartialEq, Eq)]
pub struct Started {
    /// Where the workspace is served.
    pub url: String,
    /// Opens it.
    pub owner_token: String,
    /// Where it was placed.
    pub cluster: ClusterName,
    /// The cluster's region.
    pub region: Region,
    /// The namespace there.
    pub namespace: Namespace,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Why an id is taken.
const ENDED: &str = "it has ended; a new start needs a new id";
const STOPPED: &str = "it has stopped; a new start needs a new id";

/// Where a start goes first.
struct Decided<'a> {
    /// Held from the decision to its record, so that no cluster is drained or taken out in between.
    registry: tokio::sync::RwLockReadGuard<'a, ()>,
    attempt: Attempt<'a>,
    target: Arc<Target>,
    in_flight: InFlight,
}

/// A record of ours and its version in etcd.
struct Held {
    record: PlacementRecord,
    version: i64,
}

impl Federation {
    /// Starts a workspace, or answers a repeated start as the first time.
    pub async fn start(&self, start: Start) -> Result<Started> {
        let term = self.leadership.term()?;
        let deadline = Instant::now() + self.options.placement_deadline;
        let _turn = self.locks.lock(&start.id, self.options.placement_deadline).await?;
        if let Some((record, version)) = self.index.record_of(&start.id) {
            return self.repeat(&term, &start, Held { record, version }, deadline).await;
        }
        budget::of_variables(&start)?;
        self.check_urls(&start)?;
        let Decided { registry, attempt, target, in_flight } = self.decide(&term, &start, deadline).await?;
        let port_of = Some(self.port_of(&start.meta));
        let record = PlacementRecord { port_of, ..new_record(&start, &self.keyed.load(), &target) };
        let checked = self.check_size(&start, &record, &target).and_then(|()| self.check_unnoted(&record));
        let claim = match checked {
            Ok(()) => self.store.claim(&term, &record).await.map_err(Error::from),
            Err(refused) => Err(refused),
        };
        if let Ok(Claim::Claimed { version }) = &claim {
            self.index.record(record.clone(), *version);
            in_flight.recorded();
        } else {
            drop(in_flight);
        }
        drop(registry);
        match claim? {
            Claim::Claimed { version } => {
                self.place(&term, &start, Held { record, version }, target, attempt, deadline).await
            }
            Claim::IdTaken(record, version) => {
                self.index.record((*record).clone(), version);
                self.repeat(&term, &start, Held { record: *record, version }, deadline).await
            }
            Claim::MetaTaken { workspace } => Err(Error::MetaTaken { meta: start.meta, workspace }),
            Claim::HostTaken { workspace } => Err(Error::HostTaken { meta: start.meta, workspace }),
            Claim::FolderTaken { workspace } => Err(Error::FolderTaken { id: start.id, workspace }),
        }
    }

    /// Decides, and takes the room at the best cluster. Where none fits yet, and one may as soon as more is known of it, that
    /// is waited for.
    async fn decide<'a>(&'a self, term: &Term, start: &'a Start, deadline: Instant) -> Result<Decided<'a>> {
        let mut changes = self.fleet.changes();
        loop {
            changes.borrow_and_update();
            let registry = self.registry.read(deadline.duration_since(Instant::now())).await?;
            let decision = placement::place(&start.placement, &self.fleet.candidates());
            let mut attempt = Attempt::new(self, start, decision, term.epoch());
            if let Some((target, in_flight)) = attempt.next() {
                return Ok(Decided { registry, attempt, target, in_flight });
            }
            drop(registry);
            if attempt.rejected.iter().any(|(_, why)| why.is_passing()) {
                tokio::select! {
                    changed = changes.changed() => if changed.is_ok() { continue },
                    () = term.ended() => return Err(Error::NotLeader),
                    () = sleep_until(deadline) => {}
                }
            }
            attempt.over(None);
            self.meters.unplaced(&attempt.rejected);
            return Err(unplaceable(start, attempt.rejected));
        }
    }

    /// What changed at a ranked target since the candidates were read.
    pub(crate) fn no_longer(&self, target: &Target) -> Option<Rejection> {
        if self.index.is_draining(&target.cluster) {
            return Some(Rejection::Draining);
        }
        let serves = self.fleet.serves(&target.cluster, &target.namespace);
        (!serves).then(|| Rejection::Namespace(target.namespace.clone()))
    }

    /// Tries the ranked clusters in turn, the record going before each.
    async fn place(
        &self,
        term: &Term,
        start: &Start,
        mut held: Held,
        mut target: Arc<Target>,
        mut attempt: Attempt<'_>,
        deadline: Instant,
    ) -> Result<Started> {
        let mut too_large = None;
        loop {
            match self.create(term, start, &held.record, &target, deadline).await {
                Ok(started) => {
                    attempt.over(Some(&target.cluster));
                    return Ok(started);
                }
                Err(Error::Cluster(error)) if error.is_definite_refusal() => {
                    tracing::warn!(workspace = %start.id, cluster = %target.cluster, %error, "start refused");
                    // What is not deleted in time is swept later.
                    let _ = timeout_at(deadline, self.take_back_secrets(term, start, &held.record)).await;
                    self.release(&held.record);
                    if matches!(error, cluster::Error::TooLarge { .. }) {
                        too_large = Some(self.too_large(start, &held.record, &target, &error));
                    }
                    let why = Rejection::Refused(error.to_string());
                    self.meters.rejected(&target.cluster, &why);
                    attempt.refused(target.cluster.clone(), why);
                }
                Err(error) => {
                    // Not known yet, and settled there.
                    attempt.over(Some(&target.cluster));
                    return Err(error);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            let left = deadline.duration_since(Instant::now());
            let Ok(_registry) = self.registry.read(left).await else { break };
            let Some((next, in_flight)) = attempt.next() else { break };
            let record = PlacementRecord {
                cluster: next.cluster.clone(),
                namespace: next.namespace.clone(),
                ..held.record.clone()
            };
            let version = self.store.reclaim(term, &record, held.version).await?;
            self.index.record(record.clone(), version);
            in_flight.recorded();
            held = Held { record, version };
            target = next;
        }
        attempt.over(None);
        self.meters.unplaced(&attempt.rejected);
        self.forget(term, &held).await?;
        Err(too_large.unwrap_or_else(|| unplaceable(start, attempt.rejected)))
    }

    /// What a start is answered that a cluster refused for its size, where no other takes it. Clusters store what the budget
    /// allows, so this one stores less than others; it refuses a repeated call, too.
    fn too_large(
        &self,
        start: &Start,
        record: &PlacementRecord,
        target: &Target,
        error: &cluster::Error,
    ) -> Error {
        let rule = format!("makes an object too large that no cluster stores: {error}");
        Error::Invalid { field: self.largest_field(start, record, target).into(), rule }
    }

    /// Answers a start whose id has a record already.
    async fn repeat(&self, term: &Term, start: &Start, held: Held, deadline: Instant) -> Result<Started> {
        let exists = |reason| Err(Error::WorkspaceExists { id: start.id.clone(), reason });
        let record = &held.record;
        if !record.is_live() {
            return exists(ENDED);
        }
        let digest = self.keyed.load().digest_of(record.keying.as_ref(), &start.canonical);
        if digest.as_ref() != Some(&record.digest) {
            return exists("another request has this id");
        }
        let Some(connected) = self.fleet.get(&record.cluster) else {
            return Err(Error::NoCluster(record.cluster.clone()));
        };
        if let Some(seen) = self.index.get(&start.id) {
            if seen.view.phase == Phase::Stopped || seen.view.deleting {
                return exists(STOPPED);
            }
            let place = connected.place(&record.namespace)?;
            let answer = self.answer(record, &place, connected.region());
            return Ok(as_told(answer, &seen.view.url, &seen.view.owner_token));
        }
        if record.state == RecordState::Confirmed {
            return self.repeat_of_one_seen(term, held).await;
        }
        // Recorded, but not known to exist: go on where the first call was cut off.
        let place = connected.place(&record.namespace)?;
        let class = start.placement.class.clone().or_else(|| place.settings.load().preferred_class.clone());
        let Some(class) = class else {
            return Err(Error::Invalid { field: "spec.class".into(), rule: "is required there".to_owned() });
        };
        let target = Target {
            cluster: record.cluster.clone(),
            region: connected.region(),
            namespace: record.namespace.clone(),
            class,
        };
        // Its room may have been given back; where there is none any more, it is there all the same.
        let (id, class) = (start.id.as_str(), target.class.as_str());
        let capacity = connected.member.capacity();
        if let Some(reserved) = capacity.reserve(&target.namespace, id, class, start.kind, false) {
            reserved.keep();
        }
        match self.create(term, start, record, &target, deadline).await {
            // This call did nothing; the first may have, or may still arrive. Only settling, which asks the cluster, may
            // forget the record.
            Err(Error::Cluster(error)) if error.is_definite_refusal() => Err(Error::Undecided {
                id: start.id.clone(),
                cluster: record.cluster.clone(),
                reason: error.to_string(),
            }),
            outcome => outcome,
        }
    }

    /// It was seen in its cluster once, so nothing is made again. The apiserver says whether it is still there.
    async fn repeat_of_one_seen(&self, term: &Term, held: Held) -> Result<Started> {
        let Held { record, version } = held;
        let id = record.workspace.clone();
        let exists = |reason| Err(Error::WorkspaceExists { id: id.clone(), reason });
        let (writer, place, region) = self.reach(term, &record).await?;
        let found = match writer.get_workspace(id.as_str()).await {
            Ok(found) => found,
            Err(error) => {
                let (cluster, reason) = (record.cluster.clone(), error.to_string());
                return Err(Error::Undecided { id: id.clone(), cluster, reason });
            }
        };
        match self.judged(&record, found.as_ref()) {
            Resource::There { deleting: false } => {
                let status = found.and_then(|found| found.status).unwrap_or_default();
                let token = status.owner_token.map(|token| token.0).unwrap_or_default();
                let answer = self.answer(&record, &place, region);
                Ok(as_told(answer, status.url.as_deref().unwrap_or_default(), &token))
            }
            Resource::There { deleting: true } => exists(STOPPED),
            Resource::Foreign => exists("another manager took it over"),
            Resource::Absent | Resource::Different | Resource::NotKnown => {
                self.end(term, record, version).await?;
                exists(ENDED)
            }
        }
    }

    fn answer(&self, record: &PlacementRecord, place: &Place, region: Region) -> Started {
        Started {
            url: place.settings.load().url(record.workspace.as_str(), record.meta.as_str()),
            owner_token: self.keyed.load().owner_token(
                &record.workspace,
                record.generation,
                record.keying.as_ref(),
            ),
            cluster: record.cluster.clone(),
            region,
            namespace: record.namespace.clone(),
        }
    }

    /// Gives back the room of a start that came to nothing.
    pub(crate) fn release(&self, record: &PlacementRecord) {
        if let Some(connected) = self.fleet.get(&record.cluster) {
            connected.member.capacity().release(&record.namespace, record.workspace.as_str());
        }
    }

    async fn forget(&self, term: &Term, held: &Held) -> Result<()> {
        self.store.forget(term, &held.record, held.version).await?;
        self.index.record_gone(&held.record.workspace, held.version);
        self.release(&held.record);
        Ok(())
    }

    /// Everything that is needed to write where a record says.
    pub(crate) async fn reach(
        &self,
        term: &Term,
        record: &PlacementRecord,
    ) -> Result<(Writer, Place, Region)> {
        let connected =
            self.fleet.get(&record.cluster).ok_or_else(|| Error::NoCluster(record.cluster.clone()))?;
        let place = connected.place(&record.namespace)?;
        let pass = connected.gate.pass(&record.cluster, term).await?;
        let writer = connected.member.writer(&record.namespace, &pass);
        Ok((writer, place, connected.region()))
    }
}

fn new_record(start: &Start, keyed: &Keyed, target: &Target) -> PlacementRecord {
    PlacementRecord {
        workspace: start.id.clone(),
        meta: start.meta.clone(),
        owner: start.owner.clone(),
        cluster: target.cluster.clone(),
        namespace: target.namespace.clone(),
        generation: 1,
        digest: keyed.digest(&start.canonical),
        keying: Some(keyed.keying(Uuid::new_v4().simple().to_string())),
        placed_at: Timestamp::now(),
        state: RecordState::Placed,
        given_up: None,
        ending: None,
        port_of: None,
    }
}

/// What the workspace itself tells is what the first call was answered: the URL's template may have changed since.
fn as_told(now: Started, url: &str, owner_token: &str) -> Started {
    let first = |told: &str, now: String| if told.is_empty() { now } else { told.to_owned() };
    Started { url: first(url, now.url), owner_token: first(owner_token, now.owner_token), ..now }
}

/// Where maintenance is all that keeps clusters from taking it, existing clients expect to be told just that.
fn unplaceable(start: &Start, verdicts: Vec<(ClusterName, Rejection)>) -> Error {
    let maintained: Vec<&str> = verdicts
        .iter()
        .filter(|(_, rejection)| *rejection == Rejection::Maintenance)
        .map(|(cluster, _)| cluster.as_str())
        .collect();
    if maintained.is_empty() {
        return Error::Unplaceable { id: start.id.clone(), verdicts };
    }
    Error::Maintenance { place: maintained.join(", "), verdicts }
}
