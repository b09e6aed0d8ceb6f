//! Classifies failures by what the pod, its container and the conditions of the content show.

use serde::Deserialize;

use crate::pod::CONTAINER;
use domain::pod::{ContainerFacts, ContainerState, PodFacts, PodPhase, Termination};
use domain::text::first_of;
use k8s::resources::WorkspaceStatus;
use k8s::resources::conditions::{self, reason};
use member::texts;

use super::case::Case;
use super::draft::Draft;
use super::fault::{Failure, Fault, with_detail};
use super::observed::NodeObservation;
use super::phase::PodState;
use super::start_problem;

/// Exit code of a container that was killed, or whose end the kubelet missed.
const KILLED: i32 = 137;
/// Containers that a failure names; the others are counted.
const NAMED: usize = 5;
const SILENT_TASK_FAILURE: &str = "headless task failed: ";

/// A failure that the node agent reports in the conditions of the content.
pub(super) fn of_content(status: &WorkspaceStatus) -> Option<Failure> {
    let said = |kind: &str, is: &str| status.condition(kind).filter(|condition| condition.status == is);
    let text = |what: &str, message: &str| match message {
        "" => format!("{what} failed for an unknown reason"),
        message => format!("{what} failed: {message}"),
    };
    let init = said(conditions::CONTENT_READY, "False")
        .filter(|condition| condition.reason == reason::INITIALIZATION_FAILURE);
    if let Some(init) = init {
        // Mostly a repository that does not exist or that this user may not read.
        return Some(Failure::new(Fault::User, text("Content initialization", &init.message)));
    }
    if let Some(backup) = said(conditions::BACKUP_FAILURE, "True") {
        return Some(Failure::new(Fault::Platform, text("Backup", &backup.message)));
    }
    let wiping = said(conditions::STATE_WIPED, "False")?;
    Some(Failure::new(Fault::Platform, text("Wiping workspace state", &wiping.message)))
}

/// A failure that the status of the pod shows.
pub(super) fn of_pod(case: &Case<'_>, draft: &Draft) -> Option<Failure> {
    let pod = case.pod?;
    if let Some(failure) = of_disruption(case, draft, pod) {
        return Some(failure);
    }
    if pod.phase == PodPhase::Failed && !(pod.reason.is_empty() && pod.message.is_empty()) {
        return Some(of_pod_reason(pod));
    }
    of_containers(case, draft, pod)
        .or_else(|| case.start_problem().and_then(|start_problem| start_problem.failure()))
        .or_else(|| of_container(case, case.container()?))
        .or_else(|| of_early_end(case, pod))
        .or_else(|| of_silent_end(case))
}

/// A pod without the container `workspace` can never be ready, and a pod's containers do not change. One that was ready was
/// made by a manager that watches other names.
fn of_containers(case: &Case<'_>, draft: &Draft, pod: &PodFacts) -> Option<Failure> {
    let is_ending = draft.is_doomed(case) || pod.deleting_since.is_some();
    if pod.only_others.is_empty() || is_ending || draft.status.is_true(conditions::EVER_READY) {
        return None;
    }
    let text = format!(
        "its pod {} has no container {CONTAINER}, but {}: a mutating webhook or policy of the cluster renamed or removed it",
        pod.name,
        first_of(&pod.only_others, NAMED)
    );
    Some(Failure::new(Fault::Configuration, text))
}

/// The pod is gone, and neither the workspace nor its pod was ending.
pub(super) fn vanished(case: &Case<'_>) -> Failure {
    let runtime = case.status().runtime.as_ref();
    let node = runtime.and_then(|runtime| runtime.node_name.as_deref());
    let place = node.map(|node| format!(" from node {node}")).unwrap_or_default();
    Failure::new(
        Fault::Platform,
        format!("the workspace's pod vanished{place}: something removed it by force"),
    )
}

/// The cluster rejected the pod.
pub(super) fn pod_rejected(reason: &str) -> Failure {
    Failure::new(Fault::Configuration, format!("pod creation rejected: {reason}"))
}

/// The failure of a workspace that timed out while it waited, by the reason of its container condition.
pub(super) fn of_waiting(status: &WorkspaceStatus) -> Option<Failure> {
    let waiting = status.condition(conditions::WORKSPACE_CONTAINER_RUNNING)?;
    let message = waiting.message.as_str();
    match waiting.reason.as_str() {
        reason::IMAGE_PULL_FAILING => Some(image_pull(message)),
        reason::UNSCHEDULABLE => {
            Some(Failure::new(Fault::Platform, format!("the pod cannot be scheduled: {message}")))
        }
        reason::POD_NOT_CREATED => Some(pod_rejected(message)),
        reason::CONTAINER_NOT_STARTED => Some(start_problem::in_vain(message)),
        _ => None,
    }
}

/// The termination message of a headless task.
pub(super) fn headless_task_message<'a>(case: &Case<'a>) -> Option<&'a str> {
    match &case.container().filter(|_| case.is_headless())?.state {
        ContainerState::Terminated(end) if !end.message.is_empty() => Some(end.message.as_str()),
        _ => None,
    }
}

fn image_pull(message: &str) -> Failure {
    let of_user = ["not found", "manifest unknown", "denied", "unauthorized", "authorization failed"];
    let lower = message.to_lowercase();
    let fault = if of_user.iter().any(|hint| lower.contains(hint)) { Fault::User } else { Fault::Platform };
    Failure::new(fault, format!("cannot pull image: {message}"))
}

/// The platform removed the pod: preemption, eviction, taints. No failure if the workspace was ending anyway.
fn of_disruption(case: &Case<'_>, draft: &Draft, pod: &PodFacts) -> Option<Failure> {
    let (reason, message) = pod.disruption.as_ref()?;
    let is_ending = draft.is_doomed(case) || case.phase() == domain::workspace::Phase::Stopping;
    if is_ending || pod.deleting_since.is_none() {
        return None;
    }
    let what = match reason.as_str() {
        "PreemptionByScheduler" => "Preempted: a pod of higher priority took its place",
        "EvictionByEvictionAPI" => "Evicted: the node is being drained",
        "DeletionByTaintManager" => "Evicted: the node has a taint that the workspace does not tolerate",
        "DeletionByPodGC" => "the pod's node is gone",
        "TerminationByKubelet" => "Evicted: the node had to end it",
        other => other,
    };
    Some(Failure::new(Fault::Platform, with_detail(what, message)))
}

fn of_pod_reason(pod: &PodFacts) -> Failure {
    let fault = match pod.reason.as_str() {
        // The workspace exceeded its own limit; evictions under pressure of others are the platform's fault.
        "Evicted" if texts::is_over_disk_limit(&pod.message) => Fault::User,
        "DeadlineExceeded" => Fault::Configuration,
        _ => Fault::Platform,
    };
    Failure::new(fault, format!("{}: {}", pod.reason, pod.message))
}

fn of_container(case: &Case<'_>, container: &ContainerFacts) -> Option<Failure> {
    let end = match &container.state {
        ContainerState::Terminated(end) => Some(end),
        _ => container.last_termination.as_ref(),
    };
    of_end(case, &container.name, end?)
}

fn of_end(case: &Case<'_>, name: &str, end: &Termination) -> Option<Failure> {
    let deleting = case.is_deleting();
    if end.reason == "OOMKilled" && !deleting {
        let what = format!("container {name} ran out of memory (OOMKilled, exit code {})", end.exit_code);
        return Some(Failure::new(Fault::User, with_detail(&what, &last_words(&end.message))));
    }
    if end.exit_code != 0 && !end.message.is_empty() {
        let silent = case.is_headless() && end.message.starts_with(SILENT_TASK_FAILURE);
        let is_healthy = matches!(case.observed.node, NodeObservation::Present { tainted: false, .. });
        let spared = is_unseen_end(end) && is_healthy;
        let fault = if is_unseen_end(end) { Fault::Platform } else { Fault::User };
        return (!silent && !spared).then(|| Failure::new(fault, last_words(&end.message)));
    }
    if deleting {
        return None;
    }
    match end.reason.as_str() {
        "Error" if end.exit_code == KILLED => None,
        "Error" => {
            let text = format!("container {name} ran with an error: exit code {}", end.exit_code);
            Some(Failure::new(Fault::User, text))
        }
        "Completed" if case.is_headless() => None,
        "Completed" => {
            let text = format!("container {name} completed; a workspace's container is not supposed to end");
            Some(Failure::new(Fault::User, text))
        }
        reason => {
            let text =
                format!("container {name} terminated for an unknown reason: ({reason}) {}", end.message);
            Some(Failure::new(Fault::Platform, text))
        }
    }
}

/// A pod that failed before its container was started: an init container failed.
fn of_early_end(case: &Case<'_>, pod: &PodFacts) -> Option<Failure> {
    let was_started = case.container().is_some_and(|container| {
        container.last_termination.is_some() || !matches!(container.state, ContainerState::Waiting { .. })
    });
    if pod.phase != PodPhase::Failed || pod.deleting_since.is_some() || was_started {
        return None;
    }
    let (name, end) = pod.init_containers.iter().find_map(|init| match &init.state {
        ContainerState::Terminated(end) if end.exit_code != 0 => Some((&init.name, end)),
        _ => None,
    })?;
    let what = format!("init container {name} failed ({}, exit code {})", end.reason, end.exit_code);
    Some(Failure::new(Fault::Platform, with_detail(&what, &last_words(&end.message))))
}

/// The container or pod of a regular workspace ended, for none of the reasons above.
fn of_silent_end(case: &Case<'_>) -> Option<Failure> {
    if case.is_headless() || case.pod_state() != PodState::Ended {
        return None;
    }
    let end = case.container().and_then(|container| match &container.state {
        ContainerState::Terminated(end) => Some(end),
        _ => None,
    });
    // The node may still report how the container ended; a timeout bounds the wait.
    if end.is_some_and(is_unseen_end) {
        return None;
    }
    let detail = end.map(|end| format!(" (exit code {})", end.exit_code)).unwrap_or_default();
    Some(Failure::new(Fault::Platform, format!("the workspace's pod ended unexpectedly{detail}")))
}

/// Whether the kubelet lost track of the container.
fn is_unseen_end(end: &Termination) -> bool {
    end.exit_code == KILLED && end.reason == "ContainerStatusUnknown"
}

/// Message of the last JSON line of a log that has one, or the whole log.
fn last_words(log: &str) -> String {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        message: String,
        #[serde(default)]
        error: String,
    }
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line.trim()).ok());
    match lines.find(|line| !line.message.is_empty()) {
        Some(Line { message, error }) => with_detail(&message, &error),
        None => log.to_owned(),
    }
}
