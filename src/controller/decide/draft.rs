//! Builder for the next status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::settings::OwnerTokens;
use domain::names::WorkspaceId;
use domain::pod::{ContainerState, PodEvent, PodFacts};
use domain::template::Values;
use domain::workspace::Phase;
use k8s::convert;
use k8s::resources::conditions::{self, reason};
use k8s::resources::{OwnerToken, Runtime, WorkspaceStatus, names};

use super::action::Action;
use super::case::Case;
use super::change::StatusChange;
use super::decision::{Decision, Note};
use super::fault::{Failure, Fault};
use super::observed::{NodeObservation, Readiness};
use super::predicates;
use super::start_problem::Class;

/// Condition of this controller: True while the pod's state is unknown. Its transition time starts the timeout for that.
pub(super) const INTERRUPTED: &str = "Interrupted";

/// Characters of a condition's message; it is for people.
const LONGEST_MESSAGE: usize = 4096;

/// The chosen actions.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub actions: Vec<Action>,
    pub drop_secrets: bool,
    /// Whether the next reconcile must follow as soon as this status is written.
    pub more_to_do: bool,
    /// Whether the status write may be debounced.
    pub may_wait: bool,
}

/// Builder for the next status and the other results of a reconcile.
pub(super) struct Draft {
    pub status: WorkspaceStatus,
    pub choice: Choice,
    events: Vec<Note>,
    /// `Some` if the workspace failed in this reconcile; true if its pod did not start.
    just_failed: Option<bool>,
    /// The last event of its pod, if it was read.
    pod_event: Option<PodEvent>,
    now: Timestamp,
    generation: Option<i64>,
}

impl Draft {
    pub fn new(case: &Case<'_>) -> Self {
        Self {
            status: case.status().clone(),
            choice: Choice::default(),
            events: Vec::new(),
            just_failed: None,
            pod_event: case.observed.pod_event.cloned(),
            now: case.now,
            generation: case.workspace.metadata.generation,
        }
    }

    /// Sets a condition, unless it is already equal. The transition time changes only with the status of the condition.
    pub fn set(&mut self, kind: &str, is_true: bool, reason: &str, message: &str) {
        let status = if is_true { "True" } else { "False" };
        let message = shortened(message);
        let reason = if reason.is_empty() { reason::UNKNOWN } else { reason };
        let now = Time(self.now);
        let observed_generation = self.generation;
        match self.status.conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(there) if there.status == status && there.message == message && there.reason == reason => {}
            Some(there) => {
                if there.status != status {
                    status.clone_into(&mut there.status);
                    there.last_transition_time = now;
                }
                there.message = message;
                reason.clone_into(&mut there.reason);
                there.observed_generation = observed_generation;
            }
            None => self.status.conditions.push(Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                last_transition_time: now,
                observed_generation,
            }),
        }
    }

    /// Fails the workspace. Only the first failure counts.
    pub fn fail(&mut self, failure: &Failure) {
        if self.status.is_true(conditions::FAILED) {
            return;
        }
        self.ask_why(false);
        let text = self.explained(&failure.text);
        self.set(conditions::FAILED, true, failure.fault.reason(), &text);
        self.warning("Failed", text);
    }

    /// Requests the events of the pod, which may explain a failure; `starting` if the pod did not start.
    pub fn ask_why(&mut self, starting: bool) {
        self.just_failed = Some(starting || self.just_failed == Some(true));
    }

    /// Appends the last event of the pod to the text of a failure, unless the text has it.
    pub fn explained(&self, text: &str) -> String {
        match &self.pod_event {
            Some(event) if !text.contains(&event.message) => {
                format!("{text} (last event of its pod: {}: {})", event.reason, event.message)
            }
            _ => text.to_owned(),
        }
    }

    /// Whether the content needs nothing more.
    pub fn finished(&self, case: &Case<'_>) -> bool {
        predicates::is_finished(&self.status, case.workspace.spec.type_)
    }

    pub fn is_doomed(&self, case: &Case<'_>) -> bool {
        predicates::is_doomed(&self.status, case.workspace)
    }

    pub fn event(&mut self, reason: &'static str, message: String) {
        self.events.push(Note { reason, warning: false, message, passing: false });
    }

    /// Adds an event of a step that may be over at once; such events are debounced.
    pub fn passing_event(&mut self, reason: &'static str, message: String) {
        self.events.push(Note { reason, warning: false, message, passing: true });
    }

    pub fn warning(&mut self, reason: &'static str, message: String) {
        self.events.push(Note { reason, warning: true, message, passing: false });
    }

    /// Sets URL and owner token if they are empty.
    pub fn fill_access(&mut self, case: &Case<'_>, tokens: &dyn OwnerTokens) {
        if self.status.url.as_deref().unwrap_or_default().is_empty() {
            let meta = &case.workspace.spec.ownership.workspace_id;
            let values = Values { id: case.id(), prefix: meta, host: &case.settings.host_url };
            self.status.url = Some(case.settings.url.render(&values));
        }
        if self.status.owner_token.as_ref().is_some_and(|token| !token.0.is_empty()) {
            return;
        }
        match case.id().parse::<WorkspaceId>() {
            Ok(id) => {
                let keying = convert::keying(&case.workspace.metadata);
                let token = tokens.owner_token(&id, generation(case), keying.as_ref());
                self.status.owner_token = Some(OwnerToken(token));
            }
            Err(error) => self.fail(&Failure::new(Fault::Configuration, error.to_string())),
        }
    }

    /// Applies the observed pod: existence, node, and state of its container.
    pub fn see_pod(&mut self, case: &Case<'_>) {
        let Some(pod) = case.pod else {
            // The watch may not show the pod yet, so the state of its container is unknown.
            if case.was_made() && case.unseen_until().is_none() {
                self.set(conditions::WORKSPACE_CONTAINER_RUNNING, false, reason::UNKNOWN, "");
            }
            return;
        };
        let least = self.status.pod_recreated.unwrap_or_default().saturating_add(1);
        self.status.pod_starts = self.status.pod_starts.max(least);
        self.note_deployed(case);
        if pod.node_name.is_some() {
            self.fill_runtime(pod);
        }
        self.see_container(case, pod);
    }

    /// Notes the creation of the pod, once for each attempt.
    pub fn note_deployed(&mut self, case: &Case<'_>) {
        if !self.status.is_true(conditions::DEPLOYED) {
            self.set(conditions::DEPLOYED, true, reason::UNKNOWN, "");
            let class = &case.workspace.spec.class;
            self.passing_event("Creating", format!("Creating the pod in class {class}"));
        }
    }

    /// Fills empty fields only, but for the pod's address, which is updated.
    fn fill_runtime(&mut self, pod: &PodFacts) {
        let mut runtime = self.status.runtime.clone().unwrap_or_default();
        let fill = |field: &mut Option<String>, value: Option<&String>| {
            if field.as_deref().unwrap_or_default().is_empty() {
                *field = value.cloned();
            }
        };
        let Runtime { host_ip, node_name, pod_ip, pod_name } = &mut *runtime;
        fill(node_name, pod.node_name.as_ref());
        fill(host_ip, pod.host_ip.as_ref());
        fill(pod_name, Some(&pod.name));
        if pod.pod_ip.is_some() {
            pod_ip.clone_from(&pod.pod_ip);
        }
        self.status.runtime = Some(runtime);
    }

    fn see_container(&mut self, case: &Case<'_>, pod: &PodFacts) {
        let kind = conditions::WORKSPACE_CONTAINER_RUNNING;
        let (own, start_problem) = (case.container(), case.start_problem());
        let cannot_start = start_problem.is_some_and(|start_problem| start_problem.class == Class::Start);
        self.keep(conditions::CONTAINER_START_FAILING, cannot_start, reason::CONTAINER_NOT_STARTED, "");
        if own.is_some_and(|own| own.state == ContainerState::Running) {
            return self.set(kind, true, reason::UNKNOWN, "");
        }
        let of_kubelet =
            start_problem.and_then(|start_problem| Some((start_problem.condition_reason()?, start_problem)));
        let waiting = match (of_kubelet, pod.unschedulable.as_deref()) {
            (Some((reason, start_problem)), _) => {
                Some((reason, start_problem.beginning(), start_problem.text()))
            }
            (None, Some(message)) if own.is_none() => {
                Some((reason::UNSCHEDULABLE, String::new(), message.to_owned()))
            }
            (None, _) => None,
        };
        let Some((reason, beginning, message)) = waiting else {
            return self.set(kind, false, reason::UNKNOWN, "");
        };
        // The texts differ with each retry and each node; the first one is kept.
        let is_same = |there: &Condition| there.reason == reason && there.message.starts_with(&beginning);
        if !self.status.condition(kind).is_some_and(is_same) {
            self.set(kind, false, reason, &message);
        }
    }

    /// Applies the readiness of the pod's node. A node that is not ready does not change the phase: nothing new is known of
    /// the pod.
    pub fn see_node(&mut self, case: &Case<'_>) {
        let readiness = match case.observed.node {
            NodeObservation::Present { readiness, .. } if case.pod.is_some() => readiness,
            _ => Readiness::Ready,
        };
        let node = case.pod.and_then(|pod| pod.node_name.as_deref()).unwrap_or_default();
        let (reason, text) = match readiness {
            Readiness::Ready => (reason::UNKNOWN, String::new()),
            Readiness::NotReady => (reason::NOT_READY, format!("node {node} is not ready")),
            Readiness::Unreachable => (reason::UNREACHABLE, format!("node {node} does not answer")),
        };
        self.keep(conditions::NODE_NOT_READY, readiness != Readiness::Ready, reason, &text);
    }

    /// Sets a condition that most workspaces never have: it is absent until it was True once.
    pub fn keep(&mut self, kind: &str, is_true: bool, reason: &str, message: &str) {
        if is_true || self.status.condition(kind).is_some() {
            let (reason, message) = if is_true { (reason, message) } else { (reason::UNKNOWN, "") };
            self.set(kind, is_true, reason, message);
        }
    }

    /// Notes since when the pod's state is unknown.
    pub fn note_interruption(&mut self, interrupted: bool) {
        self.keep(INTERRUPTED, interrupted, reason::UNKNOWN, "");
    }

    /// Sets the start times of the timeouts of stopping.
    pub fn note_stopping(&mut self, case: &Case<'_>) {
        if self.status.phase == Phase::Stopped || !case.is_kept_by_cluster() {
            self.status.pod_stopping_time.get_or_insert(Time(self.now));
        }
        let finished = self.finished(case);
        let going = case.pod.is_none() || case.is_deleting();
        if self.status.phase == Phase::Stopped || (finished && going) {
            self.status.pod_deletion_time.get_or_insert(Time(self.now));
        }
    }

    /// Adds the event of a new phase.
    pub fn note_phase(&mut self, before: Phase, after: Phase) {
        let of_stopping = [Phase::Stopping, Phase::Stopped];
        match after {
            Phase::Initializing => {
                self.passing_event("Initializing", "The content is being initialized".to_owned());
            }
            Phase::Running => self.event("Running", "The workspace is ready".to_owned()),
            Phase::Stopping | Phase::Stopped if !of_stopping.contains(&before) => {
                self.event("Stopping", "The workspace is being stopped".to_owned());
            }
            _ => {}
        }
    }

    /// The decision with this status update.
    pub fn into_decision(
        self,
        case: &Case<'_>,
        status: StatusChange,
        next_check: Vec<Timestamp>,
    ) -> Decision {
        let Self { choice, events, just_failed, pod_event, now, .. } = self;
        let next = choice.more_to_do.then_some(now);
        // A time in the past waits for a change that the watch will report.
        let later = next_check.into_iter().filter(|at| *at > now);
        Decision {
            may_wait: choice.may_wait && !status.is_empty(),
            status,
            actions: choice.actions,
            drop_secrets: choice.drop_secrets,
            events,
            query: just_failed
                .filter(|_| pod_event.is_none())
                .and_then(|starting| case.events_of_pod(starting)),
            next_check: later.chain(next).min(),
        }
    }
}

/// Generation of the placement that the workspace was written for.
fn generation(case: &Case<'_>) -> u32 {
    let annotations = case.workspace.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(names::GENERATION)).and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn shortened(message: &str) -> String {
    if message.chars().count() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    message.chars().take(LONGEST_MESSAGE).chain(['…']).collect()
}
