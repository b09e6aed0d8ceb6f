//! Draining clusters: what an admin requests, and what is shown. [`domain::drain`] has the rules.

pub(crate) mod known;
pub(crate) mod runner;
mod survey;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use self::known::KnownDrains;
use self::survey::Survey;
use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::locks::{PATIENCE, RegistryLock};
use crate::view::index::Index;
use crate::{Error, Result};
use domain::drain::{Drain, Fate, Options, Row, Stage, estimate};
use domain::names::{ClusterName, WorkspaceId};
use store::Store;

/// Tries of a change that others get in the way of.
const TRIES: usize = 5;
/// For a concurrent change of the same drain to be seen by this replica.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// A drain with what is seen of its cluster.
#[derive(Debug, Clone)]
pub struct DrainView {
    /// As recorded, or as it would be.
    pub drain: Drain,
    /// Whether it is only a plan.
    pub planned: bool,
    /// Why it does not proceed by itself; empty where it does.
    pub blocked: String,
    /// When it ends, where that can be estimated.
    pub estimate: Option<Timestamp>,
    /// The fate of each workspace that is still there.
    pub fates: Vec<Fate>,
    /// The same with details and owners; left out where only progress is asked for.
    pub rows: Vec<(Row, String)>,
}

/// What an admin does about a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Stop nothing more.
    Pause,
    /// Go on.
    Resume,
    /// Let workspaces in again and stop nothing more.
    Cancel,
    /// Take note of workspaces without a backup.
    Accept(Vec<WorkspaceId>),
}

/// What admins ask for about drains, and what is shown of them.
pub struct Drains {
    leadership: Arc<Leadership>,
    store: Store,
    known: Arc<KnownDrains>,
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    registry: Arc<RegistryLock>,
}

impl Drains {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        store: Store,
        known: Arc<KnownDrains>,
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        registry: Arc<RegistryLock>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, store, known, fleet, index, registry })
    }

    /// Begins a drain, or changes the options of the one under way. With `dry_run` nothing is changed: the answer is the
    /// plan. Refused where the other clusters have no capacity, unless that is accepted.
    pub async fn start(&self, name: &ClusterName, options: Options, dry_run: bool) -> Result<DrainView> {
        options.validate().map_err(|(field, rule)| Error::Invalid { field: field.into(), rule })?;
        self.check_registered(name)?;
        let term = self.leadership.term()?;
        // No start is decided before and recorded after.
        let _alone = self.registry.write(PATIENCE).await?;
        let (now, survey, known) =
            (Timestamp::now(), Survey::of(&self.fleet, &self.index, name), self.known.get(name));
        let residents = survey.residents();
        let fresh = || Drain::begin(name.clone(), options, residents.len(), now);
        let (drain, begins) = match &known {
            Some((drain, _)) if drain.is_active() => (drain.with_options(options, now), false),
            Some((drain, _)) if drain.stage == Stage::Drained && residents.is_empty() => {
                (drain.clone(), false)
            }
            _ => (fresh(), true),
        };
        let mut view = view(&survey, drain, true);
        view.planned = dry_run && begins;
        if dry_run {
            return Ok(view);
        }
        if begins && !options.accept_no_room {
            refuse_without_room(name, &view.rows)?;
        }
        let before = known.as_ref().map(|(drain, _)| drain);
        if before != Some(&view.drain) {
            let version =
                self.store.put_drain(&term, &view.drain, known.as_ref().map(|known| known.1)).await?;
            self.known.put_written(view.drain.clone(), version);
            tracing::info!(cluster = %name, workspaces = residents.len(), begins, "drain");
        }
        Ok(view)
    }

    /// The drain of a cluster, with or without its workspaces.
    pub fn get(&self, name: &ClusterName, rows: bool) -> Result<DrainView> {
        self.check_registered(name)?;
        let (drain, _) = self.known.get(name).ok_or_else(|| Error::NoDrain(name.clone()))?;
        Ok(view(&Survey::of(&self.fleet, &self.index, name), drain, rows))
    }

    fn check_registered(&self, name: &ClusterName) -> Result<()> {
        self.fleet.version(name).map(drop).ok_or_else(|| Error::NoCluster(name.clone()))
    }

    /// Wakes when a drain may look different.
    pub fn changes(&self) -> (watch::Receiver<()>, watch::Receiver<()>) {
        (self.known.changes(), self.index.drain_changes())
    }

    /// Pauses, resumes or cancels a drain, or takes note of lost backups. Repeats change nothing.
    pub async fn change(&self, name: &ClusterName, change: &Change) -> Result<DrainView> {
        for _ in 0..TRIES {
            let term = self.leadership.term()?;
            let mut changes = self.known.changes();
            let (drain, version) = self.known.get(name).ok_or_else(|| Error::NoDrain(name.clone()))?;
            let changed = changed(&drain, change, Timestamp::now())?;
            if changed == drain {
                return self.get(name, false);
            }
            match self.store.put_drain(&term, &changed, Some(version)).await {
                Ok(version) => {
                    self.known.put_written(changed, version);
                    tracing::info!(cluster = %name, ?change, "drain");
                    return self.get(name, false);
                }
                Err(store::Error::Conflict { .. }) => {
                    let _ = tokio::time::timeout(HEARD_WITHIN, changes.changed()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { what: format!("the drain of cluster {name}") })
    }

    /// Ends what a finished drain keeps away; one that is under way is to be cancelled first.
    pub(crate) async fn end_for_uncordon(&self, name: &ClusterName) -> Result<()> {
        match self.known.get(name).map(|(drain, _)| drain.stage) {
            Some(Stage::Draining | Stage::Paused) => {
                let reason = "is being drained; cancel the drain first";
                Err(Error::DrainStage { cluster: name.clone(), reason })
            }
            Some(Stage::Drained) => self.change(name, &Change::Cancel).await.map(drop),
            Some(Stage::Cancelled) | None => Ok(()),
        }
    }
}

fn view(survey: &Survey, drain: Drain, rows: bool) -> DrainView {
    let now = Timestamp::now();
    let fates = survey.fates(&drain, now);
    DrainView {
        planned: false,
        blocked: blocked(&drain, &fates),
        estimate: estimate(&drain, &fates, now),
        rows: if rows { survey.rows(&drain, now) } else { Vec::new() },
        fates,
        drain,
    }
}

fn changed(drain: &Drain, change: &Change, now: Timestamp) -> Result<Drain> {
    let cluster = || drain.cluster.clone();
    let over = || match drain.stage {
        Stage::Drained => "is drained already",
        _ => "is not being drained",
    };
    match change {
        Change::Cancel if drain.stage == Stage::Cancelled => Ok(drain.clone()),
        Change::Cancel => Ok(drain.in_stage(Stage::Cancelled, now)),
        Change::Accept(ids) => drain.accept(ids).map_err(|id| Error::Invalid {
            field: "workspaces".into(),
            rule: format!("{id} is none that ended without a backup"),
        }),
        _ if !drain.is_active() => Err(Error::DrainStage { cluster: cluster(), reason: over() }),
        Change::Pause => Ok(drain.in_stage(Stage::Paused, now)),
        Change::Resume => Ok(drain.in_stage(Stage::Draining, now)),
    }
}

/// Why a drain does not proceed by itself.
fn blocked(drain: &Drain, fates: &[Fate]) -> String {
    let held = drain.held();
    let mut reasons = Vec::new();
    if held > 0 && drain.is_active() {
        let more = if held >= domain::drain::UNSAVED_MOST { "; no more are stopped until then" } else { "" };
        reasons.push(format!(
            "{held} workspaces ended without a backup: save their content, then accept them{more}"
        ));
    }
    let stuck = fates.iter().filter(|fate| **fate == Fate::NoRoom).count();
    if stuck > 0 && drain.stage == Stage::Draining {
        reasons.push(format!("{stuck} workspaces are due and no other cluster has capacity for them"));
    }
    reasons.join("; ")
}

fn refuse_without_room(cluster: &ClusterName, rows: &[(Row, String)]) -> Result<()> {
    let without = rows.iter().filter_map(|(row, _)| {
        let verdicts = row.room.as_ref()?.as_ref().err()?;
        let reasons: Vec<String> = verdicts.iter().map(|(name, why)| format!("{name} {why}")).collect();
        let reasons =
            if reasons.is_empty() { "no other cluster is registered".to_owned() } else { reasons.join("; ") };
        Some((row.resident.id.clone(), reasons))
    });
    let without: Vec<(WorkspaceId, String)> = without.collect();
    if without.is_empty() {
        return Ok(());
    }
    Err(Error::NoRoom { cluster: cluster.clone(), without })
}
