//! Converts requests to domain types, or rejects them with every field that breaks a rule. Nothing else validates.

mod content;
mod extract;
mod git;
mod initializer;
mod problems;
mod session;
mod start;
mod stored;
#[cfg(test)]
mod tests;
mod text;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use tonic::Status;

use super::caller::Caller;
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::page_token::List;
use domain::pod::LogOptions;
use domain::workspace::{Access, Port, StopPolicy, TimeoutChange};
use federation::view::events::Filter;
use federation::view::index::From;
use proto::spaceport::v1;
use proto::wsman;

pub use problems::Problems;
pub use session::{PIECE_MAX, exec, forward, size};
pub(super) use start::{kind, placement};
pub use start::{start, without_effect};
pub use stored::{BackupsOf, delete_blobs, list_backups, stored_instance, stored_workspace};

/// A workspace id given as `id`.
pub fn id(text: &str) -> Result<WorkspaceId, Status> {
    named("id", text)
}

/// A field that must be a name of type `T`.
pub fn named<T>(field: &str, text: &str) -> Result<T, Status>
where
    T: FromStr,
    T::Err: Display,
{
    let mut problems = Problems::default();
    let value = problems.parse(field, text);
    problems.finish(value)
}

pub fn stop_policy(number: i32) -> Result<StopPolicy, Status> {
    let mut problems = Problems::default();
    let policy = match wsman::StopWorkspacePolicy::try_from(number) {
        Ok(wsman::StopWorkspacePolicy::Normally) => Some(StopPolicy::Normally),
        Ok(wsman::StopWorkspacePolicy::Immediately) => Some(StopPolicy::Immediately),
        Ok(wsman::StopWorkspacePolicy::Abort) => Some(StopPolicy::Abort),
        Err(_) => {
            problems.add("policy", "must be NORMALLY, IMMEDIATELY or ABORT");
            None
        }
    };
    problems.finish(policy)
}

/// Cluster, namespace (if named) and end of a `SetMaintenance` call.
pub fn maintenance(
    request: &v1::SetMaintenanceRequest,
) -> Result<(ClusterName, Option<Namespace>, Option<Timestamp>), Status> {
    let mut problems = Problems::default();
    let name = problems.parse("name", &request.name);
    let namespace = problems.optional("namespace", &request.namespace);
    let until = request.until.as_ref().and_then(|until| {
        let time = Timestamp::new(until.seconds, until.nanos);
        time.map_err(|error| problems.add("until", error)).ok()
    });
    problems.finish(name.map(|name| (name, namespace, until)))
}

/// What a client asks to see, restricted to what it may see.
pub fn filter(filter: Option<wsman::MetadataFilter>, caller: &Caller) -> Filter {
    let filter = filter.unwrap_or_default();
    Filter {
        owner: filter.owner,
        meta: filter.meta_id,
        annotations: filter.annotations,
        owners: caller.owners(),
    }
}

/// Identity of a list, from which its page tokens are derived.
pub fn list(installation: impl Display, filter: Option<&wsman::MetadataFilter>) -> List {
    let asked = filter.map(|filter| (&filter.owner, &filter.meta_id, &filter.annotations));
    let is_empty = filter.is_none_or(|filter| *filter == wsman::MetadataFilter::default());
    List::new(&installation.to_string(), asked.filter(|_| !is_empty))
}

/// The workspace after which a page begins; empty for the first page.
pub fn page<'a>(list: &List, token: &'a str) -> Result<&'a str, Status> {
    if token.is_empty() {
        return Ok(token);
    }
    let mut problems = Problems::default();
    let after = list.after(token);
    if after.is_none() {
        let rule = "must be empty, or next_page_token of an answer to the same must_match";
        problems.add("page_token", rule);
    }
    problems.finish(after)
}

/// Where a subscription begins; a resume token takes precedence over `replay`.
pub fn subscription_start(request: &wsman::SubscribeRequest) -> From {
    if !request.resume_token.is_empty() {
        From::Token(request.resume_token.clone())
    } else if request.replay {
        From::Replay
    } else {
        From::Now
    }
}

/// Workspace and change of a `SetTimeout` call.
pub fn timeout(request: &wsman::SetTimeoutRequest) -> Result<(WorkspaceId, TimeoutChange), Status> {
    let mut problems = Problems::default();
    let id = problems.parse("id", &request.id);
    if request.duration.is_empty() {
        problems.add("duration", "is required");
    }
    let duration = problems.duration("duration", &request.duration);
    let change = match wsman::TimeoutType::try_from(request.r#type) {
        Ok(wsman::TimeoutType::WorkspaceTimeout) => duration.map(TimeoutChange::Inactivity),
        Ok(wsman::TimeoutType::ClosedTimeout) => duration.map(TimeoutChange::Closed),
        Err(_) => {
            problems.add("type", "must be WORKSPACE_TIMEOUT or CLOSED_TIMEOUT");
            None
        }
    };
    problems.finish(id.zip(change))
}

/// Workspace and port of a `ControlPort` call.
pub fn control_port(request: &wsman::ControlPortRequest) -> Result<(WorkspaceId, Port), Status> {
    let mut problems = Problems::default();
    let id = problems.parse("id", &request.id);
    let port = if let Some(spec) = &request.spec {
        start::port(&mut problems, "spec", spec)
    } else {
        problems.add("spec", "is required");
        None
    };
    problems.finish(id.zip(port))
}

/// Workspace and level of a `ControlAdmission` call.
pub fn control_admission(request: &wsman::ControlAdmissionRequest) -> Result<(WorkspaceId, Access), Status> {
    let mut problems = Problems::default();
    let id = problems.parse("id", &request.id);
    let level = start::admission(&mut problems, "level", request.level);
    problems.finish(id.zip(level))
}

/// Workspace and keys of an `UpdateSSHKey` call.
pub fn ssh_keys(request: wsman::UpdateSshKeyRequest) -> Result<(WorkspaceId, Vec<String>), Status> {
    let mut problems = Problems::default();
    let id = problems.parse("id", &request.id);
    if request.keys.is_empty() {
        problems.add("keys", "is required");
    }
    text::ssh_keys(&mut problems, "keys", &request.keys);
    problems.finish(id.map(|id| (id, request.keys)))
}

/// Workspace and options of a `Logs` call.
pub fn logs(request: &v1::LogsRequest) -> Result<(WorkspaceId, LogOptions), Status> {
    let v1::LogsRequest { id, follow, tail, since, previous, resume_token } = request;
    let mut problems = Problems::default();
    let id = problems.parse("id", id);
    let since = since.as_ref().and_then(|since| {
        let given = Duration::try_from(*since).ok().filter(|given| !given.is_zero());
        if given.is_none() {
            problems.add("since", "must be more than zero");
        }
        given
    });
    let after = problems.optional("resume_token", resume_token);
    if after.is_some() && !follow {
        problems.add("resume_token", "is only for a log that is followed");
    }
    let options = LogOptions { follow: *follow, tail: *tail, since, previous: *previous, after };
    problems.finish(id.map(|id| (id, options)))
}
