//! Maps errors to gRPC status codes; nothing else does.

use std::fmt::Display;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use super::error_text::{self, Violations};
use domain::check::Check;
use domain::names::{ClusterName, WorkspaceId};
use domain::placement::Rejection;
use federation::Error;
use federation::{ClusterError as Cluster, ContentError as Content, ContentFault, StoreError as Store};

/// Domain of the reasons in error details.
const DOMAIN: &str = "spaceport.dev";
/// Reason of a call that no service got.
const NOT_SERVED: &str = "NOT_SERVED";
/// Retry delay that a client gets when there is no leader.
const RETRY_LEADER: Duration = Duration::from_millis(500);
/// Retry delay that a client gets when the object store failed.
const RETRY_STORAGE: Duration = Duration::from_secs(2);

pub fn status(error: &Error) -> Status {
    let mut details = ErrorDetails::new();
    let code = match error {
        Error::Invalid { field, rule } => {
            details.set_bad_request(bad_request(field, rule));
            Code::InvalidArgument
        }
        Error::Spec(spec) => {
            details.set_bad_request(bad_request(spec.field, spec.rule));
            Code::InvalidArgument
        }
        Error::NoWorkspace(_)
        | Error::NoDecision(_)
        | Error::NoCluster(_)
        | Error::NoDrain(_)
        | Error::NoContent { .. } => Code::NotFound,
        Error::WorkspaceExists { .. }
        | Error::MetaTaken { .. }
        | Error::HostTaken { .. }
        | Error::FolderTaken { .. }
        | Error::SameCluster { .. }
        | Error::RegisteredOtherwise { .. } => Code::AlreadyExists,
        Error::Maintenance { place, verdicts } => {
            let here = error_text::text(place, 200);
            let here = PreconditionViolation::new("MAINTENANCE", here, "is under maintenance");
            let others = rejections(verdicts);
            details.set_precondition_failure(std::iter::once(here).chain(others).collect::<Vec<_>>());
            Code::FailedPrecondition
        }
        Error::Unplaceable { verdicts, .. } => {
            details.set_precondition_failure(rejections(verdicts));
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
            details.set_precondition_failure(listed("WORKSPACE", without.iter().map(|(id, why)| (id, why))));
            Code::FailedPrecondition
        }
        Error::Precondition { .. }
        | Error::Unusable { .. }
        | Error::DrainStage { .. }
        | Error::SecretsInUse
        | Error::NoStorage
        | Error::StillRegistered(_)
        | Error::RegisteredAs { .. } => Code::FailedPrecondition,
        Error::Unread { unread, .. } if unread.is_passing() => {
            details.set_retry_info(Some(RETRY_LEADER));
            Code::Unavailable
        }
        Error::Unread { unread, .. } => {
            details.set_precondition_failure(listed("SECRET", [(&unread.reference, &unread.problem)]));
            Code::FailedPrecondition
        }
        Error::NoBuilder { verdicts } => {
            details.set_precondition_failure(listed(
                "CLUSTER",
                verdicts.iter().map(|(cluster, why)| (cluster, why)),
            ));
            Code::FailedPrecondition
        }
        Error::Unfit { checks, .. } => {
            details.set_precondition_failure(unfit(checks));
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
        Error::NotLeader
        | Error::NoNamespace { .. }
        | Error::Undecided { .. }
        | Error::NoLog { .. }
        | Error::SessionEnded { .. } => {
            details.set_retry_info(Some(RETRY_LEADER));
            Code::Unavailable
        }
        // The code that existing clients expect: another call may succeed, and the workspace has not failed.
        Error::SnapshotFailed { .. } => Code::Internal,
        Error::Contended { .. } | Error::Changed { .. } => Code::Aborted,
        Error::Deadline { .. } | Error::SessionLimit { .. } => Code::DeadlineExceeded,
        Error::ContentInUse { .. } | Error::StorageBusy { .. } | Error::Content(_) => {
            stored(error, &mut details)
        }
        Error::Cluster(error) => cluster(error, &mut details),
        Error::Store(error) => store(error, &mut details),
    };
    if details.error_info().is_none() {
        details.set_error_info(reason(error), DOMAIN, facts(error));
    }
    Status::with_error_details(code, error_text::text(error, error_text::MESSAGE), details)
}

/// Metadata of the reason: of errors of the object store, who can mend them.
fn facts(error: &Error) -> std::collections::HashMap<String, String> {
    let Error::Content(error) = error else { return std::collections::HashMap::new() };
    let owner = match error.fault() {
        ContentFault::User => "user",
        ContentFault::Configuration => "configuration",
        ContentFault::Platform => "platform",
    };
    [("fault".to_owned(), owner.to_owned())].into()
}

/// What a cluster lacks.
fn unfit(checks: &[Check]) -> Vec<PreconditionViolation> {
    let failed = checks.iter().filter(|check| check.is_failed()).map(|check| {
        let reported = format!("{}; {}", check.detail, check.remedy);
        (check.name, reported.trim_end_matches("; ").to_owned())
    });
    listed("CHECK", failed)
}

/// Why each cluster was rejected by placement.
fn rejections(verdicts: &[(ClusterName, Rejection)]) -> Vec<PreconditionViolation> {
    match Rejection::unknown_pin(verdicts) {
        Some(wanted) => listed("CLUSTER", [(wanted, "is not registered")]),
        None => listed("CLUSTER", verdicts.iter().map(|(cluster, why)| (cluster, why))),
    }
}

/// At most as many violations of a kind as an error lists; its message has the total.
fn listed<S: Display, W: Display>(
    kind: &str,
    all: impl IntoIterator<Item = (S, W)>,
) -> Vec<PreconditionViolation> {
    let mut violations = Violations::default();
    all.into_iter().for_each(|(subject, why)| violations.add(subject, why));
    violations.into_listed().map(|(subject, why)| PreconditionViolation::new(kind, subject, why)).collect()
}

fn bad_request(field: &str, rule: &str) -> Vec<FieldViolation> {
    let mut violations = Violations::default();
    violations.add(field, rule);
    violations.into_listed().map(|(field, rule)| FieldViolation::new(field, rule)).collect()
}

/// The same description for each workspace.
fn each(workspaces: &[WorkspaceId], words: &str) -> Vec<PreconditionViolation> {
    listed("WORKSPACE", workspaces.iter().map(|id| (id, words)))
}

/// For a call that succeeds later, or at another replica.
pub(super) fn unavailable(message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(RETRY_LEADER));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// For a call that no service got, so that certainly nothing was changed. It succeeds later, or at another replica.
pub(super) fn not_served(message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(RETRY_LEADER));
    details.set_error_info(NOT_SERVED, DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(Code::Unavailable, format!("{message}; nothing was changed"), details)
}

/// Whether the state of some cluster is not known yet: the same call may succeed in a moment.
fn is_passing(verdicts: &[(ClusterName, Rejection)]) -> bool {
    verdicts.iter().any(|(_, rejection)| rejection.is_passing())
}

/// Whether some cluster lacks only available capacity: a later call may succeed.
fn is_full(verdicts: &[(ClusterName, Rejection)]) -> bool {
    verdicts.iter().any(|(_, rejection)| rejection.is_capacity())
}

fn cluster(error: &Cluster, details: &mut ErrorDetails) -> Code {
    match error {
        Cluster::Kubeconfig { field, rule, .. } => {
            details.set_bad_request(bad_request(&format!("kubeconfig.{field}"), rule));
            Code::InvalidArgument
        }
        Cluster::Refused { .. } | Cluster::TooLarge { .. } | Cluster::Disallowed { .. } => {
            Code::FailedPrecondition
        }
        Cluster::Unsent { .. }
        | Cluster::Queued { .. }
        | Cluster::Ambiguous { .. }
        | Cluster::NotLeader { .. }
        | Cluster::Fenced { .. } => {
            details.set_retry_info(Some(RETRY_LEADER));
            Code::Unavailable
        }
    }
}

/// Of stored content.
fn stored(error: &Error, details: &mut ErrorDetails) -> Code {
    match error {
        Error::ContentInUse { workspaces, begun } => {
            details.set_precondition_failure(each(workspaces, "is live"));
            if *begun { Code::Aborted } else { Code::FailedPrecondition }
        }
        Error::Content(error) => content(error, details),
        _ => {
            details.set_retry_info(Some(RETRY_LEADER));
            Code::ResourceExhausted
        }
    }
}

fn content(error: &Content, details: &mut ErrorDetails) -> Code {
    match error {
        Content::Name(_) => Code::InvalidArgument,
        Content::NotFound(_) => Code::NotFound,
        Content::Quota { .. } | Content::TooMany { .. } => Code::ResourceExhausted,
        Content::NotProven(_) | Content::Corrupted { .. } if !error.is_retryable() => Code::DataLoss,
        Content::Replaced(_) | Content::Exists(_) => Code::Aborted,
        Content::BadHead { .. } => Code::FailedPrecondition,
        _ if error.fault() == ContentFault::Configuration => Code::FailedPrecondition,
        Content::Rejected { .. } => Code::Internal,
        _ => {
            details.set_retry_info(Some(RETRY_STORAGE));
            Code::Unavailable
        }
    }
}

fn store(error: &Store, details: &mut ErrorDetails) -> Code {
    match error {
        Store::ClusterExists { .. } | Store::AddressInUse { .. } => Code::AlreadyExists,
        Store::ClusterNotFound { .. } => Code::NotFound,
        Store::Address { .. } => Code::InvalidArgument,
        Store::Refused { .. } if error.is_too_large() => Code::InvalidArgument,
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

/// Category for programs, from a closed set; the message is for people.
fn reason(error: &Error) -> &'static str {
    match error {
        Error::Invalid { .. } | Error::Spec(_) => "INVALID",
        Error::NoWorkspace(_) => "NO_WORKSPACE",
        Error::NoDecision(_) => "NO_DECISION",
        Error::NoCluster(_) => "NO_CLUSTER",
        Error::WorkspaceExists { .. } => "WORKSPACE_EXISTS",
        Error::MetaTaken { .. } => "META_ID_TAKEN",
        Error::HostTaken { .. } => "HOST_TAKEN",
        Error::FolderTaken { .. } => "FOLDER_TAKEN",
        Error::Maintenance { .. } => "MAINTENANCE",
        Error::Unplaceable { verdicts, .. } if is_passing(verdicts) => "CLUSTERS_NOT_KNOWN",
        Error::Unplaceable { verdicts, .. } if is_full(verdicts) => "NO_CAPACITY",
        Error::Unplaceable { .. } => "UNPLACEABLE",
        Error::NoBuilder { .. } => "NO_IMAGE_BUILDER",
        Error::Precondition { .. } => "PRECONDITION",
        Error::SnapshotFailed { .. } => "SNAPSHOT_FAILED",
        Error::NoLog { .. } => "NO_LOG",
        Error::SessionEnded { .. } => "SESSION_ENDED",
        Error::SessionLimit { .. } => "SESSION_LIMIT",
        Error::NoRoom { .. } => "NO_ROOM",
        Error::SecretsInUse => "SECRETS_IN_USE",
        Error::NoDrain(_) => "NO_DRAIN",
        Error::DrainStage { .. } => "DRAIN_STAGE",
        Error::NotEmpty { .. } => "CLUSTER_NOT_EMPTY",
        Error::NameInUse { .. } => "NAME_IN_USE",
        Error::StillRegistered(_) => "STILL_REGISTERED",
        Error::RegisteredAs { .. } => "REGISTERED_AS",
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
        Error::NoStorage => "NO_STORAGE",
        Error::NoContent { .. } | Error::Content(Content::NotFound(_)) => "NO_CONTENT",
        Error::ContentInUse { .. } => "CONTENT_IN_USE",
        Error::StorageBusy { .. } => "STORAGE_BUSY",
        Error::Content(Content::Quota { .. }) => "BLOB_QUOTA",
        Error::Content(_) => "STORAGE",
        Error::Cluster(_) => "CLUSTER",
        // `STORE` is what clients know from when only the store rejected a name.
        Error::RegisteredOtherwise { .. } | Error::Store(_) => "STORE",
    }
}
