//! Recreation of pods that their node refused. Meanwhile the phase is Stopping, because the node agent wipes in that phase;
//! it is never Stopped, because the workspace has not ended.

use jiff::Timestamp;

use domain::pod::{PodFacts, PodPhase};
use k8s::resources::WorkspaceStatus;
use k8s::resources::conditions::{self, reason};
use member::texts;

use super::case::Case;
use super::deadline::after;
use super::draft::Draft;
use super::ending;
use super::fault::{Failure, Fault};
use super::phase::{self, Row};
use super::predicates::{is_finished, is_refused};

/// Conditions that are kept for the next attempt: what people did.
const KEPT: [&str; 5] = [
    conditions::STOPPED_BY_REQUEST,
    conditions::TIMEOUT,
    conditions::CLOSED,
    conditions::FIRST_USER_ACTIVITY,
    conditions::ABORTED,
];

/// Whether the node refused the pod before anybody could use it; the content of such a pod is wiped. The content may be
/// ready: the node agent starts with it when the pod is assigned to the node.
pub(super) fn is_rejected(case: &Case<'_>, draft: &Draft) -> bool {
    let unused = !draft.status.is_true(conditions::EVER_READY);
    is_refused(&draft.status) || (unused && case.pod.is_some_and(is_pod_rejected))
}

/// Notes the refusal, and fails the workspace once its retries are used up. A pod that must go for another reason needs no
/// note. One that is merely being deleted does: an earlier reconcile deleted it, and its status write met a conflict.
pub(super) fn note(case: &Case<'_>, draft: &mut Draft) {
    let noted = is_refused(&draft.status) || (case.is_deleting() && draft.is_doomed(case));
    let Some(pod) = case.pod.filter(|_| !noted) else { return };
    let text = format!("{}: {}", pod.reason, pod.message);
    draft.set(conditions::POD_REJECTED, true, reason::UNKNOWN, &text);
    draft.warning("PodRejected", text.clone());
    let done = attempts(&draft.status);
    if done >= case.settings.recreation.max_retries && !draft.is_doomed(case) {
        let text = format!("{text} (the node refused the pod; it was made again {done} times)");
        draft.fail(&Failure::new(Fault::Platform, text));
    }
}

/// Fails a workspace whose refused pod is held by foreign finalizers for longer than `timeouts.stopping`: a new pod needs its
/// name.
pub(super) fn give_up(case: &Case<'_>, draft: &mut Draft) {
    let is_due = gives_up_at(case, &draft.status).is_some_and(|at| at <= case.now);
    let Some(pod) = case.pod.filter(|_| is_due && !case.in_maintenance() && !draft.is_doomed(case)) else {
        return;
    };
    let held = ending::holders(pod).unwrap_or_default();
    let text = format!("no other pod can be made: the refused pod {} stays, {held}", pod.name);
    draft.fail(&Failure::new(Fault::Platform, text));
}

/// When the controller stops waiting for the foreign finalizers of a refused pod.
fn gives_up_at(case: &Case<'_>, status: &WorkspaceStatus) -> Option<Timestamp> {
    let is_held = case.pod.is_some_and(|pod| pod.deleting_since.is_some() && !pod.held_by.is_empty());
    let waits = is_refused(status) && is_finished(status, case.workspace.spec.type_);
    let since = status.pod_stopping_time.as_ref().filter(|_| is_held && waits)?;
    after(since.0, case.settings.timeouts.stopping)
}

/// Begins the next attempt. The next reconcile creates the pod, once this status is written: there are never two.
pub(super) fn reset(case: &Case<'_>, draft: &mut Draft) {
    let attempt = attempts(&draft.status).saturating_add(1);
    let text = format!("Recreating pod... ({attempt} retry)");
    let status = &mut draft.status;
    status.conditions.retain(|condition| {
        KEPT.contains(&condition.type_.as_str()) || condition.type_ == conditions::POD_REJECTED
    });
    status.pod_recreated = Some(i32::try_from(attempt).unwrap_or(i32::MAX));
    status.pod_starts = status.pod_starts.min(status.pod_recreated.unwrap_or_default());
    status.pod_deletion_time = None;
    status.pod_stopping_time = None;
    status.runtime = None;
    draft.set(conditions::POD_REJECTED, false, reason::UNKNOWN, &text);
    draft.event("Recreating", format!("{text} of at most {}", case.settings.recreation.max_retries));
    draft.choice.more_to_do = true;
}

/// When the next attempt begins, or the workspace fails because of foreign finalizers.
pub(super) fn next(case: &Case<'_>, draft: &Draft) -> Option<Timestamp> {
    if phase::row(&case.facts(&draft.status)) != Row::Refused {
        return None;
    }
    if case.pod.is_some() {
        return gives_up_at(case, &draft.status).map(|at| case.suspended(at));
    }
    after(draft.status.pod_deletion_time.as_ref()?.0, case.settings.recreation.backoff)
}

fn attempts(status: &WorkspaceStatus) -> u32 {
    u32::try_from(status.pod_recreated.unwrap_or_default()).unwrap_or_default()
}

/// Whether the reason of a failed pod says that the node refused it.
fn is_pod_rejected(pod: &PodFacts) -> bool {
    let reasons = ["NodeAffinity", "UnexpectedAdmissionError", "NodeShutdown"];
    let reason = pod.reason.as_str();
    pod.phase == PodPhase::Failed
        && (reasons.contains(&reason) || reason.starts_with("OutOf") || texts::is_pod_refused(&pod.message))
}
