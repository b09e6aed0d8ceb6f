//! Changes of a placed workspace: stop, activity, timeouts, ports, admission, keys.
//!
//! A pure function makes a merge patch from the current resource; it is written only if the resource is
//! unchanged, so that concurrent changes are never lost. A patch that changes nothing is not written.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::fleet::{Fleet, Place};
use crate::leadership::Leadership;
use crate::locks::Locks;
use crate::workspaces::orphans::Orphans;
use crate::workspaces::ownership::Ownership;
use crate::workspaces::records::Records;
use crate::{Error, Result};
use domain::acceptance::Change;
use domain::backoff::doubling;
use domain::duration::GoDuration;
use domain::names::WorkspaceId;
use domain::record::PlacementRecord;
use domain::workspace::{Access, Port, StopPolicy, TimeoutChange};
use k8s::convert::{self, budget};
use k8s::resources::Workspace;
use k8s::resources::conditions::{self, reason};
use member::apply::{Patched, Writer};
use store::Term;

/// For one change, conflicts included.
const CHANGE_WITHIN: Duration = crate::locks::PATIENCE;
/// Backoff after conflicts. It stays short: another writer that never rests lets one through now and then, and each try is
/// a chance.
const BACKOFF: ExponentialBuilder = doubling(Duration::from_millis(10), Duration::from_millis(160));

/// A change of a resource.
enum Patch {
    /// Of the spec, for a field of the call; the limit of what the resource may have then.
    Spec { field: &'static str, value: Value, limit: usize },
    /// Of the status.
    Status(Value),
}

impl Patch {
    /// Of the spec, by a list that a caller can make as long as it likes.
    fn growing(field: &'static str, value: Value) -> Self {
        Self::Spec { field, value, limit: budget::RESOURCE }
    }

    /// Of the spec, by a few bytes.
    fn small(field: &'static str, value: Value) -> Self {
        Self::Spec { field, value, limit: budget::LARGEST }
    }
}

impl Patch {
    async fn write(
        self,
        writer: &Writer,
        place: &Place,
        id: &WorkspaceId,
        workspace: &Workspace,
    ) -> Result<Patched<Workspace>> {
        let learn = |change, outcome: &member::Result<Patched<Workspace>>| {
            place.acceptance.changed_on_request(change, id.as_str(), outcome.as_ref());
        };
        let version = workspace.metadata.resource_version.as_deref();
        match self {
            Self::Spec { field, value, limit } => {
                let invalid = |rule: String| Error::Invalid { field: field.into(), rule };
                budget::of_change(workspace, &value, limit).map_err(|large| invalid(large.to_string()))?;
                let outcome = writer.patch_spec(id.as_str(), version, value).await;
                learn(Change::Object, &outcome);
                match outcome {
                    Err(error @ member::Error::TooLarge { .. }) => Err(invalid(error.to_string())),
                    outcome => Ok(outcome?),
                }
            }
            Self::Status(mut value) => {
                if workspace.status.is_none() {
                    // The schema requires it from the first write on, and this one may come before the controller's.
                    value["status"]["podStarts"] = json!(0);
                }
                // Only lists can lose what others wrote; a heartbeat need not fail because a phase changed.
                let version = version.filter(|_| value["status"].get("conditions").is_some());
                let outcome = writer.patch_status(id.as_str(), version, value).await;
                learn(Change::Status, &outcome);
                Ok(outcome?)
            }
        }
    }
}

/// Changes of placed workspaces.
pub struct Changes {
    leadership: Arc<Leadership>,
    locks: Arc<Locks>,
    records: Arc<Records>,
    fleet: Arc<Fleet>,
    ownership: Arc<Ownership>,
    orphans: Arc<Orphans>,
}

impl Changes {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        locks: Arc<Locks>,
        records: Arc<Records>,
        fleet: Arc<Fleet>,
        ownership: Arc<Ownership>,
        orphans: Arc<Orphans>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, locks, records, fleet, ownership, orphans })
    }

    /// Asks a workspace to stop. One that does not exist counts as stopped; one that runs without a record does not.
    pub async fn stop(&self, id: &WorkspaceId, policy: StopPolicy) -> Result<()> {
        let term = self.leadership.term()?;
        let _turn = self.locks.lock(id, CHANGE_WITHIN).await?;
        let live = self.records.get(id).filter(|(record, _)| record.is_live());
        let Some((record, version)) = live else { return self.orphans.refusal(id).map_or(Ok(()), Err) };
        self.fleet.refuse_under_maintenance(&record)?;
        match self.request_stop(&term, &record, policy).await {
            Err(Error::NoWorkspace(_)) => self.end_what_never_came(&term, record, version).await,
            outcome => outcome,
        }
    }

    /// Ends a start that was cut off, so that nothing continues it. Should its resource still come, it is stopped.
    async fn end_what_never_came(&self, term: &Term, record: PlacementRecord, version: i64) -> Result<()> {
        self.records.end(term, record, version).await
    }

    pub(crate) async fn request_stop(
        &self,
        term: &Term,
        record: &PlacementRecord,
        policy: StopPolicy,
    ) -> Result<()> {
        let now = Timestamp::now();
        self.change_at(term, record, |workspace| stop(workspace, policy, now).map(Patch::Status)).await
    }

    /// Notes that a workspace is in use.
    pub async fn mark_active(&self, id: &WorkspaceId, closed: bool, ignore_if_active: bool) -> Result<()> {
        let now = Timestamp::now();
        self.change(id, |workspace| mark_active(workspace, closed, ignore_if_active, now).map(Patch::Status))
            .await
    }

    /// Sets a timeout.
    pub async fn set_timeout(&self, id: &WorkspaceId, change: TimeoutChange) -> Result<()> {
        self.change(id, |_| Some(Patch::small("duration", timeout(change)))).await
    }

    /// Exposes a port or no longer does.
    pub async fn control_port(&self, id: &WorkspaceId, port: Port, expose: bool) -> Result<()> {
        let record = self.live(id)?;
        if expose
            && let Some(place) =
                self.fleet.get(&record.cluster).and_then(|one| one.place(&record.namespace).ok())
        {
            let url = place.settings.load().check_port(id.as_str(), record.meta.as_str(), port.port);
            url.map_err(|error| Error::Invalid { field: "spec.port".into(), rule: error.to_string() })?;
        }
        let patch = |workspace: &Workspace| ports(workspace, port, expose);
        self.change(id, |workspace| patch(workspace).map(|value| Patch::growing("spec.port", value))).await
    }

    /// Sets who may open a workspace.
    pub async fn control_admission(&self, id: &WorkspaceId, level: Access) -> Result<()> {
        let value = json!({ "spec": { "admission": { "level": level } } });
        self.change(id, |_| Some(Patch::small("level", value.clone()))).await
    }

    /// Replaces the SSH keys of a workspace.
    pub async fn update_ssh_keys(&self, id: &WorkspaceId, keys: Vec<String>) -> Result<()> {
        let value = json!({ "spec": { "sshPublicKeys": keys } });
        self.change(id, |_| Some(Patch::growing("keys", value.clone()))).await
    }

    /// The record of a workspace that may be changed.
    fn live(&self, id: &WorkspaceId) -> Result<PlacementRecord> {
        self.records.live(id).map_err(|error| self.orphans.refusal(id).unwrap_or(error))
    }

    async fn change(&self, id: &WorkspaceId, patch: impl Fn(&Workspace) -> Option<Patch>) -> Result<()> {
        let term = self.leadership.term()?;
        let record = self.live(id)?;
        self.change_at(&term, &record, patch).await
    }

    /// Patches the resource of a record; read from the cache first, and from the apiserver after a conflict.
    async fn change_at(
        &self,
        term: &Term,
        record: &PlacementRecord,
        patch: impl Fn(&Workspace) -> Option<Patch>,
    ) -> Result<()> {
        let (writer, place, _) = self.fleet.reach(term, record).await?;
        let id = &record.workspace;
        let gone = || Error::NoWorkspace(id.clone());
        let deadline = Instant::now() + CHANGE_WITHIN;
        let mut known = place.cache.get(id.as_str());
        let mut delays = BACKOFF.build();
        loop {
            let workspace = match known.take() {
                Some(workspace) => workspace,
                None => writer.get_workspace(id.as_str()).await?.ok_or_else(gone)?.into(),
            };
            let patched = match self.ownership.labelled(&writer, &place, record, workspace).await? {
                Patched::Done(workspace) => match patch(&workspace) {
                    Some(change) => change.write(&writer, &place, id, &workspace).await?,
                    None => return Ok(()),
                },
                Patched::NotFound => Patched::NotFound,
                Patched::Conflict => Patched::Conflict,
            };
            match patched {
                Patched::Done(changed) => {
                    place.cache.offer(changed);
                    return Ok(());
                }
                Patched::NotFound => return Err(gone()),
                Patched::Conflict => {
                    let pause = tokio::time::sleep(delays.next().unwrap_or_default());
                    if timeout_at(deadline, pause).await.is_err() {
                        return Err(Error::Contended { what: format!("workspace {id}") });
                    }
                }
            }
        }
    }
}

/// A condition that has its status since `now`.
fn condition(kind: &str, on: bool, reason: &str, message: String, now: Timestamp) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if on { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time::from(now),
        observed_generation: None,
    }
}

/// The conditions as they are, with some put in place of those of the same type.
fn with(workspace: &Workspace, changed: Vec<Condition>) -> Vec<Condition> {
    let old = workspace.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut all: Vec<Condition> =
        old.iter().filter(|old| changed.iter().all(|new| new.type_ != old.type_)).cloned().collect();
    all.extend(changed);
    all
}

fn current<'a>(workspace: &'a Workspace, kind: &str) -> Option<&'a Condition> {
    workspace.status.as_ref().and_then(|status| status.condition(kind))
}

fn is_true(workspace: &Workspace, kind: &str) -> bool {
    workspace.status.as_ref().is_some_and(|status| status.is_true(kind))
}

/// A stop never gets slower by being asked for again, and an abort stays one.
fn stop(workspace: &Workspace, policy: StopPolicy, now: Timestamp) -> Option<Value> {
    let mut grace = policy.grace();
    let asked =
        current(workspace, conditions::STOPPED_BY_REQUEST).filter(|condition| condition.status == "True");
    if let Some(earlier) = asked
        .and_then(|condition| condition.message.parse::<GoDuration>().ok())
        .and_then(|earlier| earlier.to_std().ok())
    {
        grace = grace.min(earlier);
    }
    let message = GoDuration::from(grace).to_string();
    let abort = policy == StopPolicy::Abort && !is_true(workspace, conditions::ABORTED);
    if asked.is_some_and(|asked| asked.message == message) && !abort {
        return None;
    }
    let why = reason::STOP_WORKSPACE_REQUEST;
    let mut changed = vec![condition(conditions::STOPPED_BY_REQUEST, true, why, message, now)];
    if abort {
        changed.push(condition(conditions::ABORTED, true, why, String::new(), now));
    }
    Some(json!({ "status": { "conditions": with(workspace, changed) } }))
}

fn mark_active(workspace: &Workspace, closed: bool, ignore_if_active: bool, now: Timestamp) -> Option<Value> {
    let seen = current(workspace, conditions::FIRST_USER_ACTIVITY).is_some();
    if seen && ignore_if_active {
        return None;
    }
    let why = reason::MARK_ACTIVE_REQUEST;
    let mut changed = Vec::new();
    if is_true(workspace, conditions::CLOSED) != closed {
        changed.push(condition(conditions::CLOSED, closed, why, String::new(), now));
    }
    if !seen {
        changed.push(condition(conditions::FIRST_USER_ACTIVITY, true, why, String::new(), now));
    }
    let mut status = json!({ "lastActivity": Time::from(now) });
    if !changed.is_empty() {
        status["conditions"] = json!(with(workspace, changed));
    }
    Some(json!({ "status": status }))
}

fn timeout(change: TimeoutChange) -> Value {
    let timeout = match change {
        // Whoever sets how long an idle workspace lives wants it to live on when the editor is closed.
        TimeoutChange::Inactivity(limit) => json!({ "time": GoDuration::from(limit), "closed": "0" }),
        TimeoutChange::Closed(limit) => json!({ "closed": GoDuration::from(limit) }),
    };
    json!({ "spec": { "timeout": timeout } })
}

fn ports(workspace: &Workspace, port: Port, expose: bool) -> Option<Value> {
    let number = i32::from(port.port);
    let mut ports = workspace.spec.ports.clone();
    ports.retain(|other| other.port != number);
    if expose {
        ports.push(convert::port(&port));
    }
    (ports != workspace.spec.ports).then(|| json!({ "spec": { "ports": ports } }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::workspace::Protocol;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn workspace(conditions: &Value) -> Workspace {
        serde_json::from_value(json!({
            "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "metadata": { "name": "ws" },
            "spec": {
                "ownership": { "owner": "jane", "workspaceID": "meta" }, "type": "Regular", "class": "small",
                "image": { "workspace": { "ref": "image" }, "ide": { "web": "", "supervisor": "" } },
                "initializer": "CgA=", "workspaceLocation": "", "admission": { "level": "Owner" },
                "ports": [{ "port": 80, "visibility": "Owner", "protocol": "Http" }],
            },
            "status": { "podStarts": 1, "conditions": conditions },
        }))
        .unwrap()
    }

    fn stopped(message: &str) -> Value {
        json!([{ "type": "StoppedByRequest", "status": "True", "reason": "StopWorkspaceRequest",
            "message": message, "lastTransitionTime": "1970-01-01T00:00:00Z" }])
    }

    #[test]
    fn a_stop_is_asked_for_once_and_never_loosened() {
        let first = stop(&workspace(&json!([])), StopPolicy::Normally, NOW).unwrap();
        assert_eq!(first["status"]["conditions"][0]["message"], "30s");
        assert_eq!(stop(&workspace(&stopped("30s")), StopPolicy::Normally, NOW), None);
        assert_eq!(stop(&workspace(&stopped("1s")), StopPolicy::Normally, NOW), None);
        let tighter = stop(&workspace(&stopped("30s")), StopPolicy::Immediately, NOW).unwrap();
        assert_eq!(tighter["status"]["conditions"][0]["message"], "1s");
    }

    #[test]
    fn an_abort_is_added_to_an_earlier_stop_and_keeps_the_conditions_of_others() {
        let mut conditions = stopped("1s");
        conditions.as_array_mut().unwrap().push(json!({ "type": "ContentReady", "status": "True",
            "reason": "InitializationSuccess", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z" }));
        let patch = stop(&workspace(&conditions), StopPolicy::Abort, NOW).unwrap();
        let types: Vec<&str> = patch["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| condition["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["ContentReady", "StoppedByRequest", "Aborted"]);
    }

    #[test]
    fn a_heartbeat_touches_conditions_only_when_they_change() {
        let first = mark_active(&workspace(&json!([])), false, false, NOW).unwrap();
        assert_eq!(first["status"]["conditions"][0]["type"], "FirstUserActivity");
        let seen = workspace(&first["status"]["conditions"]);
        let next = mark_active(&seen, false, false, NOW).unwrap();
        assert!(next["status"].get("conditions").is_none());
        assert_eq!(mark_active(&seen, true, true, NOW), None);
        let closed = mark_active(&seen, true, false, NOW).unwrap();
        assert_eq!(closed["status"]["conditions"][1]["type"], "Closed");
    }

    #[test]
    fn exposing_a_port_replaces_its_entry_and_nothing_is_written_where_nothing_changes() {
        let port = |port, visibility| Port { port, visibility, protocol: Protocol::Http };
        let workspace = workspace(&json!([]));
        assert_eq!(ports(&workspace, port(80, Access::Owner), true), None);
        assert_eq!(ports(&workspace, port(81, Access::Owner), false), None);
        let public = ports(&workspace, port(80, Access::Everyone), true).unwrap();
        assert_eq!(
            public["spec"]["ports"],
            json!([{ "port": 80, "protocol": "Http", "visibility": "Everyone" }])
        );
    }
}
