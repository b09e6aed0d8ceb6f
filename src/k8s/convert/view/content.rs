//! What a node agent reported about the content of a workspace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::resources::WorkspaceStatus;
use crate::resources::conditions::{self, reason};
use domain::workspace::{ContentReport, ContentReports, Phase};

/// All reports; nothing where there is none.
pub(super) fn reports(status: &WorkspaceStatus) -> Option<Box<ContentReports>> {
    let ready = status.condition(conditions::CONTENT_READY);
    let is_over =
        |ready: &&Condition| ready.status == "True" || ready.reason == reason::INITIALIZATION_FAILURE;
    let is_true = |kind| status.condition(kind).filter(|condition| condition.status == "True");
    let failed = is_true(conditions::BACKUP_FAILURE).map(|condition| report(condition, false));
    let reports = ContentReports {
        initialization: ready.filter(is_over).map(|ready| report(ready, ready.status == "True")),
        backup: failed.or_else(|| Some(report(is_true(conditions::BACKUP_COMPLETE)?, true))),
        progress: progress(status).map(|condition| report(condition, true)),
    };
    (reports != ContentReports::default()).then(|| Box::new(reports))
}

/// What an operation does that has not ended. An agent that was killed leaves its last word, so an end counts more.
pub(super) fn progress(status: &WorkspaceStatus) -> Option<&Condition> {
    let said = status.condition(conditions::CONTENT_PROGRESS);
    let said = said.filter(|said| said.status == "True" && !said.message.is_empty())?;
    let is_ready = status.condition(conditions::CONTENT_READY).is_some();
    let ends = [conditions::BACKUP_COMPLETE, conditions::BACKUP_FAILURE, conditions::STATE_WIPED];
    let has_ended = ends.into_iter().any(|kind| status.is_true(kind));
    let goes_on = match status.phase {
        Phase::Creating | Phase::Initializing => !is_ready,
        Phase::Stopping | Phase::Stopped => !has_ended,
        _ => false,
    };
    goes_on.then_some(said)
}

fn report(condition: &Condition, succeeded: bool) -> ContentReport {
    ContentReport { succeeded, at: condition.last_transition_time.0, message: condition.message.clone() }
}
