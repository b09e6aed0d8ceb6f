//! Draining a cluster: emptying it of workspaces without losing content. A pure state machine over what is asked
//! ([`Drain`]), what is there ([`Resident`]) and the time.
//!
//! Headless workspaces run to their end. A person's workspace is left alone until it is idle or the deadline has come;
//! then it is stopped with a backup, at a bounded rate and only so many at once. What is stopped is noted in the drain
//! before it is asked for, so that whoever leads next goes on with exactly these.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::names::{ClusterName, WorkspaceId};
use super::workspace::{Conditions, Kind, Phase};

pub use plan::{Fate, Row, estimate, rooms};

/// Stops a minute where the admin names no rate.
pub const DEFAULT_RATE: u32 = 30;
/// The highest rate.
pub const MAX_RATE: u32 = 600;
/// Stops under way at once where the admin names no number.
pub const DEFAULT_CONCURRENT: u32 = 10;
/// The highest number; each is an entry of the drain's value in etcd.
pub const MAX_CONCURRENT: u32 = 200;
/// How many workspaces without a backup keep a drain from stopping more: then it is not the workspaces that are ill.
pub const UNSAVED_MOST: usize = 10;
/// A workspace whose editor was closed counts as idle after this, or sooner: a page may be loaded again.
const CLOSED_FOR: Duration = Duration::from_mins(1);
/// Before a workspace that had no room elsewhere is looked at again, should nothing be heard meanwhile.
const ROOM_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// How an admin wants a cluster drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// From the beginning until workspaces are stopped even if busy; absent: never.
    pub deadline: Option<Duration>,
    /// Inactivity after which a workspace is stopped; absent: its own timeouts decide.
    pub idle: Option<Duration>,
    /// Stops a minute.
    pub rate: u32,
    /// Stops under way at once.
    pub concurrent: u32,
    /// Whether workspaces are stopped although no other cluster could take them.
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
    /// Checks what the types alone do not hold: the field and its rule.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(1..=MAX_RATE).contains(&self.rate) {
            return Err(("rate_per_minute", format!("must be from 1 to {MAX_RATE}")));
        }
        if !(1..=MAX_CONCURRENT).contains(&self.concurrent) {
            return Err(("max_concurrent", format!("must be from 1 to {MAX_CONCURRENT}")));
        }
        for (field, duration) in [("deadline", self.deadline), ("idle", self.idle)] {
            if duration
                .is_some_and(|duration| duration.is_zero() || duration > Duration::from_hours(24 * 365))
            {
                return Err((field, "must be above zero and at most a year".to_owned()));
            }
        }
        Ok(())
    }

    /// Time from one stop to the next.
    pub fn interval(&self) -> SignedDuration {
        SignedDuration::from_millis(60_000 / i64::from(self.rate.max(1)))
    }
}

/// How far a drain is, as it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// At work.
    Draining,
    /// Nothing more is stopped until it is resumed; new workspaces are still kept away.
    Paused,
    /// Nothing is left there; new workspaces are still kept away.
    Drained,
    /// Taken back: the cluster takes workspaces again.
    Cancelled,
}

/// A workspace that ended without a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsaved {
    /// Why.
    pub reason: String,
    /// When it was noticed.
    pub at: Timestamp,
    /// Whether an admin has taken note, so that it no longer keeps the drain open.
    pub accepted: bool,
}

/// A drain of one cluster, as recorded in etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// The cluster.
    pub cluster: ClusterName,
    /// How it is wanted.
    pub options: Options,
    /// How far it is.
    pub stage: Stage,
    /// When it began.
    pub started_at: Timestamp,
    /// When workspaces are stopped even if busy.
    pub deadline_at: Option<Timestamp>,
    /// When it was drained or cancelled.
    pub ended_at: Option<Timestamp>,
    /// Workspaces that were there at the beginning.
    pub total: usize,
    /// Workspaces that the drain stopped and that have ended.
    pub stopped: usize,
    /// Workspaces whose stop is under way, since when.
    pub stopping: BTreeMap<WorkspaceId, Timestamp>,
    /// No stop before this.
    pub next_stop_at: Timestamp,
    /// Workspaces that ended without a backup.
    pub unsaved: BTreeMap<WorkspaceId, Unsaved>,
}

/// A workspace of the cluster: its record is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Its id.
    pub id: WorkspaceId,
    /// What it is for.
    pub kind: Kind,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when nobody was seen in it: the last activity, or its start.
    pub idle_since: Option<Timestamp>,
    /// Whether its user closed it.
    pub closed: bool,
    /// Whether its stop was asked for, by anybody.
    pub stop_asked: bool,
}

/// What became of a workspace that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its content is safe, was not wanted, or there was none.
    Over,
    /// Its content is not backed up, or nobody knows.
    Unsaved(String),
}

impl Outcome {
    /// By the last state that was seen of it.
    pub fn of(kind: Kind, last: &Conditions) -> Self {
        if let Some(reason) = &last.backup_failed {
            return Self::Unsaved(format!("the backup failed: {reason}"));
        }
        if kind == Kind::ImageBuild || !last.content_ready || last.final_backup_complete || last.aborted {
            return Self::Over;
        }
        Self::unseen()
    }

    /// Where its last state was not seen.
    pub fn unseen() -> Self {
        Self::Unsaved("nobody saw it end, so it is not known whether its content is backed up".to_owned())
    }
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The drain as it shall be recorded, before anything else is done.
    pub drain: Drain,
    /// The stops to ask for then; also those that an earlier leader noted and did not come to ask for.
    pub stop: Vec<WorkspaceId>,
    /// When to look again, should nothing be heard before.
    pub wake: Option<Timestamp>,
}

impl Drain {
    /// A drain that begins.
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

    /// Whether it is under way, paused or not.
    pub fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Draining | Stage::Paused)
    }

    /// Whether new workspaces are kept away.
    pub fn keeps_away(&self) -> bool {
        self.stage != Stage::Cancelled
    }

    /// The same drain with other options. What is the same does not begin anew: a repeated call moves no deadline.
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
            // Stops that were asked for go on by themselves.
            drain.stopping.clear();
        }
        drain
    }

    /// The drain once an admin took note of workspaces without a backup; those that it does not know are answered.
    pub fn accept(&self, ids: &[WorkspaceId]) -> Result<Self, WorkspaceId> {
        let mut drain = self.clone();
        for id in ids {
            drain.unsaved.get_mut(id).ok_or_else(|| id.clone())?.accepted = true;
        }
        Ok(drain)
    }

    /// Workspaces without a backup that nobody took note of.
    pub fn held(&self) -> usize {
        self.unsaved.values().filter(|unsaved| !unsaved.accepted).count()
    }

    /// Decides what is next. `ended`: workspaces of the cluster that have ended since the drain began, which may be told
    /// again. `room`: whether another cluster could take the workspace.
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

    /// Notes the stop that is due, if one may be; when to look again.
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
        // Who was away longest goes first.
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

    /// When a workspace is to be stopped; none where that is not the drain's business or not known yet.
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
