//! Tells what was decided: one status patch, and Kubernetes events for people.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tracing::warn;

use crate::cluster::apply::{Patched, Writer};
use crate::cluster::resources::{Workspace, names};

use super::Error;
use super::decide::{Note, StatusChange};

/// Writes the status for the version that was seen.
pub(super) async fn status(
    writer: &Writer,
    workspace: &Workspace,
    change: &StatusChange,
) -> Result<Patched<Workspace>, Error> {
    let name = workspace.metadata.name.as_deref().unwrap_or_default();
    let version = workspace.metadata.resource_version.as_deref();
    Ok(writer.patch_status(name, version, change.to_patch()).await?)
}

/// Writes events. They are for people: one that cannot be written changes nothing else.
pub(super) async fn events(writer: &Writer, workspace: &Workspace, notes: &[Note], now: Timestamp) {
    for (index, note) in notes.iter().enumerate() {
        if let Err(error) = writer.create_event(&event(workspace, note, now, index)).await {
            warn!(%error, reason = note.reason, "an event could not be written");
        }
    }
}

fn event(workspace: &Workspace, note: &Note, now: Timestamp, index: usize) -> Event {
    let metadata = &workspace.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    // As other programs name them: unique by time, and by number within a pass.
    let event_name = format!("{name}.{:x}{index}", now.as_nanosecond());
    Event {
        metadata: ObjectMeta {
            name: Some(event_name),
            namespace: metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(format!("{}/v1", names::GROUP)),
            kind: Some("Workspace".to_owned()),
            name: Some(name),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            field_path: None,
        },
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.chars().take(1024).collect()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        source: Some(EventSource { component: Some("workspace".to_owned()), host: None }),
        reporting_component: Some(names::MANAGER.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}
