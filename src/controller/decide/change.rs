//! The status update of a reconcile: a diff of two statuses, as a merge patch.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Map, Value, json};

use domain::workspace::Phase;
use k8s::resources::{OwnerToken, Runtime, WorkspaceStatus};

/// The fields of a status that change. It has only fields that the controller owns, so that no other writer's field is
/// touched. A merge patch replaces the whole list of conditions, so it is written only for the observed resource version.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(clippy::option_option, reason = "as in a merge patch: absent, null, or a value")]
pub struct StatusChange {
    /// `phase`.
    pub phase: Option<Phase>,
    /// `conditions`, all of them.
    pub conditions: Option<Vec<Condition>>,
    /// `url`.
    pub url: Option<String>,
    /// `ownerToken`.
    pub owner_token: Option<OwnerToken>,
    /// `podStarts`.
    pub pod_starts: Option<i32>,
    /// `podRecreated`.
    pub pod_recreated: Option<i32>,
    /// `podDeletionTime`; the inner `None` removes it.
    pub pod_deletion_time: Option<Option<Timestamp>>,
    /// `podStoppingTime`; the inner `None` removes it.
    pub pod_stopping_time: Option<Option<Timestamp>>,
    /// `runtime`; the inner `None` removes it.
    pub runtime: Option<Option<Box<Runtime>>>,
}

impl StatusChange {
    /// The difference between two statuses; `old` is `None` before the first write.
    pub(super) fn between(old: Option<&WorkspaceStatus>, new: WorkspaceStatus) -> Self {
        let pod_starts = new.pod_starts;
        let mut change = Self::difference(old.unwrap_or(&WorkspaceStatus::default()), new);
        if old.is_none() && !change.is_empty() {
            // The schema requires it from the first write on.
            change.pod_starts = Some(pod_starts);
        }
        change
    }

    fn difference(old: &WorkspaceStatus, new: WorkspaceStatus) -> Self {
        fn changed<T: PartialEq>(old: &T, new: T) -> Option<T> {
            (*old != new).then_some(new)
        }
        let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
        Self {
            phase: changed(&old.phase, new.phase),
            conditions: changed(&old.conditions, new.conditions),
            url: changed(&old.url, new.url).flatten(),
            owner_token: changed(&old.owner_token, new.owner_token).flatten(),
            pod_starts: changed(&old.pod_starts, new.pod_starts),
            pod_recreated: changed(&old.pod_recreated, new.pod_recreated).flatten(),
            pod_deletion_time: changed(&time(&old.pod_deletion_time), time(&new.pod_deletion_time)),
            pod_stopping_time: changed(&time(&old.pod_stopping_time), time(&new.pod_stopping_time)),
            runtime: changed(&old.runtime, new.runtime),
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether only the phase Stopped and the times of the end change.
    pub(super) fn says_only_the_end(&self) -> bool {
        let end = Self {
            phase: self.phase.filter(|phase| *phase == Phase::Stopped),
            pod_deletion_time: self.pod_deletion_time,
            pod_stopping_time: self.pod_stopping_time,
            ..Self::default()
        };
        *self == end
    }

    /// JSON merge patch of the whole object.
    pub fn to_patch(&self) -> Value {
        let mut status = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                status.insert(key.to_owned(), value);
            }
        };
        put("phase", self.phase.map(|phase| json!(phase)));
        put("conditions", self.conditions.as_ref().map(|list| json!(list)));
        put("url", self.url.as_ref().map(|url| json!(url)));
        put("ownerToken", self.owner_token.as_ref().map(|token| json!(token)));
        put("podStarts", self.pod_starts.map(|count| json!(count)));
        put("podRecreated", self.pod_recreated.map(|count| json!(count)));
        put("podDeletionTime", self.pod_deletion_time.map(|time| json!(time)));
        put("podStoppingTime", self.pod_stopping_time.map(|time| json!(time)));
        put("runtime", self.runtime.as_ref().map(|runtime| json!(runtime)));
        json!({ "status": status })
    }

    /// The status after the change.
    #[cfg(test)]
    pub fn apply_to(&self, status: &mut WorkspaceStatus) {
        fn put<T: Clone>(field: &mut T, change: Option<&T>) {
            if let Some(value) = change {
                field.clone_from(value);
            }
        }
        put(&mut status.phase, self.phase.as_ref());
        put(&mut status.conditions, self.conditions.as_ref());
        put(&mut status.pod_starts, self.pod_starts.as_ref());
        put(&mut status.runtime, self.runtime.as_ref());
        if self.url.is_some() {
            status.url.clone_from(&self.url);
        }
        if self.owner_token.is_some() {
            status.owner_token.clone_from(&self.owner_token);
        }
        if self.pod_recreated.is_some() {
            status.pod_recreated = self.pod_recreated;
        }
        if let Some(time) = self.pod_deletion_time {
            status.pod_deletion_time = time.map(Time);
        }
        if let Some(time) = self.pod_stopping_time {
            status.pod_stopping_time = time.map(Time);
        }
    }
}
