//! What the status of a workspace has to say, by its state on disk.

use domain::duration::GoDuration;
use domain::workspace::{GitStatus, Kind};
use k8s::resources::conditions::{
    BACKUP_COMPLETE, BACKUP_FAILURE, CONTENT_READY, FORCE_KILLED_TASK, STATE_WIPED, reason,
};
use k8s::resources::{InitializerMetric, InitializerMetrics};

use crate::helper::Metric;
use crate::state::{Done, Stage, State};

/// A change of the status. It is written only while the status has the same attempt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// `status.podRecreated` for which it holds.
    pub attempt: i32,
    /// Conditions to set, by type.
    pub conditions: Vec<Update>,
    /// State of the working copy.
    pub git: Option<GitStatus>,
    /// Name of the snapshot.
    pub snapshot: Option<String>,
    /// What each initializer took.
    pub initializer_metrics: Option<InitializerMetrics>,
}

/// A condition to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Type of the condition.
    pub kind: &'static str,
    /// True or False.
    pub is_true: bool,
    /// For programs.
    pub reason: &'static str,
    /// For people; may be empty.
    pub message: String,
}

impl Report {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self { attempt: self.attempt, ..Self::default() }
    }

    fn of(attempt: i32, kind: &'static str, is_true: bool, reason: &'static str, message: &str) -> Self {
        let update = Update { kind, is_true, reason, message: message.to_owned() };
        Self { attempt, conditions: vec![update], ..Self::default() }
    }

    /// The initialisation failed.
    pub fn not_initialised(attempt: i32, why: &str) -> Self {
        Self::of(attempt, CONTENT_READY, false, reason::INITIALIZATION_FAILURE, why)
    }

    /// The backup failed.
    pub fn not_backed_up(attempt: i32, why: &str) -> Self {
        Self::of(attempt, BACKUP_FAILURE, true, reason::BACKUP_FAILED, why)
    }

    /// The content could not be deleted.
    pub fn not_wiped(attempt: i32, why: &str) -> Self {
        Self::of(attempt, STATE_WIPED, false, reason::UNKNOWN, why)
    }

    /// The container was killed.
    pub fn force_killed(attempt: i32) -> Self {
        let message = "the container still ran 5 min after the stop and was killed";
        Self::of(attempt, FORCE_KILLED_TASK, true, reason::UNKNOWN, message)
    }

    /// The name of a snapshot that is about to be made.
    pub fn snapshot(attempt: i32, name: &str) -> Self {
        Self { attempt, snapshot: Some(name.to_owned()), ..Self::default() }
    }
}

/// What the status has to say; `None` while nothing has come to an end.
pub fn report(state: &State) -> Option<Report> {
    let attempt = state.origin.attempt;
    match &state.stage {
        Stage::Initialising | Stage::Filled | Stage::BackingUp(_) | Stage::Wiping => None,
        Stage::Ready => {
            let metrics = state.content.as_ref().map(|content| metrics(&content.metrics));
            let report = Report::of(attempt, CONTENT_READY, true, reason::INITIALIZATION_SUCCESS, "");
            Some(Report { initializer_metrics: metrics, ..report })
        }
        Stage::NotInitialised { message, .. } => Some(Report::not_initialised(attempt, message)),
        Stage::BackedUp(done) => Some(backed_up(state, done)),
        Stage::BackupFailed { message } => Some(Report::not_backed_up(attempt, message)),
        Stage::Wiped => Some(Report::of(attempt, STATE_WIPED, true, reason::UNKNOWN, "")),
        Stage::NotWiped { message } => Some(Report::not_wiped(attempt, message)),
    }
}

fn backed_up(state: &State, done: &Done) -> Report {
    let what = if done.unchanged { "unchanged since" } else { "stored as" };
    let message = format!("{what} {} ({} bytes)", done.object, done.size);
    let report = Report::of(state.origin.attempt, BACKUP_COMPLETE, true, reason::BACKUP_COMPLETE, &message);
    let git = done.git.clone().filter(|_| state.origin.kind == Kind::Regular);
    Report { git, snapshot: done.snapshot.clone(), ..report }
}

/// In the form of the status. Initializers of one kind are added up.
fn metrics(all: &[Metric]) -> InitializerMetrics {
    let of = |kind: &str| {
        let of_kind = || all.iter().filter(|metric| metric.kind == kind);
        of_kind().next()?;
        let nanos: u64 = of_kind().fold(0, |sum, metric| sum.saturating_add(metric.duration));
        let size: u64 = of_kind().fold(0, |sum, metric| sum.saturating_add(metric.size));
        let duration = GoDuration::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX));
        let size = Some(i64::try_from(size).unwrap_or(i64::MAX));
        Some(InitializerMetric { duration: Some(duration.to_string()), size })
    };
    InitializerMetrics {
        backup: of("fromBackup"),
        composite: of("composite"),
        file_download: of("fileDownload"),
        git: of("git"),
        prebuild: of("prebuild"),
        snapshot: of("snapshot"),
    }
}
