//! Writes a decision to the cluster: one status patch, and Kubernetes events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use tracing::warn;

use k8s::events::{self, Told};
use k8s::resources::{Workspace, names};
use member::apply::{Patched, Writer};

use super::decide::{Note, StatusChange};

/// Patches the status of the observed resource version; a newer version is a conflict.
pub(super) async fn status(
    writer: &Writer,
    workspace: &Workspace,
    change: &StatusChange,
) -> member::Result<Patched<Workspace>> {
    let name = workspace.metadata.name.as_deref().unwrap_or_default();
    let version = workspace.metadata.resource_version.as_deref();
    writer.patch_status(name, version, change.to_patch()).await
}

/// Writes events. A failure is only logged: nothing depends on events.
pub(super) async fn events(writer: &Writer, workspace: &Workspace, notes: &[Note], now: Timestamp) {
    for (index, note) in notes.iter().enumerate() {
        if let Err(error) = writer.create_event(&event(workspace, note, now, index)).await {
            warn!(%error, reason = note.reason, "failed to write an event");
        }
    }
}

fn event(workspace: &Workspace, note: &Note, now: Timestamp, index: usize) -> Event {
    let metadata = &workspace.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    // As other programs name them: unique by time, and by number within a reconcile.
    let event_name = format!("{name}.{:x}{index}", now.as_nanosecond());
    let about = ObjectReference {
        api_version: Some(format!("{}/v1", names::GROUP)),
        kind: Some("Workspace".to_owned()),
        name: Some(name),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    };
    let told = Told { by: "workspace", reason: note.reason, message: &note.message, warning: note.warning };
    events::event(event_name, about, told, now)
}
