//! Requests become domain types here, or an answer that names every field that breaks a rule. Nothing else validates.

mod initializer;
mod start;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::domain::duration::GoDuration;
use crate::domain::names::{ClusterName, Namespace, WorkspaceId};
use crate::domain::pod::LogOptions;
use crate::domain::workspace::{Access, Port, StopPolicy, TimeoutChange};
use crate::federation::events::Filter;
use crate::federation::index::From;
use crate::proto::spaceport::v1;
use crate::proto::wsman;

pub use start::start;
pub(super) use start::{kind, placement};

/// What is wrong with a request; every problem, not only the first.
#[derive(Debug, Default)]
pub struct Problems(Vec<FieldViolation>);

impl Problems {
    /// Notes that a field breaks a rule.
    pub fn add(&mut self, field: impl Into<String>, rule: impl Display) {
        self.0.push(FieldViolation::new(field, rule.to_string()));
    }

    /// Parses a field, or notes why it cannot be.
    pub fn parse<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        text.parse().map_err(|error: T::Err| self.add(field, error)).ok()
    }

    /// Like [`Self::parse`], for a field that may be empty.
    /// Parses a text that may be empty.
    pub fn optional<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        if text.is_empty() { None } else { self.parse(field, text) }
    }

    /// A Go duration of zero or more in whole milliseconds, which is what the resource can hold.
    fn duration(&mut self, field: &str, text: &str) -> Option<Duration> {
        let duration = self.optional::<GoDuration>(field, text)?;
        let Ok(duration) = duration.to_std() else {
            self.add(field, "must not be negative");
            return None;
        };
        if !duration.subsec_nanos().is_multiple_of(1_000_000) {
            self.add(field, "must be in whole milliseconds");
            return None;
        }
        Some(duration)
    }

    /// The value where there are no problems, else `INVALID_ARGUMENT` with all of them.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Status> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.into_status()),
        }
    }

    fn into_status(self) -> Status {
        let sentences: Vec<String> =
            self.0.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        let mut details = ErrorDetails::new();
        details.set_bad_request(self.0);
        Status::with_error_details(tonic::Code::InvalidArgument, sentences.join("; "), details)
    }
}

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

/// The policy of a stop.
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

/// The cluster of a `SetMaintenance` call, the namespace where one is named, and the end.
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

/// What a client asks to see.
pub fn filter(filter: Option<wsman::MetadataFilter>) -> Filter {
    let filter = filter.unwrap_or_default();
    Filter { owner: filter.owner, meta: filter.meta_id, annotations: filter.annotations }
}

/// Where a subscription begins; a token wins over `replay`.
pub fn subscription_start(request: &wsman::SubscribeRequest) -> From {
    if !request.resume_token.is_empty() {
        From::Token(request.resume_token.clone())
    } else if request.replay {
        From::Replay
    } else {
        From::Now
    }
}

/// The workspace whose timeout is set, and how.
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

/// The workspace and port of a `ControlPort` call.
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

/// The workspace and level of a `ControlAdmission` call.
pub fn control_admission(request: &wsman::ControlAdmissionRequest) -> Result<(WorkspaceId, Access), Status> {
    let mut problems = Problems::default();
    let id = problems.parse("id", &request.id);
    let level = start::admission(&mut problems, "level", request.level);
    problems.finish(id.zip(level))
}

/// The workspace and keys of an `UpdateSSHKey` call.
pub fn ssh_keys(request: wsman::UpdateSshKeyRequest) -> Result<(WorkspaceId, Vec<String>), Status> {
    let mut problems = Problems::default();
    let id = problems.parse("id", &request.id);
    if request.keys.is_empty() {
        problems.add("keys", "is required");
    }
    problems.finish(id.map(|id| (id, request.keys)))
}

/// The workspace whose log is read, and what of it.
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
