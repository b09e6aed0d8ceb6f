//! The status message for people: one sentence on why a workspace is in its phase.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::content;
use crate::resources::conditions::{self, reason};
use crate::resources::{WorkspaceSpec, WorkspaceStatus, names};
use domain::workspace::{Kind, Phase};

/// What went wrong comes first, then what ended it, then what it waits for. A node that does not answer is said instead of
/// that, and of an end, who holds what is left.
pub(super) fn message(spec: &WorkspaceSpec, status: &WorkspaceStatus, meta: &ObjectMeta) -> String {
    let message = without_progress(spec, status, meta);
    // First, because a wait shows the beginning of a message.
    match content::progress(status).filter(|_| wrong(status).is_none()) {
        Some(progress) => followed_by(&capitalized(&progress.message), &message),
        None => message,
    }
}

fn without_progress(spec: &WorkspaceSpec, status: &WorkspaceStatus, meta: &ObjectMeta) -> String {
    let why = wrong(status)
        .or_else(|| ended(spec, status, meta.deletion_timestamp.is_some()))
        .or_else(|| hindered(status))
        .or_else(|| full(status));
    if let Some(held) = held(status, meta).or_else(|| refused(status)) {
        return followed_by(&why.unwrap_or_else(|| waits_for(spec, status)), &held);
    }
    let node = lost_sight(status).filter(|_| status.phase != Phase::Stopped);
    match (why, node) {
        (Some(why), Some(node)) => followed_by(&why, &node),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => waits_for(spec, status),
    }
}

fn followed_by(text: &str, sentence: &str) -> String {
    let stop = if text.ends_with(['.', '!', '?', ')']) { "" } else { "." };
    format!("{text}{stop} {sentence}")
}

/// Its node is not well, so what is known of its pod was true before.
fn lost_sight(status: &WorkspaceStatus) -> Option<String> {
    let node = status.condition(conditions::NODE_NOT_READY).filter(|node| node.status == "True")?;
    let text = or(node.message.clone(), "node is not ready");
    Some(match node.reason.as_str() {
        reason::UNREACHABLE => format!("Its {text}: nobody knows how its pod is."),
        _ => format!("Its {text}."),
    })
}

/// What a user can do about a full storage.
fn full(status: &WorkspaceStatus) -> Option<String> {
    let text = text(status, conditions::STORAGE_FULL, "True").filter(|_| status.phase == Phase::Running)?;
    Some(format!("The storage is full: {}.", or(text, "delete files")))
}

/// The write that the cluster refuses, in a sentence.
fn refused(status: &WorkspaceStatus) -> Option<String> {
    let text = text(status, conditions::WRITE_REFUSED, "True").filter(|text| !text.is_empty())?;
    Some(format!("{}; it is retried.", capitalized(&text)))
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// What is done with and still there, and by whose finalizers or by which refusal, in sentences.
pub(super) fn held(status: &WorkspaceStatus, meta: &ObjectMeta) -> Option<String> {
    let pod = text(status, conditions::POD_HELD, "True").filter(|text| !text.is_empty());
    let pod = pod.map(|text| format!("{}.", capitalized(&text)));
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    let is_left = status.phase == Phase::Stopped
        && meta.deletion_timestamp.is_some()
        && !finalizers.iter().any(|one| one == names::FINALIZER);
    let resource = names::listed(finalizers).filter(|_| is_left);
    let resource = resource.map(|held| format!("Its resource is held by {held}."));
    let refused = refused(status).filter(|_| status.phase == Phase::Stopped);
    let held: Vec<String> = refused.into_iter().chain(pod).chain(resource).collect();
    (!held.is_empty()).then(|| held.join(" "))
}

fn text(status: &WorkspaceStatus, kind: &str, value: &str) -> Option<String> {
    let condition = status.condition(kind).filter(|condition| condition.status == value)?;
    Some(condition.message.clone())
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

fn wrong(status: &WorkspaceStatus) -> Option<String> {
    if let Some(text) = text(status, conditions::POD_REJECTED, "True") {
        return Some(format!("The node refused the pod: {}", or(text, "it gave no reason")));
    }
    if let Some(text) = text(status, conditions::FAILED, "True") {
        return Some(format!("Failed: {}", or(text, "for an unknown reason")));
    }
    if let Some(text) = text(status, conditions::BACKUP_FAILURE, "True") {
        return Some(format!("The backup failed: {}", or(text, "for an unknown reason")));
    }
    let initialised = status.condition(conditions::CONTENT_READY)?;
    let failed = initialised.status == "False" && initialised.reason == reason::INITIALIZATION_FAILURE;
    failed.then(|| {
        let text = or(initialised.message.clone(), "for an unknown reason");
        format!("The content could not be initialised: {text}")
    })
}

fn ended(spec: &WorkspaceSpec, status: &WorkspaceStatus, deleting: bool) -> Option<String> {
    // While the cluster refuses a write, nothing goes on.
    let is_over = status.phase == Phase::Stopped || status.is_true(conditions::WRITE_REFUSED);
    let tail = if is_over {
        "."
    } else if backs_up(status) {
        "; its content is being backed up."
    } else {
        "; it is shutting down."
    };
    if let Some(text) = text(status, conditions::TIMEOUT, "True") {
        return Some(format!("Timed out: {}{tail}", or(text, "a limit was reached")));
    }
    let why = if status.is_true(conditions::ABORTED) {
        "Stopped on request, without a backup"
    } else if status.is_true(conditions::STOPPED_BY_REQUEST) {
        "Stopped on request"
    } else if status.is_true(conditions::NODE_DISAPPEARED) {
        "Its node disappeared"
    } else if deleting {
        "Its resource was deleted"
    } else if spec.type_ == Kind::Regular && matches!(status.phase, Phase::Stopping | Phase::Stopped) {
        // Nothing else ends a workspace without a condition that says so; a task ends by itself.
        "Its pod was deleted by somebody else"
    } else {
        return None;
    };
    Some(format!("{why}{tail}"))
}

/// Whether a backup is to come: content is ready and none is done, failed or unwanted.
fn backs_up(status: &WorkspaceStatus) -> bool {
    let over = [conditions::BACKUP_COMPLETE, conditions::BACKUP_FAILURE, conditions::ABORTED];
    status.is_true(conditions::CONTENT_READY) && !over.into_iter().any(|kind| status.is_true(kind))
}

/// What keeps its container from starting, but may not for ever.
fn hindered(status: &WorkspaceStatus) -> Option<String> {
    let starting = matches!(status.phase, Phase::Unknown | Phase::Pending | Phase::Creating);
    let container = status.condition(conditions::WORKSPACE_CONTAINER_RUNNING);
    let waiting = container.filter(|container| starting && container.status == "False")?;
    let text = or(waiting.message.clone(), "it is not known why");
    match waiting.reason.as_str() {
        reason::IMAGE_PULL_FAILING => Some(format!("Its image cannot be pulled yet: {text}")),
        reason::UNSCHEDULABLE => Some(format!("No node takes its pod yet: {text}")),
        reason::POD_NOT_CREATED => Some(format!("The cluster does not take its pod yet: {text}")),
        reason::CONTAINER_NOT_STARTED => Some(format!("Its container cannot be started yet: {text}")),
        _ => None,
    }
}

fn waits_for(spec: &WorkspaceSpec, status: &WorkspaceStatus) -> String {
    let text = match status.phase {
        Phase::Unknown | Phase::Pending if status.pod_starts == 0 => "Waits for its pod to be made.",
        Phase::Unknown => "The state of its pod is not known.",
        Phase::Pending => "Waits for a node with available capacity.",
        Phase::Imagebuild => "Waits for its image.",
        Phase::Creating => "Its node pulls the images and starts the container.",
        Phase::Initializing if status.is_true(conditions::CONTENT_READY) => "Waits for the IDE to answer.",
        Phase::Initializing => "Content is being initialized.",
        Phase::Running if spec.type_ == Kind::Regular => "Ready.",
        Phase::Running => "The task runs.",
        Phase::Stopping if status.is_true(conditions::WRITE_REFUSED) => "Is to be stopped.",
        Phase::Stopping if backs_up(status) => "Its content is being backed up.",
        Phase::Stopping => "Shutting down.",
        Phase::Stopped => "Ended.",
    };
    text.to_owned()
}
