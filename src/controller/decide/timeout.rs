//! Timeouts of a workspace.

use std::time::Duration;

use jiff::Timestamp;

use domain::duration::GoDuration;
use domain::workspace::Phase;
use k8s::resources::Timeout;
use k8s::resources::conditions::{self, reason};

use super::case::Case;
use super::deadline::{after, has_passed};
use super::draft::{Draft, INTERRUPTED};
use super::failure;

/// A timeout that applies.
struct Limit {
    activity: &'static str,
    start: Timestamp,
    length: Duration,
}

/// Ends the workspace if a timeout has passed; returns whether one has.
pub(super) fn fire(case: &Case<'_>, draft: &mut Draft) -> bool {
    if case.in_maintenance() || draft.status.is_true(conditions::TIMEOUT) {
        return false;
    }
    let reached = |limit: &Limit| has_passed(case.now, limit.start, limit.length);
    let Some(hit) = limits(case, draft).into_iter().find(reached) else { return false };
    let text = text(case, hit.activity, hit.start, hit.length);
    let starting = matches!(draft.status.phase, Phase::Pending | Phase::Creating | Phase::Initializing);
    if starting {
        draft.ask_why(true);
    }
    match failure::of_waiting(&draft.status) {
        Some(cause) => {
            time_out(draft, text);
            draft.fail(&cause);
        }
        None if starting => time_out(draft, draft.explained(&text)),
        None => time_out(draft, text),
    }
    true
}

/// Sets the condition `Timeout` if it is not set.
pub(super) fn set(draft: &mut Draft, case: &Case<'_>, activity: &str, start: Timestamp, limit: Duration) {
    if !draft.status.is_true(conditions::TIMEOUT) {
        time_out(draft, text(case, activity, start, limit));
    }
}

fn time_out(draft: &mut Draft, text: String) {
    draft.set(conditions::TIMEOUT, true, reason::TIMED_OUT, &text);
    draft.event("TimedOut", text);
}

fn text(case: &Case<'_>, activity: &str, start: Timestamp, limit: Duration) -> String {
    let elapsed = Duration::try_from(case.now.duration_since(start)).unwrap_or_default();
    format!(
        "workspace timed out after {activity} ({}) took longer than {}",
        GoDuration::from(elapsed).hours_minutes(),
        GoDuration::from(limit).hours_minutes()
    )
}

/// When the next timeout passes.
pub(super) fn next(case: &Case<'_>, draft: &Draft) -> Option<Timestamp> {
    let timed_out = draft.status.is_true(conditions::TIMEOUT);
    let limits = if timed_out { Vec::new() } else { limits(case, draft) };
    let deadline = limits.iter().filter_map(|limit| after(limit.start, limit.length)).min();
    let deadline = deadline.map(|at| case.suspended(at));
    deadline.into_iter().chain(case.unseen_until()).min()
}

/// The timeouts that apply in the phase of the draft; the first that has passed is reported.
fn limits(case: &Case<'_>, draft: &Draft) -> Vec<Limit> {
    let timeouts = &case.settings.timeouts;
    let since_creation = |activity, length| vec![Limit { activity, start: case.created_at(), length }];
    match draft.status.phase {
        Phase::Pending | Phase::Imagebuild => since_creation("initialization", timeouts.initialization),
        Phase::Creating => {
            let mut limits = since_creation("creating containers", timeouts.startup);
            limits.extend(of_failing_start(case, draft));
            limits
        }
        Phase::Initializing => since_creation("startup", timeouts.startup),
        Phase::Running => of_running(case, draft),
        Phase::Unknown => of_unknown(case, draft),
        Phase::Stopping | Phase::Stopped => Vec::new(),
    }
}

/// While the kubelet cannot start the container.
fn of_failing_start(case: &Case<'_>, draft: &Draft) -> Option<Limit> {
    let failing = draft.status.condition(conditions::CONTAINER_START_FAILING)?;
    let start = failing.last_transition_time.0;
    let length = case.settings.timeouts.container_start;
    (failing.status == "True").then_some(Limit { activity: "starting the container", start, length })
}

fn of_unknown(case: &Case<'_>, draft: &Draft) -> Vec<Limit> {
    let since = draft.status.condition(INTERRUPTED).filter(|condition| condition.status == "True");
    let start = since.map_or(case.now, |condition| condition.last_transition_time.0);
    vec![Limit { activity: "being interrupted", start, length: case.settings.timeouts.interrupted }]
}

fn of_running(case: &Case<'_>, draft: &Draft) -> Vec<Limit> {
    let timeouts = &case.settings.timeouts;
    let own = case.workspace.spec.timeout.as_deref();
    let created = case.created_at();
    let lifetime = own_limit(own, |own| &own.maximum_lifetime).unwrap_or(timeouts.max_lifetime);
    let mut limits = vec![Limit { activity: "maximum lifetime", start: created, length: lifetime }];
    let inactivity = "period of inactivity";
    if case.is_headless() {
        let length = timeouts.headless_workspace;
        limits.push(Limit { activity: "running the headless workspace", start: created, length });
        return limits;
    }
    let Some(active) = draft.status.last_activity.as_ref().map(|time| time.0) else {
        limits.push(Limit { activity: inactivity, start: created, length: timeouts.startup });
        return limits;
    };
    if draft.status.is_true(conditions::CLOSED) {
        let own_closed = own_limit(own, |own| &own.closed);
        // Zero in the workspace's own spec disables this timeout.
        if own_closed != Some(Duration::ZERO) {
            let length = own_closed.unwrap_or(timeouts.after_close);
            limits.push(Limit { activity: "after being closed", start: active, length });
        }
    }
    let length = own_limit(own, |own| &own.time).unwrap_or(timeouts.regular_workspace);
    limits.push(Limit { activity: inactivity, start: active, length });
    limits
}

/// A timeout of the workspace's spec. The schema allows a number without a unit: like any value that does not parse, it is
/// ignored, and the configured timeout applies.
fn own_limit(own: Option<&Timeout>, field: impl Fn(&Timeout) -> &Option<String>) -> Option<Duration> {
    field(own?).as_deref()?.parse::<GoDuration>().ok()?.to_std().ok()
}
