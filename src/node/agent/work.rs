//! What the tasks of all workspaces share, and what one of them knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s::resources::{Snapshot, Workspace};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::api::{Cluster, Kind, Seen};
use super::error::Error;
use super::metrics::Meters;
use super::slots::Slots;
use super::status;
use crate::decide::Report;
use crate::operations::Operations;

/// What the tasks of all workspaces share.
pub struct Work {
    /// The apiserver.
    pub cluster: Cluster,
    /// What can be done with content.
    pub operations: Operations,
    /// How much at a time.
    pub slots: Slots,
    /// What is counted.
    pub meters: Meters,
    /// Between looks at the storage that a workspace uses; `None`: nobody looks.
    pub measures: Option<Duration>,
    /// Cancelled at the shutdown: nothing new begins.
    pub stop: CancellationToken,
}

/// What is known of a workspace.
#[derive(Debug, Clone)]
pub struct Known {
    /// As it was seen last.
    pub workspace: Arc<Workspace>,
    /// The watch does not report it any more: it is deleted, or of another node.
    pub is_gone: bool,
    /// Its Snapshots that are not completed, by name.
    pub snapshots: BTreeMap<String, Arc<Snapshot>>,
}

impl Work {
    /// Writes a report to a Workspace. Returns the Workspace as it is then, and whether that changed it.
    pub async fn report(&self, workspace: &Workspace, report: &Report) -> Result<(Workspace, bool), Error> {
        self.change(workspace, |status| status::patch(status, report, Timestamp::now())).await
    }

    /// Changes the status of a Workspace by a merge patch of it.
    pub async fn change(
        &self,
        workspace: &Workspace,
        patch: impl Fn(&Value) -> Option<Value>,
    ) -> Result<(Workspace, bool), Error> {
        let (namespace, name) = (workspace.namespace().unwrap_or_default(), workspace.name_any());
        let uid = workspace.uid().unwrap_or_default();
        let seen = Seen { kind: Kind::Workspace, namespace: &namespace, name: &name, uid: &uid };
        let none = json!({});
        let change = |object: &DynamicObject| Ok(patch(object.data.get("status").unwrap_or(&none)));
        let (object, is_changed) = self.cluster.change_status(seen, change).await?;
        let workspace = object.try_parse().map_err(|_| Error::Undecodable { what: seen.to_string() })?;
        Ok((workspace, is_changed))
    }

    /// Changes the status of a Snapshot that is not completed. Returns whether it still is not.
    pub async fn change_snapshot(&self, snapshot: &Snapshot, patch: &Value) -> Result<bool, Error> {
        let (namespace, name) = (snapshot.namespace().unwrap_or_default(), snapshot.name_any());
        let uid = snapshot.uid().unwrap_or_default();
        let seen = Seen { kind: Kind::Snapshot, namespace: &namespace, name: &name, uid: &uid };
        let change = |object: &DynamicObject| {
            let holds = |(field, value): (&String, &Value)| {
                object.data.pointer(&format!("/status/{field}")) == Some(value)
            };
            let is_there = patch.as_object().is_some_and(|fields| fields.iter().all(holds));
            Ok((!is_completed(object) && !is_there).then(|| patch.clone()))
        };
        let (object, _) = self.cluster.change_status(seen, change).await?;
        Ok(!is_completed(&object))
    }

    /// Completes a Snapshot that cannot be taken.
    pub async fn refuse_snapshot(&self, snapshot: &Snapshot, reason: &str) -> Result<(), Error> {
        let failed = json!({ "completed": true, "error": reason });
        self.change_snapshot(snapshot, &failed).await.map(|_| ())
    }
}

fn is_completed(object: &DynamicObject) -> bool {
    object.data.pointer("/status/completed").and_then(Value::as_bool) == Some(true)
}
