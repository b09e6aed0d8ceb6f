//! What happened between two states of a workspace. Pure: time is passed in.

use jiff::Timestamp;

use domain::workspace::{Kind, Phase};
use k8s::resources::conditions::{self, reason};
use k8s::resources::{Workspace, WorkspaceStatus};
use member::texts;

/// Attempts that have a label value of their own; more are counted with the last.
const ATTEMPTS_TOLD: i32 = 20;

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// It runs for the first time.
    Ready { seconds: f64 },
    /// It left phase Pending.
    WasPending { seconds: f64 },
    /// It left phase Creating.
    WasCreating { seconds: f64 },
    /// It stopped and never ran, though nobody wanted that.
    StartFailed,
    /// It failed for the first time.
    Failed,
    /// It stopped.
    Stopped { reason: &'static str },
    /// Its pod was made again.
    Recreated { attempt: i32 },
    /// Its backup ended, well or not.
    BackedUp,
    /// Its backup failed.
    BackupFailed,
    /// Its content was initialised.
    Restored,
    /// Its content could not be initialised.
    RestoreFailed,
}

/// What is remembered of a workspace.
#[derive(Debug, Clone)]
pub struct Known {
    uid: Option<String>,
    pub kind: Kind,
    pub class: String,
    pub phase: Phase,
    pub node: Option<String>,
    /// A timeout of its own, as Go duration text.
    pub timeout: Option<String>,
    /// Whether a user was ever active.
    pub active: bool,
    /// When its phase was seen to begin; unknown for the phase it was first seen in, unless no controller had handled it yet.
    since: Option<Timestamp>,
    has: Facts,
    recreated: i32,
}

/// What is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is counted on its own")]
struct Facts {
    ran: bool,
    failed: bool,
    backed_up: bool,
    backup_failed: bool,
    restored: bool,
    restore_failed: bool,
    stopped: bool,
}

impl Facts {
    fn of(status: &WorkspaceStatus) -> Self {
        let content = status.condition(conditions::CONTENT_READY);
        let backup_failed = status.is_true(conditions::BACKUP_FAILURE);
        Self {
            ran: status.is_true(conditions::EVER_READY) || status.phase == Phase::Running,
            failed: status.is_true(conditions::FAILED),
            backed_up: backup_failed || status.is_true(conditions::BACKUP_COMPLETE),
            backup_failed,
            restored: status.is_true(conditions::CONTENT_READY),
            restore_failed: content.is_some_and(is_init_failure),
            stopped: status.phase == Phase::Stopped,
        }
    }
}

fn is_init_failure(content: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition) -> bool {
    content.status == "False" && content.reason == reason::INITIALIZATION_FAILURE
}

impl Known {
    /// A workspace that was not known: what it is already is not counted. One without a status is pending since now, for
    /// that phase is never written where what follows comes at once.
    pub fn first(workspace: &Workspace, now: Timestamp) -> Self {
        let is_fresh = workspace.status.is_none();
        let status = workspace.status.clone().unwrap_or_default();
        let mut known = Self {
            uid: workspace.metadata.uid.clone(),
            kind: workspace.spec.type_,
            class: workspace.spec.class.clone(),
            phase: phase(workspace),
            node: None,
            timeout: None,
            active: false,
            since: is_fresh.then_some(now),
            has: Facts::of(&status),
            recreated: status.pod_recreated.unwrap_or_default(),
        };
        known.refresh(workspace, &status);
        known
    }

    /// Takes the next state; what is to be counted.
    pub fn step(&mut self, workspace: &Workspace, now: Timestamp) -> Vec<Event> {
        if self.uid != workspace.metadata.uid {
            // Another one of the same name.
            *self = Self::first(workspace, now);
            return Vec::new();
        }
        let status = workspace.status.clone().unwrap_or_default();
        let mut events = Vec::new();
        let recreated = status.pod_recreated.unwrap_or_default();
        if recreated > self.recreated {
            events.push(Event::Recreated { attempt: recreated.min(ATTEMPTS_TOLD) });
            // The attempt before is over; what comes is of the next.
            self.has = Facts { stopped: self.has.stopped, ..Facts::of(&status) };
            self.recreated = recreated;
        }
        let phase = phase(workspace);
        if phase != self.phase {
            let seconds = self.since.map(|since| (now - since).total(jiff::Unit::Second).unwrap_or_default());
            match (self.phase, seconds) {
                (Phase::Pending, Some(seconds)) => events.push(Event::WasPending { seconds }),
                (Phase::Creating, Some(seconds)) => events.push(Event::WasCreating { seconds }),
                _ => {}
            }
            (self.phase, self.since) = (phase, Some(now));
        }
        let is = Facts::of(&status);
        if is.ran && !self.has.ran {
            let made = workspace.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
            let seconds = (now - made).total(jiff::Unit::Second).unwrap_or_default();
            events.push(Event::Ready { seconds: seconds.max(0.0) });
        }
        let mut once = |was: bool, is: bool, event| events.extend((is && !was).then_some(event));
        once(self.has.failed, is.failed, Event::Failed);
        once(self.has.restored, is.restored, Event::Restored);
        once(self.has.restore_failed, is.restore_failed, Event::RestoreFailed);
        once(self.has.backed_up, is.backed_up, Event::BackedUp);
        once(self.has.backup_failed, is.backup_failed, Event::BackupFailed);
        if is.stopped && !self.has.stopped {
            events.extend(end(&status));
        }
        self.has = Facts {
            ran: self.has.ran || is.ran,
            failed: self.has.failed || is.failed,
            backed_up: self.has.backed_up || is.backed_up,
            backup_failed: self.has.backup_failed || is.backup_failed,
            restored: self.has.restored || is.restored,
            restore_failed: self.has.restore_failed || is.restore_failed,
            stopped: self.has.stopped || is.stopped,
        };
        self.refresh(workspace, &status);
        events
    }

    /// The resource is gone; a stop that was not seen is counted now.
    pub fn gone(&self, last: &Workspace) -> Vec<Event> {
        if self.has.stopped { Vec::new() } else { end(&last.status.clone().unwrap_or_default()) }
    }

    fn refresh(&mut self, workspace: &Workspace, status: &WorkspaceStatus) {
        self.node = status.runtime.as_ref().and_then(|runtime| runtime.node_name.clone());
        self.timeout = workspace.spec.timeout.as_ref().and_then(|timeout| timeout.time.clone());
        self.active = status.last_activity.is_some();
    }
}

/// One that no controller has handled yet is pending.
fn phase(workspace: &Workspace) -> Phase {
    workspace.status.as_ref().map_or(Phase::Pending, |status| status.phase)
}

/// A stop, and whether it is a start that failed.
fn end(status: &WorkspaceStatus) -> Vec<Event> {
    let is = |kind| status.is_true(kind);
    let wanted = [conditions::ABORTED, conditions::STOPPED_BY_REQUEST, conditions::POD_REJECTED];
    let mut events = vec![Event::Stopped { reason: stop_reason(status) }];
    if !is(conditions::EVER_READY) && !wanted.into_iter().any(is) {
        events.push(Event::StartFailed);
    }
    events
}

fn stop_reason(status: &WorkspaceStatus) -> &'static str {
    let is = |kind| status.is_true(kind);
    if let Some(failed) = status.condition(conditions::FAILED).filter(|failed| failed.status == "True") {
        return match is(conditions::EVER_READY) {
            false => "start-failure",
            true if texts::is_over_disk_limit(&failed.message) => "out-of-space",
            true => "failed",
        };
    }
    if is(conditions::ABORTED) {
        "aborted"
    } else if is(conditions::TIMEOUT) {
        "timeout"
    } else if is(conditions::CLOSED) {
        "tab-closed"
    } else {
        "regular-stop"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn workspace(phase: &str, conditions: &[(&str, &str, &str)]) -> Workspace {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, reason, message)| {
                let status = if *reason == "InitializationFailure" { "False" } else { "True" };
                json!({ "type": kind, "status": status, "reason": reason, "message": message,
                    "lastTransitionTime": "1970-01-01T00:00:00Z" })
            })
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
            "metadata": { "name": "ws", "uid": "1", "creationTimestamp": "1970-01-01T00:00:10Z" },
            "spec": {
                "ownership": { "owner": "jane", "workspaceID": "meta" }, "type": "Regular", "class": "small",
                "image": { "workspace": { "ref": "image" }, "ide": { "web": "", "supervisor": "" } },
                "initializer": "CgA=", "workspaceLocation": "", "admission": { "level": "Owner" }, "ports": [],
            },
            "status": { "podStarts": 1, "phase": phase, "conditions": conditions },
        }))
        .unwrap()
    }

    const READY: (&str, &str, &str) = ("ContentReady", "InitializationSuccess", "");
    const EVER: (&str, &str, &str) = ("EverReady", "Unknown", "");
    const BACKUP: (&str, &str, &str) = ("BackupComplete", "BackupComplete", "");

    #[test]
    fn a_life_is_counted_once_step_by_step() {
        let mut known = Known::first(&workspace("Unknown", &[]), at(10));
        let mut step =
            |phase, conditions: &[_], second| known.step(&workspace(phase, conditions), at(second));
        assert_eq!(step("Pending", &[], 11), []);
        assert_eq!(step("Creating", &[], 13), [Event::WasPending { seconds: 2.0 }]);
        assert_eq!(step("Initializing", &[], 18), [Event::WasCreating { seconds: 5.0 }]);
        assert_eq!(step("Running", &[READY, EVER], 20), [Event::Ready { seconds: 10.0 }, Event::Restored]);
        assert_eq!(step("Running", &[READY, EVER], 21), []);
        assert_eq!(step("Stopping", &[READY, EVER, BACKUP], 22), [Event::BackedUp]);
        let stopped = [Event::Stopped { reason: "regular-stop" }];
        assert_eq!(step("Stopped", &[READY, EVER, BACKUP], 23), stopped);
        assert_eq!(step("Stopped", &[READY, EVER, BACKUP], 24), []);
        assert_eq!(known.gone(&workspace("Stopped", &[READY, EVER, BACKUP])), []);
    }

    #[test]
    fn what_a_workspace_is_when_it_is_first_seen_is_not_counted() {
        let mut known = Known::first(&workspace("Pending", &[READY, BACKUP]), at(4));
        assert_eq!(known.step(&workspace("Pending", &[READY, BACKUP]), at(5)), []);
        assert_eq!(known.step(&workspace("Creating", &[READY, BACKUP]), at(6)), []);
    }

    fn fresh() -> Workspace {
        Workspace { status: None, ..workspace("Unknown", &[]) }
    }

    #[test]
    fn a_workspace_is_pending_from_the_moment_it_is_seen_without_a_status_even_where_that_is_never_written() {
        for next in ["Creating", "Initializing", "Stopping"] {
            let mut known = Known::first(&fresh(), at(10));
            assert_eq!(known.step(&fresh(), at(11)), []);
            assert_eq!(
                known.step(&workspace(next, &[]), at(12)),
                [Event::WasPending { seconds: 2.0 }],
                "{next}"
            );
        }
        let mut written = Known::first(&fresh(), at(10));
        assert_eq!(written.step(&workspace("Pending", &[]), at(11)), []);
        assert_eq!(written.step(&workspace("Creating", &[]), at(13)), [Event::WasPending { seconds: 3.0 }]);
        let mut same_name = Known::first(&workspace("Running", &[EVER]), at(0));
        let mut another = fresh();
        another.metadata.uid = Some("2".to_owned());
        assert_eq!(same_name.step(&another, at(20)), []);
        let mut creating = workspace("Creating", &[]);
        creating.metadata.uid = Some("2".to_owned());
        assert_eq!(same_name.step(&creating, at(21)), [Event::WasPending { seconds: 1.0 }]);
    }

    #[test]
    fn a_stop_that_was_not_seen_is_counted_when_the_resource_is_gone() {
        let known = Known::first(&workspace("Running", &[EVER]), at(4));
        let last = workspace("Stopping", &[EVER, ("Aborted", "StopWorkspaceRequest", "")]);
        assert_eq!(known.gone(&last), [Event::Stopped { reason: "aborted" }]);
    }

    #[test]
    fn stops_have_the_first_reason_that_holds() {
        let failed = |message| ("Failed", "Unknown", message);
        let timeout = ("Timeout", "TimedOut", "");
        let closed = ("Closed", "MarkActiveRequest", "");
        let aborted = ("Aborted", "StopWorkspaceRequest", "");
        let full = "Evicted: Pod ephemeral local storage usage exceeds the total limit of containers 5Gi.";
        for (conditions, expected) in [
            (vec![failed("x"), aborted], "start-failure"),
            (vec![failed("x"), EVER, aborted], "failed"),
            (vec![failed(full), EVER], "out-of-space"),
            (vec![aborted, timeout, EVER], "aborted"),
            (vec![timeout, closed, EVER], "timeout"),
            (vec![closed, EVER], "tab-closed"),
            (vec![EVER], "regular-stop"),
        ] {
            let status = workspace("Stopped", &conditions).status.unwrap();
            assert_eq!(stop_reason(&status), expected, "{conditions:?}");
        }
    }

    #[test]
    fn a_start_that_nobody_stopped_and_that_never_ran_is_a_failed_one() {
        let ended = |conditions: &[_]| end(&workspace("Stopped", conditions).status.unwrap());
        assert!(ended(&[]).contains(&Event::StartFailed));
        for wanted in ["Aborted", "StoppedByRequest", "PodRejected", "EverReady"] {
            assert!(!ended(&[(wanted, "Unknown", "")]).contains(&Event::StartFailed), "{wanted}");
        }
    }

    #[test]
    fn a_recreation_is_counted_and_the_next_attempt_counts_anew() {
        let mut known = Known::first(&workspace("Creating", &[]), at(0));
        let failed = workspace("Stopping", &[("ContentReady", "InitializationFailure", "no")]);
        assert_eq!(known.step(&failed, at(1)), [Event::RestoreFailed]);
        let mut again = workspace("Pending", &[]);
        again.status.as_mut().unwrap().pod_recreated = Some(1);
        assert_eq!(known.step(&again, at(2)), [Event::Recreated { attempt: 1 }]);
        let mut restored = workspace("Running", &[READY, EVER]);
        restored.status.as_mut().unwrap().pod_recreated = Some(1);
        assert!(known.step(&restored, at(30)).contains(&Event::Restored));
    }
}
