//! Draining a cluster: stopping its workspaces without losing content. A pure state machine over the recorded drain
//! ([`Drain`]), the workspaces there ([`Resident`]) and the time.
//!
//! Headless workspaces run to their end. A regular workspace is not touched until it is idle or the deadline has passed; then
//! it is stopped with a backup, with a bounded rate and concurrency. A stop is recorded in the drain before it is requested,
//! so that the next leader continues with exactly these.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::names::{ClusterName, WorkspaceId};
use super::workspace::{Conditions, Kind, Phase};

pub use plan::{Fate, Room, Row, estimate, rooms};

/// Default rate, in stops per minute.
pub const DEFAULT_RATE: u32 = 30;
/// The highest rate.
pub const MAX_RATE: u32 = 600;
/// Default number of concurrent stops.
pub const DEFAULT_CONCURRENT: u32 = 10;
/// Upper bound of concurrent stops; each is an entry of the drain's value in etcd.
pub const MAX_CONCURRENT: u32 = 200;
/// The longest deadline and idle time.
pub const LONGEST: Duration = Duration::from_hours(365 * 24);
/// [`LONGEST`] in words.
pub const LONGEST_TEXT: &str = "a year (8760h)";
/// Number of workspaces without a backup that pauses further stops: so many failures point to object storage.
pub const UNSAVED_MOST: usize = 10;
/// A workspace whose editor was closed counts as idle at the latest after this: a page may be reloaded.
const CLOSED_FOR: Duration = Duration::from_mins(1);
/// Interval at which workspaces without available capacity elsewhere are checked again, if nothing changes.
const ROOM_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// Options of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// Time from the beginning after which busy workspaces are stopped, too; `None`: never.
    pub deadline: Option<Duration>,
    /// Inactivity after which a workspace is stopped; `None`: its own timeouts decide.
    pub idle: Option<Duration>,
    /// Stops per minute.
    pub rate: u32,
    /// Maximum number of concurrent stops.
    pub concurrent: u32,
    /// Whether workspaces are stopped although no other cluster has available capacity for them.
    pub accept_no_room: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: None,
            idle: None,
            rate: DEFAULT_RATE,
            concurrent: DEFAULT_CONCURRENT,
            accept_no_room: false,
        }
    }
}

impl Options {
    /// Checks the rules that the types do not enforce. The error is the field and its rule.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(1..=MAX_RATE).contains(&self.rate) {
            return Err(("rate_per_minute", format!("must be from 1 to {MAX_RATE}")));
        }
        if !(1..=MAX_CONCURRENT).contains(&self.concurrent) {
            return Err(("max_concurrent", format!("must be from 1 to {MAX_CONCURRENT}")));
        }
        for (field, duration) in [("deadline", self.deadline), ("idle", self.idle)] {
            if duration.is_some_and(|duration| duration.is_zero() || duration > LONGEST) {
                return Err((field, format!("must be above zero and at most {LONGEST_TEXT}")));
            }
        }
        Ok(())
    }

    /// Time from one stop to the next.
    pub fn interval(&self) -> SignedDuration {
        SignedDuration::from_millis(60_000 / i64::from(self.rate.max(1)))
    }
}

/// Recorded stage of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Workspaces are being stopped.
    Draining,
    /// No more stops until it is resumed; the cluster gets no new workspaces.
    Paused,
    /// No workspaces are left; the cluster gets no new workspaces.
    Drained,
    /// Cancelled: the cluster gets new workspaces again.
    Cancelled,
}

/// A workspace that ended without a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsaved {
    /// Why there is no backup.
    pub reason: String,
    /// When it was noticed.
    pub at: Timestamp,
    /// Whether an admin accepted the loss, so that it no longer keeps the drain open.
    pub accepted: bool,
}

/// A drain of one cluster, as recorded in etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// The cluster.
    pub cluster: ClusterName,
    /// Options.
    pub options: Options,
    /// Stage.
    pub stage: Stage,
    /// When it began.
    pub started_at: Timestamp,
    /// When busy workspaces are stopped, too.
    pub deadline_at: Option<Timestamp>,
    /// When it finished or was cancelled.
    pub ended_at: Option<Timestamp>,
    /// Number of workspaces at the beginning.
    pub total: usize,
    /// Number of workspaces that the drain stopped and that have ended.
    pub stopped: usize,
    /// Workspaces that are being stopped, with the time of the request.
    pub stopping: BTreeMap<WorkspaceId, Timestamp>,
    /// Earliest time of the next stop.
    pub next_stop_at: Timestamp,
    /// Workspaces that ended without a backup.
    pub unsaved: BTreeMap<WorkspaceId, Unsaved>,
}

/// A workspace with a live record in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Its id.
    pub id: WorkspaceId,
    /// Its kind.
    pub kind: Kind,
    /// Its phase.
    pub phase: Phase,
    /// Time of the last activity, or of the start if there was none.
    pub idle_since: Option<Timestamp>,
    /// Whether its user closed it.
    pub closed: bool,
    /// Whether anybody requested its stop.
    pub stop_asked: bool,
}

/// How a workspace ended, for its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its content is backed up, was not wanted, or there was none.
    Over,
    /// Its content is not backed up, or that is not known.
    Unsaved(String),
}

impl Outcome {
    /// The outcome by the last observed conditions.
    pub fn of(kind: Kind, last: &Conditions) -> Self {
        if let Some(reason) = &last.backup_failed {
            return Self::Unsaved(format!("the backup failed: {reason}"));
        }
        if kind == Kind::ImageBuild || !last.content_ready || last.final_backup_complete || last.aborted {
            return Self::Over;
        }
        Self::unseen()
    }

    /// The outcome if its last state was not observed.
    pub fn unseen() -> Self {
        Self::Unsaved("nobody saw it end, so it is not known whether its content is backed up".to_owned())
    }
}

/// Result of [`Drain::step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The drain to record before the stops are requested.
    pub drain: Drain,
    /// The stops to request then, including those that an earlier leader recorded and did not request.
    pub stop: Vec<WorkspaceId>,
    /// When to call again if nothing changes.
    pub wake: Option<Timestamp>,
}

impl Drain {
    /// A new drain.
    pub fn begin(cluster: ClusterName, options: Options, total: usize, now: Timestamp) -> Self {
        Self {
            cluster,
            deadline_at: options.deadline.map(|deadline| after(now, deadline)),
            options,
            stage: Stage::Draining,
            started_at: now,
            ended_at: None,
            total,
            stopped: 0,
            stopping: BTreeMap::new(),
            next_stop_at: now,
            unsaved: BTreeMap::new(),
        }
    }

    /// Whether it is neither finished nor cancelled.
    pub fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Draining | Stage::Paused)
    }

    /// Whether the cluster gets no new workspaces because of it.
    pub fn keeps_away(&self) -> bool {
        self.stage != Stage::Cancelled
    }

    /// The same drain with other options. Equal options keep their times: a repeated call does not move the deadline.
    #[must_use]
    pub fn with_options(&self, options: Options, now: Timestamp) -> Self {
        let mut drain = self.clone();
        if options.deadline != self.options.deadline {
            drain.deadline_at = options.deadline.map(|deadline| after(now, deadline));
        }
        if options.rate != self.options.rate {
            drain.next_stop_at = now.max(drain.next_stop_at.min(add(now, options.interval())));
        }
        drain.options = options;
        drain
    }

    /// The drain in another stage.
    #[must_use]
    pub fn in_stage(&self, stage: Stage, now: Timestamp) -> Self {
        let ended = matches!(stage, Stage::Drained | Stage::Cancelled);
        let mut drain = Self { stage, ended_at: ended.then_some(now), ..self.clone() };
        if stage == Stage::Cancelled {
            // Requested stops proceed without the drain.
            drain.stopping.clear();
        }
        drain
    }

    /// Accepts workspaces without a backup. The error is an id that the drain does not list.
    pub fn accept(&self, ids: &[WorkspaceId]) -> Result<Self, WorkspaceId> {
        let mut drain = self.clone();
        for id in ids {
            drain.unsaved.get_mut(id).ok_or_else(|| id.clone())?.accepted = true;
        }
        Ok(drain)
    }

    /// Number of workspaces without a backup that are not accepted.
    pub fn held(&self) -> usize {
        self.unsaved.values().filter(|unsaved| !unsaved.accepted).count()
    }

    /// Computes the next step. `ended`: workspaces of the cluster that have ended since the drain began, with repetitions.
    /// `room`: whether another cluster has available capacity for the workspace.
    #[must_use]
    pub fn step(
        &self,
        residents: &[Resident],
        ended: &[(WorkspaceId, Outcome)],
        room: impl Fn(&Resident) -> bool,
        now: Timestamp,
    ) -> Step {
        let mut drain = self.clone();
        if !self.is_active() {
            return Step { drain, stop: Vec::new(), wake: None };
        }
        drain.take_ends(ended, now);
        let mut wake = None;
        if drain.stage == Stage::Draining && drain.held() < UNSAVED_MOST {
            wake = drain.choose(residents, room, now);
        }
        if drain.stage == Stage::Draining
            && residents.is_empty()
            && drain.stopping.is_empty()
            && drain.held() == 0
        {
            drain = drain.in_stage(Stage::Drained, now);
        }
        let unasked = residents.iter().filter(|one| !one.stop_asked && drain.stopping.contains_key(&one.id));
        let stop = unasked.map(|one| one.id.clone()).collect();
        Step { drain, stop, wake }
    }

    fn take_ends(&mut self, ended: &[(WorkspaceId, Outcome)], now: Timestamp) {
        for (id, outcome) in ended {
            self.stopped += usize::from(self.stopping.remove(id).is_some());
            if let Outcome::Unsaved(reason) = outcome {
                let unsaved = Unsaved { reason: reason.clone(), at: now, accepted: false };
                self.unsaved.entry(id.clone()).or_insert(unsaved);
            }
        }
    }

    /// Records the next stop if one is due and allowed. Returns when to call again.
    fn choose(
        &mut self,
        residents: &[Resident],
        room: impl Fn(&Resident) -> bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut due: Vec<(Timestamp, &Resident)> = Vec::new();
        let mut wake: Option<Timestamp> = None;
        for one in residents.iter().filter(|one| !self.stopping.contains_key(&one.id)) {
            let Some(at) = self.due_at(one) else { continue };
            if at > now {
                wake = Some(earlier(wake, at));
            } else if self.options.accept_no_room || room(one) {
                due.push((one.idle_since.unwrap_or(now), one));
            } else {
                wake = Some(earlier(wake, add(now, ROOM_AGAIN)));
            }
        }
        // The longest idle workspace is stopped first.
        due.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
        if due.is_empty() || self.stopping.len() >= self.concurrent() {
            return wake;
        }
        if self.next_stop_at <= now {
            self.stopping.insert(due[0].1.id.clone(), now);
            self.next_stop_at = add(now, self.options.interval());
            if due.len() == 1 || self.stopping.len() >= self.concurrent() {
                return wake;
            }
        }
        Some(earlier(wake, self.next_stop_at))
    }

    fn concurrent(&self) -> usize {
        usize::try_from(self.options.concurrent).unwrap_or(usize::MAX)
    }

    /// When a workspace is due to be stopped; `None` if the drain does not stop it or the time is not known yet.
    fn due_at(&self, resident: &Resident) -> Option<Timestamp> {
        if resident.kind.is_headless()
            || resident.stop_asked
            || matches!(resident.phase, Phase::Stopping | Phase::Stopped)
        {
            return None;
        }
        let idle = self.options.idle.filter(|_| resident.phase == Phase::Running);
        let idle = idle.map(|idle| if resident.closed { idle.min(CLOSED_FOR) } else { idle });
        let idle_at = resident.idle_since.zip(idle).map(|(since, idle)| after(since, idle));
        [idle_at, self.deadline_at].into_iter().flatten().min()
    }
}

fn earlier(one: Option<Timestamp>, other: Timestamp) -> Timestamp {
    one.map_or(other, |one| one.min(other))
}

fn after(at: Timestamp, duration: Duration) -> Timestamp {
    add(at, SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX))
}

fn add(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
