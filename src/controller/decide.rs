//! Pure reconcile decision: (spec, observed state, now) → status update and actions.
//!
//! It builds the next status from the observed state ([`draft`]), classifies failures ([`failure`]), looks up the phase
//! ([`phase`], the table of `docs/phases.md`), checks timeouts ([`timeout`]), and chooses actions ([`actions`]). All of them
//! use the predicates over spec and status ([`predicates`]) and over the observed state ([`case`]). It is idempotent:
//! deciding again after the decision was applied changes nothing.

mod action;
mod actions;
mod case;
mod change;
mod deadline;
mod decision;
mod draft;
mod ending;
mod failure;
mod fault;
mod observed;
pub mod phase;
mod predicates;
mod rejection;
mod start_problem;
#[cfg(test)]
pub(crate) mod tests;
mod timeout;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::pod::{self, PodInput};
use crate::settings::{OwnerTokens, Settings};
use domain::pod::PodFacts;
use domain::workspace::Phase;
use k8s::resources::conditions::{self, reason};

use case::Case;
use draft::Draft;
use fault::{Failure, Fault};
use phase::Row;

pub use action::{Action, SecretsToDelete};
pub use change::StatusChange;
pub use decision::{Decision, Note};
pub use observed::{Denial, NodeObservation, Observed, Readiness, Refusal};

/// Decides on a Workspace that exists.
pub fn decide(observed: &Observed<'_>, settings: &Settings, tokens: &dyn OwnerTokens) -> Decision {
    let case = Case::of(observed, settings);
    let mut draft = Draft::new(&case);
    let mut next_check = Vec::new();
    ending::note_denial(&case, &mut draft);
    if case.phase() != Phase::Stopped {
        let pod_to_make = prepare(&case, &mut draft, tokens);
        draft.see_pod(&case);
        draft.see_node(&case);
        ending::note_node_loss(&case, &mut draft);
        ending::give_up_waiting(&case, &mut draft);
        judge(&case, &mut draft);
        let row = settle(&case, &mut draft);
        enter(&case, &mut draft, row);
        draft.choice.may_wait = may_wait(&case, &draft, row);
        if row == Row::ToStart
            && let Some(pod) = pod_to_make
        {
            actions::create(&case, &mut draft, pod);
            next_check.extend(case.now.checked_add(case::POD_LAG));
        }
        next_check.extend(timeout::next(&case, &draft));
        next_check.extend(rejection::next(&case, &draft));
    }
    next_check.extend(ending::next(&case, &draft));
    ending::note_holders(&case, &mut draft);
    actions::choose(&case, &mut draft);
    let change = actions::conclude(&case, &mut draft);
    draft.into_decision(&case, change, next_check)
}

/// Releases terminating pods whose Workspace is gone.
pub fn decide_orphans(pods: &[Arc<PodFacts>]) -> Vec<Action> {
    let stuck = pods.iter().filter(|pod| pod.has_finalizer && pod.deleting_since.is_some());
    stuck.map(|pod| actions::release(pod)).collect()
}

/// Sets URL and token, and returns the pod if one must be created. If it cannot be, the workspace fails or waits.
fn prepare(case: &Case<'_>, draft: &mut Draft, tokens: &dyn OwnerTokens) -> Option<Box<Pod>> {
    draft.fill_access(case, tokens);
    if !case.is_to_start() {
        return None;
    }
    if let Some(earlier) = case.foreign.first() {
        let text = format!("pod {} of an earlier workspace of this name is still there", earlier.name);
        let held = ending::holders(earlier).map(|held| format!(", {held}")).unwrap_or_default();
        draft.set(
            conditions::WORKSPACE_CONTAINER_RUNNING,
            false,
            reason::POD_NOT_CREATED,
            &format!("{text}{held}"),
        );
        return None;
    }
    if let Some(refusal) = case.observed.refusal {
        note_refusal(draft, refusal);
        return None;
    }
    match PodInput::parse(case.workspace, case.settings) {
        Ok(input) => Some(Box::new(pod::build(&input))),
        Err(error) => {
            draft.fail(&Failure::new(Fault::Configuration, error.to_string()));
            None
        }
    }
}

fn note_refusal(draft: &mut Draft, refusal: &Refusal) {
    if refusal.is_final {
        draft.fail(&failure::pod_rejected(&refusal.message));
    } else {
        let text = &refusal.message;
        draft.set(conditions::WORKSPACE_CONTAINER_RUNNING, false, reason::POD_NOT_CREATED, text);
    }
}

/// Conditions that somebody acts on, or that explain an end; a change of one is written without debounce.
const URGENT: [&str; 6] = [
    conditions::FAILED,
    conditions::TIMEOUT,
    conditions::POD_REJECTED,
    conditions::NODE_DISAPPEARED,
    conditions::BACKUP_FAILURE,
    conditions::HEADLESS_TASK_FAILED,
];

/// Whether another change is about to follow: a pod that was just created will get a node, one that was just deleted will
/// end, one that was just released will be gone. Node agents act on Creating and Initializing alike, on Running, and on
/// Stopping once the container has ended.
fn may_wait(case: &Case<'_>, draft: &Draft, row: Row) -> bool {
    let same = |kind: &&str| case.status().is_true(kind) == draft.status.is_true(kind);
    let agent_knows = case.phase() == Phase::Creating && case.status().runtime.is_some();
    let is_running = draft.status.is_true(conditions::WORKSPACE_CONTAINER_RUNNING);
    let on_the_way = match row {
        Row::ToStart | Row::Pending => case.observed.refusal.is_none(),
        // The agent initializes the content since Creating, and may finish at any time.
        Row::Initializing => agent_knows,
        Row::Doomed | Row::Ending => is_running || draft.finished(case),
        Row::Finished | Row::TaskFinished => case.pod.is_some(),
        _ => false,
    };
    on_the_way && URGENT.iter().all(same)
}

/// Notes failures, a refusal by the node, and the message of a headless task.
fn judge(case: &Case<'_>, draft: &mut Draft) {
    if case.has_several_pods() {
        let names: Vec<&str> = case.own.iter().map(|pod| pod.name.as_str()).collect();
        let text = format!("the workspace has more than one pod: {}", names.join(", "));
        draft.fail(&Failure::new(Fault::Platform, text));
    }
    if case.has_vanished() && !draft.is_doomed(case) {
        // The pod watch may lag behind the Workspace watch, as after a restore of the cluster.
        draft.choice.actions.push(actions::check_for_pod(case));
        draft.fail(&failure::vanished(case));
    }
    if let Some(failure) = failure::of_content(&draft.status) {
        draft.fail(&failure);
    }
    if rejection::is_rejected(case, draft) {
        rejection::note(case, draft);
        rejection::give_up(case, draft);
    } else if let Some(failure) = failure::of_pod(case, draft) {
        draft.fail(&failure);
    }
    if let Some(message) = failure::headless_task_message(case) {
        draft.set(conditions::HEADLESS_TASK_FAILED, true, reason::UNKNOWN, message);
    }
}

/// Looks up the phase, and again if a timeout of that phase has passed, which ends the workspace.
fn settle(case: &Case<'_>, draft: &mut Draft) -> Row {
    let row = phase::row(&case.facts(&draft.status));
    draft.status.phase = row.phase(case.phase());
    if !timeout::fire(case, draft) {
        return row;
    }
    let row = phase::row(&case.facts(&draft.status));
    draft.status.phase = row.phase(case.phase());
    row
}

/// Applies the side effects of a row: conditions, times and events.
fn enter(case: &Case<'_>, draft: &mut Draft, row: Row) {
    let (before, after) = (case.phase(), draft.status.phase);
    match row {
        Row::Ready => draft.set(conditions::EVER_READY, true, reason::UNKNOWN, ""),
        Row::Again => rejection::reset(case, draft),
        _ => {}
    }
    if case.has_succeeded() {
        draft.set(conditions::EVER_READY, true, reason::UNKNOWN, "");
    }
    draft.note_interruption(after == Phase::Unknown);
    if after == Phase::Stopping || after == Phase::Stopped {
        draft.note_stopping(case);
    }
    if before != after {
        draft.note_phase(before, after);
    }
}
