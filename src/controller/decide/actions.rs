//! Chooses the actions that the next status requires.

use k8s_openapi::api::core::v1::Pod;

use crate::pod;
use domain::pod::PodFacts;
use domain::workspace::Phase;
use k8s::resources::conditions::{self, reason};
use k8s::resources::names;

use super::action::{Action, SecretsToDelete};
use super::case::Case;
use super::change::StatusChange;
use super::draft::Draft;
use super::ending;
use super::observed::NodeObservation;
use super::predicates::{grace, is_finished, is_refused};

/// Creates the pod, and counts it in the status.
pub(super) fn create(case: &Case<'_>, draft: &mut Draft, pod: Box<Pod>) {
    draft.choice.actions.push(Action::CreatePod(pod));
    draft.status.pod_starts = draft.status.pod_recreated.unwrap_or_default().saturating_add(1);
    draft.note_deployed(case);
    draft.set(conditions::WORKSPACE_CONTAINER_RUNNING, false, reason::UNKNOWN, "");
}

/// Chooses all actions but the creation of the pod.
pub(super) fn choose(case: &Case<'_>, draft: &mut Draft) {
    let stuck = case.foreign.iter().filter(|pod| pod.deleting_since.is_some() && pod.has_finalizer);
    draft.choice.actions.extend(stuck.map(|pod| release(pod)));
    if let Some(pod) = case.pod {
        with_pod(case, draft, pod);
    }
}

fn with_pod(case: &Case<'_>, draft: &mut Draft, pod: &PodFacts) {
    let stopped = draft.status.phase == Phase::Stopped;
    let refused = is_refused(&draft.status);
    let must_go = stopped || refused || draft.is_doomed(case);
    let finished = is_finished(&draft.status, case.workspace.spec.type_);
    let actions = &mut draft.choice.actions;
    for extra in case.own.iter().filter(|extra| extra.uid != pod.uid) {
        if extra.deleting_since.is_none() {
            actions.push(delete(extra, None));
        }
        if extra.has_finalizer {
            actions.push(release(extra));
        }
    }
    // No kubelet is left on a node that is gone to end the pod and confirm its deletion.
    let forsaken = must_go && case.observed.node == NodeObservation::Gone;
    if must_go && pod.deleting_since.is_none() && !forsaken {
        actions.push(delete(pod, grace(&draft.status)));
    } else if forsaken || ending::is_overdue(case, &draft.status) {
        actions.push(delete(pod, Some(0)));
    }
    if pod.has_finalizer && (stopped || (refused && finished)) {
        actions.push(release(pod));
    }
    let first_run =
        draft.status.is_true(conditions::EVER_READY) && !case.status().is_true(conditions::EVER_READY);
    draft.choice.drop_secrets = first_run && !SecretsToDelete::of(case.workspace).is_none();
}

/// Takes the next status out of the draft and returns the status update; adds the last actions once the workspace is over.
pub(super) fn conclude(case: &Case<'_>, draft: &mut Draft) -> StatusChange {
    let (old, status) = (case.workspace.status.as_ref(), &draft.status);
    let is_over =
        status.phase == Phase::Stopped && (case.pod.is_none() || ending::is_left_behind(case, status));
    let was_ending = matches!(case.phase(), Phase::Stopping | Phase::Stopped);
    // With an earlier refusal as it stands: it is cleared by no status update of its own, and so delays no end.
    let only_end = || StatusChange::between(old, status.clone()).says_only_the_end();
    if is_over && was_ending && !is_held_by_others(case) && only_end() {
        finish(case, &mut draft.choice.actions);
        // The deletion of the resource reports the end; a status update would be redundant.
        return StatusChange::default();
    }
    draft.choice.more_to_do |= is_over;
    ending::clear_denial(case, draft);
    StatusChange::between(old, std::mem::take(&mut draft.status))
}

/// Whether other finalizers keep the resource after the manager's is removed.
fn is_held_by_others(case: &Case<'_>) -> bool {
    case.phase() != Phase::Stopped && finalizers(case).iter().any(|finalizer| finalizer != names::FINALIZER)
}

fn finalizers<'a>(case: &Case<'a>) -> &'a [String] {
    case.workspace.metadata.finalizers.as_deref().unwrap_or_default()
}

/// The last actions: the workspace is stopped and its pod is gone.
fn finish(case: &Case<'_>, actions: &mut Vec<Action>) {
    let secrets = SecretsToDelete::of(case.workspace);
    let held = finalizers(case).iter().any(|finalizer| finalizer == names::FINALIZER);
    let deleting = case.deleting_since().is_some();
    if held && !case.was_made() {
        actions.push(check_for_pod(case));
    }
    if !secrets.is_none() && (held || !deleting) {
        actions.push(Action::DeleteSecrets(secrets));
    }
    if held {
        actions.push(Action::ReleaseWorkspace);
    }
    if !deleting {
        actions.push(Action::DeleteWorkspace);
    }
}

pub(super) fn check_for_pod(case: &Case<'_>) -> Action {
    Action::CheckForPod { name: pod::name(case.workspace.spec.type_, case.id()) }
}

pub(super) fn release(pod: &PodFacts) -> Action {
    Action::ReleasePod { name: pod.name.clone(), uid: pod.uid.clone() }
}

fn delete(pod: &PodFacts, grace: Option<u32>) -> Action {
    Action::DeletePod { name: pod.name.clone(), uid: pod.uid.clone(), grace }
}
