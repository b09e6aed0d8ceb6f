//! Adopting workspaces of a cluster.

use std::sync::Arc;

use futures::StreamExt as _;
use jiff::Timestamp;

use super::claims::Claims;
use super::outcome::{AT_ONCE, MOST, Outcome, WITHIN};
use super::relocate::Relocation;
use super::rivals::bar_while_others_work;
use super::site::{Site, Sites};
use super::take_over::take_over;
use crate::fleet::{Connected, Fleet, Place};
use crate::leadership::Leadership;
use crate::workspaces::diff::Comparison;
use crate::workspaces::settle::queue::Queue;
use crate::{Error, Result};
use domain::adoption::{From, Names, Way, is_candidate, names as names_of, way};
use domain::diff::{Row, Standing};
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::record::{Digest, PlacementRecord, RecordState};
use k8s::convert::{self, budget};
use k8s::resources::Workspace;
use member::apply::{Patched, Writer};
use store::Term;

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

/// Adopts workspaces that are there and have no record here.
pub struct Adopting {
    leadership: Arc<Leadership>,
    fleet: Arc<Fleet>,
    comparison: Arc<Comparison>,
    sites: Arc<Sites>,
    claims: Arc<Claims>,
    relocation: Arc<Relocation>,
    queue: Queue,
}

impl Adopting {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        fleet: Arc<Fleet>,
        comparison: Arc<Comparison>,
        sites: Arc<Sites>,
        claims: Arc<Claims>,
        relocation: Arc<Relocation>,
        queue: Queue,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, fleet, comparison, sites, claims, relocation, queue })
    }

    /// Adopts workspaces of a cluster, or returns the plan. Repeatable.
    pub async fn adopt(&self, name: &ClusterName, asked: &Adoption) -> Result<Vec<(Row, Outcome)>> {
        let term = self.leadership.term()?;
        if !asked.dry_run && !(1..=MOST).contains(&asked.workspaces.len()) {
            let rule = format!("must name 1 to {MOST} where something is to be changed");
            return Err(Error::Invalid { field: "workspaces".into(), rule });
        }
        let connected = self.fleet.usable(name)?;
        let rows = if asked.workspaces.is_empty() {
            let mut rows = self.comparison.compared(&connected).await?;
            rows.retain(is_candidate);
            rows
        } else {
            self.comparison.compared_of(&connected, &asked.workspaces).await?
        };
        let (mut planned, mut taken) = (Vec::with_capacity(rows.len()), self.claims.taken());
        for row in rows {
            let outcome = match way(&row, &asked.from).and_then(|way| offered(&connected, &row, way)) {
                _ if row.standing == Standing::Adopted => Outcome::Adopted,
                Ok(way) => taken.in_the_way(&row, way).map_or(Outcome::Planned(way), Outcome::Refused),
                Err(why) => Outcome::Refused(why),
            };
            planned.push((row, outcome));
        }
        let installation = self.comparison.installation();
        bar_while_others_work(&connected, &mut planned, &asked.manager_namespaces, installation).await;
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
            return self.relocation.relocate(term, connected, row).await;
        }
        let (id, _turn, site) = self.sites.look_again(term, connected, row).await?;
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
                let given_up = self.claims.given_up(&id);
                let workspace = match &given_up {
                    Some((record, _)) => outgrow(&writer, &place, workspace, record.generation).await?,
                    None => workspace,
                };
                let record = new_record(connected, &row, names, &workspace, RecordState::Confirmed);
                self.claims.claim(term, &record, given_up.map(|(_, version)| version)).await?;
            }
            Way::TakeOver => {
                let large = |large: budget::Exceeded| refused(format!("is too large to be adopted: {large}"));
                budget::of_adoption(&workspace).map_err(large)?;
                let placed = new_record(connected, &row, names, &workspace, RecordState::Placed);
                let record = PlacementRecord { digest: Digest::adopted(), ..placed };
                if row.standing != Standing::Handover {
                    self.claims.claim(term, &record, None).await?;
                }
                take_over(&writer, &place, workspace, self.comparison.installation()).await?;
            }
            // Looked at again, it is none of these any more.
            Way::Move => return Err(refused("kept changing; repeat the call".to_owned())),
        }
        self.queue.push(&id);
        Ok(())
    }
}

/// The class of a workspace of another manager must exist here; and a record that moves must be in a namespace that
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

/// A workspace that was given up and is there after all gets a generation above the one that its end was shown with. Before its
/// record, which names it: a cut-off in between leaves an orphan, and the same adoption continues from there.
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
