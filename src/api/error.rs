//! The one place where errors become status codes.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use crate::domain::names::{ClusterName, WorkspaceId};
use crate::domain::placement::Rejection;
use crate::federation::Error;

/// Domain of the reasons in error details.
const DOMAIN: &str = "spaceport.dev";
/// What a client waits before it repeats a call that met no leader.
const RETRY_LEADER: Duration = Duration::from_millis(500);

/// Workspaces named in the details of one refusal: they are sent in a header of bounded size.
const WORKSPACES_SHOWN: usize = 20;

/// The status that tells a client of an error.
pub fn status(error: &Error) -> Status {
    let mut details = ErrorDetails::new();
    let code = match error {
        Error::Invalid { field, rule } => {
            details.set_bad_request(vec![FieldViolation::new(*field, rule.clone())]);
            Code::InvalidArgument
        }
        Error::Spec(spec) => {
            details.set_bad_request(vec![FieldViolation::new(spec.field, spec.rule)]);
            Code::InvalidArgument
        }
        Error::NoWorkspace(_) | Error::NoDecision(_) | Error::NoCluster(_) | Error::NoDrain(_) => {
            Code::NotFound
        }
        Error::WorkspaceExists { .. } | Error::MetaTaken { .. } | Error::SameCluster { .. } => {
            Code::AlreadyExists
        }
        Error::Maintenance { place, verdicts } => {
            let here = PreconditionViolation::new("MAINTENANCE", place.clone(), "is under maintenance");
            let others = verdicts.iter().map(verdict);
            details.set_precondition_failure(std::iter::once(here).chain(others).collect::<Vec<_>>());
            Code::FailedPrecondition
        }
        Error::Unplaceable { verdicts, .. } => {
            details.set_precondition_failure(verdicts.iter().map(verdict).collect::<Vec<_>>());
            if is_passing(verdicts) {
                details.set_retry_info(Some(RETRY_LEADER));
                Code::Unavailable
            } else if is_full(verdicts) {
                Code::ResourceExhausted
            } else {
                Code::FailedPrecondition
            }
        }
        Error::NoRoom { without, .. } => {
            let ids =
                without.iter().map(|(id, why)| PreconditionViolation::new("WORKSPACE", id.to_string(), why));
            details.set_precondition_failure(ids.take(WORKSPACES_SHOWN).collect::<Vec<_>>());
            Code::FailedPrecondition
        }
        Error::Precondition { .. }
        | Error::Unusable { .. }
        | Error::DrainStage { .. }
        | Error::StillRegistered(_) => Code::FailedPrecondition,
        Error::Unread { unread, .. } if unread.is_passing() => {
            details.set_retry_info(Some(RETRY_LEADER));
            Code::Unavailable
        }
        Error::Unread { unread, .. } => {
            let told =
                PreconditionViolation::new("SECRET", unread.reference.to_string(), unread.problem.clone());
            details.set_precondition_failure(vec![told]);
            Code::FailedPrecondition
        }
        Error::NoBuilder { verdicts } => {
            details.set_precondition_failure(verdicts.iter().map(verdict).collect::<Vec<_>>());
            Code::FailedPrecondition
        }
        Error::Unfit { checks, .. } => {
            let violations = checks.iter().filter(|check| check.is_failed()).map(|check| {
                let told = format!("{}; {}", check.detail, check.remedy);
                PreconditionViolation::new("CHECK", check.name, told.trim_end_matches("; "))
            });
            details.set_precondition_failure(violations.collect::<Vec<_>>());
            Code::FailedPrecondition
        }
        Error::NotEmpty { workspaces, .. } => {
            details.set_precondition_failure(each(workspaces, "is still placed there"));
            Code::FailedPrecondition
        }
        Error::NameInUse { workspaces, .. } => {
            details.set_precondition_failure(each(workspaces, "is recorded under the name"));
            Code::FailedPrecondition
        }
        Error::NotLeader | Error::NoNamespace { .. } | Error::Undecided { .. } | Error::NoLog { .. } => {
            details.set_retry_info(Some(RETRY_LEADER));
            Code::Unavailable
        }
        // As existing clients know it: another call may fare better, and it is no state of the workspace.
        Error::SnapshotFailed { .. } => Code::Internal,
        Error::Contended { .. } | Error::Changed { .. } => Code::Aborted,
        Error::Deadline { .. } => Code::DeadlineExceeded,
        Error::Cluster(error) => cluster(error, &mut details),
        Error::Store(error) => store(error, &mut details),
    };
    if details.error_info().is_none() {
        details.set_error_info(reason(error), DOMAIN, std::collections::HashMap::new());
    }
    Status::with_error_details(code, error.to_string(), details)
}

/// Workspaces with the same words.
fn each(workspaces: &[WorkspaceId], words: &str) -> Vec<PreconditionViolation> {
    let shown = workspaces.iter().take(WORKSPACES_SHOWN);
    shown.map(|id| PreconditionViolation::new("WORKSPACE", id.to_string(), words)).collect()
}

/// Refuses a call that another moment, or another replica, will take.
pub(super) fn unavailable(message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(RETRY_LEADER));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// Whether a cluster is not known well enough yet: the same call may fare better in a moment.
fn is_passing(verdicts: &[(ClusterName, Rejection)]) -> bool {
    verdicts.iter().any(|(_, rejection)| rejection.is_passing())
}

/// Whether room is all that is missing somewhere: a later call may find some.
fn is_full(verdicts: &[(ClusterName, Rejection)]) -> bool {
    verdicts.iter().any(|(_, rejection)| rejection.is_capacity())
}

fn verdict((cluster, rejection): &(ClusterName, impl std::fmt::Display)) -> PreconditionViolation {
    PreconditionViolation::new("CLUSTER", cluster.to_string(), rejection.to_string())
}

fn cluster(error: &crate::cluster::Error, details: &mut ErrorDetails) -> Code {
    use crate::cluster::Error as Cluster;
    match error {
        Cluster::Kubeconfig { field, rule, .. } => {
            details.set_bad_request(vec![FieldViolation::new(format!("kubeconfig.{field}"), rule.clone())]);
            Code::InvalidArgument
        }
        Cluster::Refused { .. } => Code::FailedPrecondition,
        Cluster::Unsent { .. }
        | Cluster::Ambiguous { .. }
        | Cluster::NotLeader { .. }
        | Cluster::Fenced { .. } => {
            details.set_retry_info(Some(RETRY_LEADER));
            Code::Unavailable
        }
    }
}

fn store(error: &crate::store::Error, details: &mut ErrorDetails) -> Code {
    use crate::store::Error as Store;
    match error {
        Store::ClusterExists { .. } | Store::AddressInUse { .. } => Code::AlreadyExists,
        Store::ClusterNotFound { .. } => Code::NotFound,
        Store::Address { .. } => Code::InvalidArgument,
        Store::Conflict { .. } => Code::Aborted,
        Store::Unavailable { .. }
        | Store::Ambiguous { .. }
        | Store::Refused { .. }
        | Store::NotLeader { .. } => {
            details.set_retry_info(Some(RETRY_LEADER));
            Code::Unavailable
        }
        Store::Options { .. }
        | Store::UnknownVersion { .. }
        | Store::Malformed { .. }
        | Store::Seal { .. } => Code::Internal,
    }
}

/// A bounded category for programs; the message is for people.
fn reason(error: &Error) -> &'static str {
    match error {
        Error::Invalid { .. } | Error::Spec(_) => "INVALID",
        Error::NoWorkspace(_) => "NO_WORKSPACE",
        Error::NoDecision(_) => "NO_DECISION",
        Error::NoCluster(_) => "NO_CLUSTER",
        Error::WorkspaceExists { .. } => "WORKSPACE_EXISTS",
        Error::MetaTaken { .. } => "META_ID_TAKEN",
        Error::Maintenance { .. } => "MAINTENANCE",
        Error::Unplaceable { verdicts, .. } if is_passing(verdicts) => "CLUSTERS_NOT_KNOWN",
        Error::Unplaceable { verdicts, .. } if is_full(verdicts) => "NO_CAPACITY",
        Error::Unplaceable { .. } => "UNPLACEABLE",
        Error::NoBuilder { .. } => "NO_IMAGE_BUILDER",
        Error::Precondition { .. } => "PRECONDITION",
        Error::SnapshotFailed { .. } => "SNAPSHOT_FAILED",
        Error::NoLog { .. } => "NO_LOG",
        Error::NoRoom { .. } => "NO_ROOM",
        Error::NoDrain(_) => "NO_DRAIN",
        Error::DrainStage { .. } => "DRAIN_STAGE",
        Error::NotEmpty { .. } => "CLUSTER_NOT_EMPTY",
        Error::NameInUse { .. } => "NAME_IN_USE",
        Error::StillRegistered(_) => "STILL_REGISTERED",
        Error::NotLeader => "NOT_LEADER",
        Error::NoNamespace { .. } => "NO_NAMESPACE",
        Error::Unusable { .. } => "CLUSTER_UNUSABLE",
        Error::Unread { .. } => "SECRET_UNREAD",
        Error::Unfit { .. } => "CLUSTER_UNFIT",
        Error::Changed { .. } => "CHANGED",
        Error::SameCluster { .. } => "SAME_CLUSTER",
        Error::Undecided { .. } => "UNDECIDED",
        Error::Contended { .. } => "CONTENDED",
        Error::Deadline { .. } => "DEADLINE",
        Error::Cluster(_) => "CLUSTER",
        Error::Store(_) => "STORE",
    }
}
