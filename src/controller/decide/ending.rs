//! How a workspace ends: loss of its node, and when the controller gives up waiting for its content and its pod.

use jiff::Timestamp;

use domain::duration::GoDuration;
use domain::pod::PodFacts;
use domain::workspace::Phase;
use k8s::resources::conditions::{self, reason};
use k8s::resources::{WorkspaceStatus, names};

use super::case::Case;
use super::deadline::after;
use super::draft::Draft;
use super::fault::{Failure, Fault};
use super::observed::NodeObservation;
use super::predicates::{is_doomed, is_finished, is_refused, is_safe};
use super::timeout;

/// Notes that the node is gone, and that content without a backup is lost with it.
pub(super) fn note_node_loss(case: &Case<'_>, draft: &mut Draft) {
    if case.observed.node != NodeObservation::Gone || draft.status.is_true(conditions::NODE_DISAPPEARED) {
        return;
    }
    let node = node_name(case).to_owned();
    let kind = case.workspace.spec.type_;
    if !is_finished(&draft.status, kind) && !is_refused(&draft.status) {
        draft.set(
            conditions::BACKUP_FAILURE,
            true,
            reason::BACKUP_FAILED,
            &format!("node disappeared before backup: {node} and the content on it are gone"),
        );
    }
    let ends_anyway = is_doomed(&draft.status, case.workspace) || is_refused(&draft.status);
    draft.set(conditions::NODE_DISAPPEARED, true, reason::UNKNOWN, "");
    let lost_backup = draft.status.is_true(conditions::BACKUP_FAILURE);
    if !ends_anyway && !lost_backup {
        draft.fail(&Failure::new(Fault::Platform, format!("node {node} of the workspace disappeared")));
    }
}

/// Notes the write that the cluster refused in this reconcile. The next status update clears it ([`clear_denial`]).
pub(super) fn note_denial(case: &Case<'_>, draft: &mut Draft) {
    let Some(denial) = case.observed.denial else { return };
    let is_new = !draft.status.is_true(conditions::WRITE_REFUSED);
    draft.set(conditions::WRITE_REFUSED, true, denial.reason, &denial.message);
    if is_new {
        draft.warning("WriteRefused", denial.message.clone());
    }
}

/// Clears the condition of an earlier reconcile: this one asks for the write again, or no longer needs it.
pub(super) fn clear_denial(case: &Case<'_>, draft: &mut Draft) {
    if case.observed.denial.is_none() {
        draft.keep(conditions::WRITE_REFUSED, false, reason::UNKNOWN, "");
    }
}

/// Stops waiting for a node agent that does not finish in time. The content stays on its node, and the condition says where.
pub(super) fn give_up_waiting(case: &Case<'_>, draft: &mut Draft) {
    let limit = case.settings.timeouts.content_finalization;
    let Some(since) = waits_since(case, &draft.status) else { return };
    if case.in_maintenance() || after(since, limit).is_none_or(|at| case.now < at) {
        return;
    }
    let waited = GoDuration::from(limit).hours_minutes();
    let place = format!("node {} at {}", node_name(case), case.settings.content_path(case.id()));
    if is_refused(&draft.status) {
        let text = format!("gave up waiting after {waited}; what is left is on {place}");
        draft.set(conditions::STATE_WIPED, false, "GaveUp", &text);
    } else {
        let text = format!("gave up waiting after {waited}; the content is still on {place}");
        draft.set(conditions::BACKUP_FAILURE, true, reason::BACKUP_FAILED, &text);
    }
    timeout::set(draft, case, "backup", since, limit);
}

/// When the controller stops waiting for the node agent, or deletes the pod by force.
pub(super) fn next(case: &Case<'_>, draft: &Draft) -> Option<Timestamp> {
    let next = match draft.status.phase {
        Phase::Stopping => {
            let since = waits_since_of(&draft.status, case)?;
            after(since, case.settings.timeouts.content_finalization)?
        }
        Phase::Stopped if case.is_deleting() && !is_overdue(case, &draft.status) => {
            force_at(case, &draft.status)?
        }
        _ => return None,
    };
    Some(case.suspended(next))
}

/// Whether the pod exists longer than `timeouts.stopping` allows, so that it is deleted by force.
pub(super) fn is_overdue(case: &Case<'_>, status: &WorkspaceStatus) -> bool {
    status.phase == Phase::Stopped
        && !case.in_maintenance()
        && force_at(case, status).is_some_and(|at| at <= case.now)
}

/// Reports which foreign finalizers hold the pod of a stopped workspace, or a refused pod.
pub(super) fn note_holders(case: &Case<'_>, draft: &mut Draft) {
    let is_over = draft.status.phase == Phase::Stopped || (is_refused(&draft.status) && draft.finished(case));
    let held = case.pod.filter(|pod| is_over && pod.deleting_since.is_some());
    let text = held.and_then(|pod| Some(format!("its pod {} is {}", pod.name, holders(pod)?)));
    let is_new = text.is_some() && !draft.status.is_true(conditions::POD_HELD);
    let message = text.unwrap_or_default();
    let is_held = !message.is_empty();
    draft.keep(conditions::POD_HELD, is_held, reason::FOREIGN_FINALIZER, &message);
    if is_new {
        draft.warning("PodHeld", message);
    }
}

/// Text that names the foreign finalizers of a pod; `None` if it has none.
pub(super) fn holders(pod: &PodFacts) -> Option<String> {
    Some(format!("held by {}", names::listed(&pod.held_by)?))
}

/// Whether only foreign finalizers have held the pod for longer than `timeouts.stopping`. If its content is safe and none of
/// its containers runs, the workspace is deleted, and its pod is left behind.
pub(super) fn is_left_behind(case: &Case<'_>, status: &WorkspaceStatus) -> bool {
    let Some(pod) = case.pod.filter(|_| case.own.len() == 1) else { return false };
    let is_over =
        pod.all_terminated || pod.node_name.is_none() || case.observed.node == NodeObservation::Gone;
    let is_held_by_others = pod.deleting_since.is_some() && !pod.has_finalizer && !pod.held_by.is_empty();
    is_over && is_held_by_others && is_safe(status, case.workspace.spec.type_) && is_overdue(case, status)
}

fn force_at(case: &Case<'_>, status: &WorkspaceStatus) -> Option<Timestamp> {
    after(status.pod_stopping_time.as_ref()?.0, case.settings.timeouts.stopping)
}

/// Since when the controller waits for the node agent; `None` if it does not.
fn waits_since(case: &Case<'_>, status: &WorkspaceStatus) -> Option<Timestamp> {
    (case.phase() == Phase::Stopping).then(|| waits_since_of(status, case)).flatten()
}

fn waits_since_of(status: &WorkspaceStatus, case: &Case<'_>) -> Option<Timestamp> {
    // A task's container ends by itself, so its wait may have begun before the cluster refused anything.
    let has_begun = status.pod_stopping_time.is_some() || !case.is_kept_by_cluster();
    if is_finished(status, case.workspace.spec.type_) || !has_begun {
        return None;
    }
    Some(stopping_since(case, status))
}

fn stopping_since(case: &Case<'_>, status: &WorkspaceStatus) -> Timestamp {
    let noted = status.pod_stopping_time.as_ref().map(|time| time.0);
    noted.or(case.deleting_since()).unwrap_or(case.now)
}

fn node_name<'a>(case: &'a Case<'_>) -> &'a str {
    let of_pod = case.pod.and_then(|pod| pod.node_name.as_deref());
    let of_status = case.status().runtime.as_ref().and_then(|runtime| runtime.node_name.as_deref());
    of_pod.or(of_status).unwrap_or("(unknown)")
}
