//! Answers repeated starts.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::create::Creation;
use super::started::Started;
use crate::fleet::Fleet;
use crate::view::index::Index;
use crate::workspaces::ownership::{Ownership, Resource};
use crate::workspaces::records::Records;
use crate::{Error, Result};
use domain::placement::Target;
use domain::record::{PlacementRecord, RecordState};
use domain::signing::SigningKeys;
use domain::workspace::{Phase, Start};
use store::Term;

/// Why an id is taken.
const ENDED: &str = "it has ended; a new start needs a new id";
const STOPPED: &str = "it has stopped; a new start needs a new id";

/// A record and its version in etcd.
pub(super) struct Held {
    pub(super) record: PlacementRecord,
    pub(super) version: i64,
}

/// Answers repeated starts.
pub(crate) struct Repeats {
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    records: Arc<Records>,
    ownership: Arc<Ownership>,
    creation: Arc<Creation>,
    keyed: Arc<ArcSwap<SigningKeys>>,
}

impl Repeats {
    /// Goes on with `creation` where a start was cut off.
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        records: Arc<Records>,
        ownership: Arc<Ownership>,
        creation: Arc<Creation>,
        keyed: Arc<ArcSwap<SigningKeys>>,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, index, records, ownership, creation, keyed })
    }

    /// Answers a start whose id has a record already.
    pub(super) async fn repeat(
        &self,
        term: &Term,
        start: &Start,
        held: Held,
        deadline: Instant,
    ) -> Result<Started> {
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
            let answer = self.creation.answer(record, &place, connected.region());
            return Ok(answer.into_first_answered(&seen.view.url, &seen.view.owner_token));
        }
        if record.state == RecordState::Confirmed {
            return self.repeat_of_one_seen(term, held).await;
        }
        // Recorded, but not known to exist: continue where the first call was cut off.
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
        // Its capacity may have been released. Where none is available any more, it goes there all the same.
        let (id, class) = (start.id.as_str(), target.class.as_str());
        let capacity = connected.member.capacity();
        if let Some(reserved) = capacity.reserve(&target.namespace, id, class, start.kind, false) {
            reserved.keep();
        }
        match self.creation.create(term, start, record, &target, deadline).await {
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
        let (writer, place, region) = self.fleet.reach(term, &record).await?;
        let found = match writer.get_workspace(id.as_str()).await {
            Ok(found) => found,
            Err(error) => {
                let (cluster, reason) = (record.cluster.clone(), error.to_string());
                return Err(Error::Undecided { id: id.clone(), cluster, reason });
            }
        };
        match self.ownership.judged(&record, found.as_ref()) {
            Resource::There { deleting: false } => {
                let status = found.and_then(|found| found.status).unwrap_or_default();
                let token = status.owner_token.map(|token| token.0).unwrap_or_default();
                let answer = self.creation.answer(&record, &place, region);
                Ok(answer.into_first_answered(status.url.as_deref().unwrap_or_default(), &token))
            }
            Resource::There { deleting: true } => exists(STOPPED),
            Resource::Foreign => exists("another manager took it over"),
            Resource::Absent | Resource::Different | Resource::NotKnown => {
                self.records.end(term, record, version).await?;
                exists(ENDED)
            }
        }
    }
}
