//! What becomes of a workspace: a pure function of what it shall be, what is seen, and the time.
//!
//! One pass derives the status from what is seen ([`draft`]), classifies failures ([`failure`]), looks up the phase
//! ([`phase`], the table of `docs/phases.md`), checks limits of time ([`timeout`]), and names what is to be done
//! ([`actions`]). Deciding again after the decision was carried out changes nothing further.

mod actions;
mod case;
mod change;
mod draft;
mod ending;
mod failure;
mod hindrance;
pub mod phase;
mod rejection;
#[cfg(test)]
pub(crate) mod tests;
mod timeout;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::{self, PodInput};
use crate::settings::{OwnerTokens, Settings};
use domain::pod::{EventQuery, PodEvent, PodFacts};
use k8s::resources::{Phase, Workspace, conditions, names};

use case::Case;
pub use change::StatusChange;
use draft::Draft;
use failure::{Failure, Fault};
use phase::Row;

/// Condition of ours: True while nobody can tell the pod's state; the clock of the timeout for that.
pub const INTERRUPTED: &str = "Interrupted";

/// What is seen of one workspace.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The resource.
    pub workspace: &'a Workspace,
    /// Pods that a workspace of this name owns, earlier ones of the same name included.
    pub pods: &'a [Arc<PodFacts>],
    /// Its node.
    pub node: NodeObservation,
    /// Until when the namespace is under maintenance; may lie in the past.
    pub maintenance_until: Option<Timestamp>,
    /// Answer of the cluster to the pod asked for in this pass.
    pub refusal: Option<&'a Refusal>,
    /// The event of its pod that an earlier decision of this pass asked for.
    pub pod_event: Option<&'a PodEvent>,
    /// The time.
    pub now: Timestamp,
}

/// What is seen of the workspace's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeObservation {
    /// There is no node yet, or nodes were not listed yet.
    Unknown,
    /// It is there.
    Present {
        /// Whether it has any taint.
        tainted: bool,
        /// Whether its kubelet answers.
        readiness: Readiness,
    },
    /// It is gone.
    Gone,
}

/// Whether a node's kubelet answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It does, and the node takes pods.
    Ready,
    /// It does, and says that the node is not ready.
    NotReady,
    /// It does not: what is known of the node's pods is of before.
    Unreachable,
}

/// The cluster did not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the cluster said.
    pub message: String,
    /// Whether it will say so again, as for a pod that is not valid.
    pub is_final: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// What changes in the status.
    pub status: StatusChange,
    /// Whether the status may wait a moment, to be written with what follows at once: nobody acts on it. It is decided
    /// on anew then.
    pub may_wait: bool,
    /// What to do before the status is written, in this order.
    pub actions: Vec<Action>,
    /// Whether the secrets are to be deleted because the workspace runs. Done after the status is written, since
    /// nothing depends on it: they are deleted again at the end.
    pub drop_secrets: bool,
    /// Kubernetes events to write.
    pub events: Vec<Note>,
    /// Where it has just failed: the events of its pod among which the reason may be. With the answer it is decided again.
    pub query: Option<EventQuery>,
    /// When to look again if nothing changes.
    pub look_again: Option<Timestamp>,
}

/// One thing to do in the cluster. Each can be repeated without harm.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the pod.
    CreatePod(Box<Pod>),
    /// Delete a pod.
    DeletePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// Seconds it gets to end; its own value where absent.
        grace: Option<u32>,
    },
    /// Take our finalizer off a pod.
    ReleasePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Ask the apiserver itself that there is no pod: the answer to its creation may have been lost, or a watch may lag.
    SeeThatNoPodIs {
        /// Its name.
        name: String,
    },
    /// Delete the secrets it has; both flags false never happens.
    DeleteSecrets(SecretsToDelete),
    /// Take our finalizer off the workspace.
    ReleaseWorkspace,
    /// Delete the workspace.
    DeleteWorkspace,
}

/// Which secrets a workspace has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretsToDelete {
    /// `<id>-env` in the workspace namespace.
    pub env: bool,
    /// `<id>-tokens` in the secrets namespace.
    pub tokens: bool,
}

impl SecretsToDelete {
    /// The secrets that a workspace's spec refers to, or may: that they were made for it is checked before they are deleted.
    pub fn of(workspace: &Workspace) -> Self {
        let id = workspace.metadata.name.as_deref().unwrap_or_default();
        let env_name = names::env_secret(id);
        let refers = |variable: &k8s::resources::EnvVar| {
            let source = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
            source.is_some_and(|secret| secret.name == env_name)
        };
        let initializer = workspace.spec.initializer.0.0.as_slice();
        Self {
            env: workspace.spec.user_env_vars.iter().chain(&workspace.spec.sys_env_vars).any(refers),
            tokens: initializer.windows(EXTRACTED.len()).any(|part| part == EXTRACTED),
        }
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        !self.env && !self.tokens
    }
}

/// What stands in an initializer for a password that is in the token secret.
const EXTRACTED: &[u8] = b"extracted-secret/";

/// A Kubernetes event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Reason, one of those that the original writes.
    pub reason: &'static str,
    /// Whether it is a warning.
    pub warning: bool,
    /// Detail.
    pub message: String,
    /// Whether it tells of a step that may be over at once; what follows then says enough.
    pub passing: bool,
}

/// What is to be done about a workspace that exists.
pub fn decide(observed: &Observed<'_>, settings: &Settings, tokens: &dyn OwnerTokens) -> Decision {
    let case = Case::of(observed, settings);
    let mut draft = Draft::new(&case);
    let mut look_again = Vec::new();
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
            look_again.extend(case.now.checked_add(case::POD_LAG));
        }
        look_again.extend(timeout::next(&case, &draft));
        look_again.extend(rejection::next(&case, &draft));
    }
    look_again.extend(ending::next(&case, &draft));
    ending::note_holders(&case, &mut draft);
    actions::choose(&case, &mut draft);
    draft.into_decision(&case, look_again)
}

/// What orphaned pods need: a workspace that is gone can no longer release them.
pub fn decide_orphans(pods: &[Arc<PodFacts>]) -> Vec<Action> {
    let stuck = pods.iter().filter(|pod| pod.has_finalizer && pod.deleting_since.is_some());
    stuck.map(|pod| actions::release(pod)).collect()
}

/// URL and token, and the pod where one has to be made; what stands in its way is a failure.
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
            draft::POD_NOT_CREATED,
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
        draft.fail(&failure::not_taken(&refusal.message));
    } else {
        let text = &refusal.message;
        draft.set(conditions::WORKSPACE_CONTAINER_RUNNING, false, draft::POD_NOT_CREATED, text);
    }
}

/// Conditions that somebody acts on, or that say why something ended.
const URGENT: [&str; 6] = [
    conditions::FAILED,
    conditions::TIMEOUT,
    conditions::POD_REJECTED,
    conditions::NODE_DISAPPEARED,
    conditions::BACKUP_FAILURE,
    conditions::HEADLESS_TASK_FAILED,
];

/// Whether what is decided is only a step on the way: a pod that has just been made will have a node, one that was just
/// deleted will end, one that was just released will be gone. Node agents act on Creating and Initializing alike, on
/// Running, and on Stopping once the container has ended.
fn may_wait(case: &Case<'_>, draft: &Draft, row: Row) -> bool {
    let same = |kind: &&str| case.status().is_true(kind) == draft.status.is_true(kind);
    let is_told = case.phase() == Phase::Creating && case.status().runtime.is_some();
    let is_running = draft.status.is_true(conditions::WORKSPACE_CONTAINER_RUNNING);
    let on_the_way = match row {
        Row::ToStart | Row::Pending => case.observed.refusal.is_none(),
        // The agent is at it since Creating, and may be done any moment.
        Row::Initializing => is_told,
        Row::Doomed | Row::Ending => is_running || draft.finished(case),
        Row::Finished | Row::TaskFinished => case.pod.is_some(),
        _ => false,
    };
    on_the_way && URGENT.iter().all(same)
}

/// Failures, rejection, and what a headless task left.
fn judge(case: &Case<'_>, draft: &mut Draft) {
    if case.pods_are_many() {
        let names: Vec<&str> = case.own.iter().map(|pod| pod.name.as_str()).collect();
        let text = format!("the workspace has more than one pod: {}", names.join(", "));
        draft.fail(&Failure::new(Fault::Platform, text));
    }
    if case.has_vanished() && !draft.is_doomed(case) {
        // The watch on pods may lag behind the one on workspaces, as after a restore of the cluster.
        draft.choice.actions.push(actions::see_that_no_pod_is(case));
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
        draft.set(conditions::HEADLESS_TASK_FAILED, true, conditions::reason::UNKNOWN, message);
    }
}

/// The phase by the table; a limit of time that is reached in it ends the workspace at once.
fn settle(case: &Case<'_>, draft: &mut Draft) -> Row {
    let row = phase::row(&case.facts(draft));
    draft.status.phase = row.phase(case.phase());
    if !timeout::fire(case, draft) {
        return row;
    }
    let row = phase::row(&case.facts(draft));
    draft.status.phase = row.phase(case.phase());
    row
}

/// What goes with a new phase.
fn enter(case: &Case<'_>, draft: &mut Draft, row: Row) {
    let (before, after) = (case.phase(), draft.status.phase);
    match row {
        Row::Ready => draft.set(conditions::EVER_READY, true, conditions::reason::UNKNOWN, ""),
        Row::Again => rejection::reset(case, draft),
        _ => {}
    }
    if case.has_succeeded() {
        draft.set(conditions::EVER_READY, true, conditions::reason::UNKNOWN, "");
    }
    draft.note_interruption(after == Phase::Unknown);
    if after == Phase::Stopping || after == Phase::Stopped {
        draft.note_stopping(case);
    }
    if before != after {
        draft.note_phase(before, after);
    }
}
