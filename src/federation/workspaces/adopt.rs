//! What an admin does about workspaces without a record: adopting and discarding.
//!
//! *Flow.* A plan from [`crate::workspaces::diff`]; each workspace is then looked at again under its lock, by the apiserver's word.
//! One of ours is claimed: one transaction in etcd. One of another manager's is recorded as placed, then its pods name
//! us, then its secrets, then its Workspace ([`take_over`]); likewise one of another installation of Spaceport. One whose record names the cluster
//! as it was called before keeps its record, which moves ([`relocate`]). *Guarantees.* A cut-off at any point leaves a state
//! that a repeat goes on from. Of others' objects nothing is written before what tells that they are at work was read and is
//! dead ([`rivals`]).

mod discard;
mod relocate;
mod rivals;
mod take_over;
mod taken;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;

use crate::fleet::{Connected, Place};
use crate::locks::PATIENCE;
use crate::{Error, Federation, Result};
use cluster::apply::{Patched, Writer};
use cluster::convert::{self, budget};
use cluster::resources::Workspace;
use domain::adoption::{From, Names, Way, is_candidate, names as names_of, way};
use domain::diff::{Row, Standing, compare};
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::record::{Digest, PlacementRecord, RecordState};
use store::{Claim, Term};

pub use discard::Discard;
use taken::Taken;

/// Workspaces of one call that changes something.
pub const MOST: usize = 100;
/// Worked on at once.
const AT_ONCE: usize = 8;
/// For one workspace.
const WITHIN: Duration = Duration::from_secs(20);

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Adoption {
    /// These; all candidates where empty, which is for plans only.
    pub workspaces: Vec<WorkspaceId>,
    /// Whose beside our own.
    pub from: From,
    /// Where else another manager may hold its Lease.
    pub manager_namespaces: Vec<Namespace>,
    /// Change nothing and answer the plan.
    pub dry_run: bool,
}

/// What came of one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It would be adopted in this way.
    Planned(Way),
    /// It is.
    Adopted,
    /// Its resource is gone, or will be when it has ended in order.
    Discarded,
    /// It is as it was, or half done and to be repeated; why, in words that follow its name.
    Refused(String),
}

impl Federation {
    /// Adopts workspaces of a cluster, or tells what would be. Repeatable.
    pub async fn adopt(&self, name: &ClusterName, asked: &Adoption) -> Result<Vec<(Row, Outcome)>> {
        let term = self.leadership.term()?;
        if !asked.dry_run && !(1..=MOST).contains(&asked.workspaces.len()) {
            let rule = format!("must name 1 to {MOST} where something is to be changed");
            return Err(Error::Invalid { field: "workspaces".into(), rule });
        }
        let connected = self.usable(name)?;
        let rows = if asked.workspaces.is_empty() {
            let mut rows = self.compared(&connected).await?;
            rows.retain(is_candidate);
            rows
        } else {
            self.compared_of(&connected, &asked.workspaces).await?
        };
        let (mut planned, mut taken) = (Vec::with_capacity(rows.len()), Taken::of(self));
        for row in rows {
            let outcome = match way(&row, &asked.from).and_then(|way| offered(&connected, &row, way)) {
                _ if row.standing == Standing::Adopted => Outcome::Adopted,
                Ok(way) => taken.in_the_way(&row, way).map_or(Outcome::Planned(way), Outcome::Refused),
                Err(why) => Outcome::Refused(why),
            };
            planned.push((row, outcome));
        }
        self.bar_while_others_work(&connected, &mut planned, &asked.manager_namespaces).await;
        if asked.dry_run {
            return Ok(planned);
        }
        let act = async |(row, outcome): (Row, Outcome)| {
            let Outcome::Planned(_) = outcome else { return (row, outcome) };
            let outcome = self.adopt_in_time(&term, &connected, &row, &asked.from).await;
            (row, outcome)
        };
        Ok(futures::stream::iter(planned).map(act).buffered(AT_ONCE).collect().await)
    }

    /// A member in use.
    fn usable(&self, name: &ClusterName) -> Result<std::sync::Arc<Connected>> {
        if let Some(connected) = self.fleet.get(name) {
            return Ok(connected);
        }
        let reason = self.cluster(name)?.reason;
        Err(Error::Unusable { cluster: name.clone(), reason })
    }

    /// Named workspaces, each as it stands in each namespace where it is; one that is nowhere has a row of its own.
    async fn compared_of(&self, connected: &Connected, ids: &[WorkspaceId]) -> Result<Vec<Row>> {
        let ids: BTreeSet<&WorkspaceId> = ids.iter().collect();
        let formerly = self.formerly(connected).await?;
        let look = async |id: &WorkspaceId| {
            let mut rows = Vec::new();
            for namespace in connected.places().keys() {
                let reader = connected.member.idle_writer(namespace);
                if let Some(workspace) = reader.get_workspace(id.as_str()).await? {
                    rows.extend(self.row_of(connected, &formerly, id, &workspace));
                }
            }
            if rows.is_empty() {
                let records: Vec<PlacementRecord> =
                    self.index.record_of(id).map(|(record, _)| record).into_iter().collect();
                rows = compare(connected.member.name(), &formerly, &records, Vec::new());
            }
            if rows.is_empty() {
                rows.extend(connected.places().keys().next().map(|namespace| nowhere(id, namespace)));
            }
            Ok::<Vec<Row>, Error>(rows)
        };
        let looks = futures::stream::iter(ids).map(look).buffered(AT_ONCE);
        let all: Vec<Result<Vec<Row>>> = looks.collect().await;
        Ok(all.into_iter().collect::<Result<Vec<Vec<Row>>>>()?.into_iter().flatten().collect())
    }

    /// How a resource stands now.
    fn row_of(
        &self,
        connected: &Connected,
        formerly: &BTreeSet<ClusterName>,
        id: &WorkspaceId,
        workspace: &Workspace,
    ) -> Option<Row> {
        let found = convert::found(workspace, &self.installation)?;
        let record: Vec<PlacementRecord> =
            self.index.record_of(id).map(|(record, _)| record).into_iter().collect();
        let mut rows = compare(connected.member.name(), formerly, &record, vec![found]);
        rows.retain(|row| row.found.is_some());
        rows.pop()
    }

    async fn adopt_in_time(&self, term: &Term, connected: &Connected, row: &Row, from: &From) -> Outcome {
        let adopting = self.adopt_one(term, connected, row, from);
        let outcome = match tokio::time::timeout(WITHIN, adopting).await {
            Ok(Ok(())) => Outcome::Adopted,
            Ok(Err(Error::Precondition { reason, .. })) => Outcome::Refused(reason),
            Ok(Err(error)) => Outcome::Refused(format!("is not adopted: {error}; repeat the call")),
            Err(_) => Outcome::Refused(format!("is not adopted within {WITHIN:?}; repeat the call")),
        };
        let cluster = connected.member.name();
        tracing::info!(%cluster, workspace = row.workspace, ?outcome, "adopt");
        outcome
    }

    async fn adopt_one(&self, term: &Term, connected: &Connected, row: &Row, from: &From) -> Result<()> {
        if matches!(row.standing, Standing::Left(_)) {
            return self.relocate(term, connected, row).await;
        }
        let (id, _turn, site) = self.look_again(term, connected, row).await?;
        let Site { row, workspace, writer, place } = site;
        if row.standing == Standing::Adopted {
            return Ok(());
        }
        let refused = |reason: String| Error::Precondition { id: id.clone(), reason };
        let way = way(&row, from).and_then(|way| offered(connected, &row, way)).map_err(refused)?;
        let names = row.found.as_ref().ok_or_else(|| Error::NoWorkspace(id.clone()))?;
        let names = names_of(names).map_err(refused)?;
        match way {
            Way::Claim => {
                let given_up = self.index.record_of(&id).filter(|(record, _)| record.given_up.is_some());
                let workspace = match &given_up {
                    Some((record, _)) => outgrow(&writer, &place, workspace, record.generation).await?,
                    None => workspace,
                };
                let record = new_record(connected, &row, names, &workspace, RecordState::Confirmed);
                self.claim_stray(term, &record, given_up.map(|(_, version)| version)).await?;
            }
            Way::TakeOver => {
                let large = |large: budget::Exceeded| refused(format!("is too large to be adopted: {large}"));
                budget::of_adoption(&workspace).map_err(large)?;
                let placed = new_record(connected, &row, names, &workspace, RecordState::Placed);
                let record = PlacementRecord { digest: Digest::adopted(), ..placed };
                if row.standing != Standing::Handover {
                    self.claim_stray(term, &record, None).await?;
                }
                self.take_over(&writer, &place, workspace).await?;
            }
            // Looked at again, it is none of these any more.
            Way::Move => return Err(refused("kept changing; repeat the call".to_owned())),
        }
        self.settle.push(&id);
        Ok(())
    }

    /// A resource and what is recorded of it, both as they are now, for whoever holds the workspace's lock.
    async fn look_again(
        &self,
        term: &Term,
        connected: &Connected,
        row: &Row,
    ) -> Result<(WorkspaceId, tokio::sync::OwnedMutexGuard<()>, Site)> {
        let id: WorkspaceId = row.workspace.parse().map_err(|_| Error::Invalid {
            field: "workspaces".into(),
            rule: format!("{} is no workspace id", row.workspace),
        })?;
        let turn = self.locks.lock(&id, PATIENCE).await?;
        let place = connected.place(&row.namespace)?;
        let pass = connected.gate.pass(connected.member.name(), term).await?;
        let writer = connected.member.writer(&row.namespace, &pass);
        // Of this very leader's etcd: nothing is done about what may have a record.
        if let Some(item) = self.store.placement(&id).await? {
            self.index.record(item.value, item.version);
        }
        let gone =
            || Error::Precondition { id: id.clone(), reason: "has no resource there any more".to_owned() };
        let workspace = writer.get_workspace(id.as_str()).await?.ok_or_else(gone)?;
        let row = self.row_of(connected, &BTreeSet::new(), &id, &workspace).ok_or_else(gone)?;
        Ok((id, turn, Site { row, workspace, writer, place }))
    }

    /// Records a workspace that is there, where neither of its ids is taken; `given_up`: version of a record that does not
    /// count any more.
    async fn claim_stray(&self, term: &Term, record: &PlacementRecord, given_up: Option<i64>) -> Result<()> {
        let record = &PlacementRecord { port_of: Some(self.port_of(&record.meta)), ..record.clone() };
        let refused = |reason: String| Err(Error::Precondition { id: record.workspace.clone(), reason });
        if let Err(taken) = self.check_unnoted(record) {
            return refused(taken.to_string());
        }
        let registry = self.registry.read(PATIENCE).await?;
        let claim = match given_up {
            None => self.store.claim(term, record).await?,
            Some(version) => self.store.claim_over(term, record, version).await?,
        };
        drop(registry);
        let why = taken::why(&claim, &record.workspace, &record.meta);
        match claim {
            Claim::Claimed { version } => self.index.record(record.clone(), version),
            Claim::IdTaken(found, version) => {
                let same = found.is_live()
                    && (&found.cluster, &found.namespace, &found.digest)
                        == (&record.cluster, &record.namespace, &record.digest);
                self.index.record(*found, version);
                // An earlier try of this, whose answer was lost.
                if same {
                    return Ok(());
                }
            }
            Claim::MetaTaken { .. } | Claim::HostTaken { .. } | Claim::FolderTaken { .. } => {}
        }
        why.map_or(Ok(()), refused)
    }
}

/// Where a workspace is looked at again before something is done about it.
struct Site {
    row: Row,
    workspace: Workspace,
    writer: Writer,
    place: Place,
}

/// What another manager ran must be a class here, or it could not be looked after; and what moves must be in a namespace that
/// is served.
fn offered(connected: &Connected, row: &Row, way: Way) -> Result<Way, String> {
    let class = row.found.as_ref().map(|found| found.class.as_str()).unwrap_or_default();
    let place = connected.places().get(&row.namespace);
    if way == Way::Move && place.is_none() {
        return Err(format!(
            "is recorded in namespace {}, which the cluster does not serve now",
            row.namespace
        ));
    }
    if way == Way::TakeOver && place.is_none_or(|place| !place.settings.load().classes.contains_key(class)) {
        return Err(format!("has class {class:?}, which is not configured in namespace {}", row.namespace));
    }
    Ok(way)
}

/// A workspace that was given up and is there after all gets a generation above the one that its end was told with. Before its
/// record, which names it: a cut-off in between leaves a stray that the same adoption goes on with.
async fn outgrow(writer: &Writer, place: &Place, workspace: Workspace, told: u32) -> Result<Workspace> {
    if convert::generation(&workspace.metadata) > told {
        return Ok(workspace);
    }
    match writer.set_generation(&workspace, told.saturating_add(1)).await? {
        Patched::Done(changed) => {
            place.cache.offer(changed.clone());
            Ok(changed)
        }
        Patched::NotFound | Patched::Conflict => {
            let name = workspace.metadata.name.unwrap_or_default();
            Err(Error::Contended { what: format!("workspace {name}") })
        }
    }
}

fn nowhere(id: &WorkspaceId, namespace: &Namespace) -> Row {
    Row {
        workspace: id.to_string(),
        namespace: namespace.clone(),
        standing: Standing::Finished,
        meta: String::new(),
        owner: String::new(),
        found: None,
        at: None,
    }
}

/// As the start would have recorded it, so that its repeat has the same answer; what says nothing of a start is marked.
fn new_record(
    connected: &Connected,
    row: &Row,
    names: Names,
    workspace: &Workspace,
    state: RecordState,
) -> PlacementRecord {
    let digest = Digest::of_start(convert::digest(&workspace.metadata));
    PlacementRecord {
        workspace: names.id,
        meta: names.meta,
        owner: names.owner,
        cluster: connected.member.name().clone(),
        namespace: row.namespace.clone(),
        generation: convert::generation(&workspace.metadata),
        digest: digest.unwrap_or_else(Digest::adopted),
        keying: convert::keying(&workspace.metadata),
        placed_at: Timestamp::now(),
        state,
        given_up: None,
        ending: None,
        port_of: None,
    }
}
