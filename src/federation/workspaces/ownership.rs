//! Whose a resource is, and restoring labels that somebody removed, as with `kubectl label workspace ID
//! gitpod.io/managed-by-`.
//!
//! The controller manages what is labelled as Spaceport's. Where placement record and annotations agree
//! that the resource belongs to this start and this installation, missing labels are restored: at once when
//! the watch shows it, and before any change that a client requests. Where they do not agree nothing is
//! written, and changes are refused with the reason.

use std::sync::Arc;

use crate::fleet::Place;
use crate::{Error, Result};
use domain::diff::Keeper;
use domain::record::{PlacementRecord, RecordState};
use k8s::convert;
use k8s::resources::Workspace;
use k8s::resources::names::{MANAGED_BY, MANAGER};
use member::apply::{Patched, Writer};

/// What is known of a recorded workspace's resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// It is there; `deleting`: and on its way out.
    There { deleting: bool },
    /// A resource of this installation has its name, and is of another start. So it is not there itself.
    Different,
    /// Somebody else's has its name; or it was somebody else's, and is not taken over yet.
    Foreign,
    /// The apiserver says that it is not there.
    Absent,
    /// The cluster was not asked, or did not answer.
    NotKnown,
}

/// Whose a resource is, by its placement record, labels and annotations.
pub(crate) struct Ownership {
    /// This installation's id.
    installation: Arc<str>,
}

impl Ownership {
    /// Of this installation.
    pub(crate) fn new(installation: Arc<str>) -> Arc<Self> {
        Arc::new(Self { installation })
    }

    /// Whether what the apiserver has under a record's name is what the record is about.
    pub(crate) fn judged(&self, record: &PlacementRecord, found: Option<&Workspace>) -> Resource {
        found.map_or(Resource::Absent, |found| judged(record, found, &self.installation))
    }

    /// A resource that may be changed: with its labels, restored where they are missing. Fails where it is not owned.
    pub(crate) async fn labelled(
        &self,
        writer: &Writer,
        place: &Place,
        record: &PlacementRecord,
        workspace: Arc<Workspace>,
    ) -> Result<Patched<Arc<Workspace>>> {
        let id = &record.workspace;
        match labels_of(record, &workspace, &self.installation) {
            Labels::There => Ok(Patched::Done(workspace)),
            Labels::Missing => {
                let patched = writer.set_labels(&workspace, &record.meta, &record.owner).await?;
                Ok(match patched {
                    Patched::Done(changed) => {
                        tracing::info!(workspace = %id, "labels that were missing were put back");
                        place.cache.offer(changed.clone());
                        Patched::Done(changed.into())
                    }
                    Patched::NotFound => Patched::NotFound,
                    Patched::Conflict => Patched::Conflict,
                })
            }
            Labels::Unproven => {
                let (namespace, label) = (&record.namespace, format!("{MANAGED_BY}={MANAGER}"));
                let reason = format!(
                    "its resource lacks the label {label}, and its annotations do not say that it is of this start, so \
                     nothing is done about it; if it is: kubectl -n {namespace} label workspace {id} {label}"
                );
                Err(Error::Precondition { id: id.clone(), reason })
            }
            Labels::OfOthers => {
                let reason = "its resource belongs to another manager; see `spaceport cluster diff`";
                Err(Error::Precondition { id: id.clone(), reason: reason.to_owned() })
            }
        }
    }

    /// Puts labels back that a recorded workspace lacks; whether there is nothing left to do.
    pub(crate) async fn put_labels_back(
        &self,
        writer: &Writer,
        place: &Place,
        record: &PlacementRecord,
    ) -> Result<bool> {
        let Some(known) = place.cache.get(record.workspace.as_str()) else { return Ok(true) };
        if labels_of(record, &known, &self.installation) != Labels::Missing {
            return Ok(true);
        }
        let patched = self.labelled(writer, place, record, known).await?;
        Ok(!matches!(patched, Patched::Conflict))
    }
}

/// What the labels of a recorded workspace say.
#[derive(Debug, PartialEq, Eq)]
enum Labels {
    /// That it is owned by this installation.
    There,
    /// Nothing, or not all; record and annotations say that it is owned.
    Missing,
    /// Nothing; and what else is there does not say whose it is.
    Unproven,
    /// That it is another manager's, or its annotations that it is another installation's.
    OfOthers,
}

fn labels_of(record: &PlacementRecord, workspace: &Workspace, installation: &str) -> Labels {
    let meta = &workspace.metadata;
    let is_proven = is_proven(record, workspace, installation);
    match convert::keeper(meta, installation) {
        Keeper::Us if is_proven && convert::lacks_labels(meta) => Labels::Missing,
        Keeper::Us => Labels::There,
        Keeper::Nobody if is_proven => Labels::Missing,
        Keeper::Nobody => Labels::Unproven,
        Keeper::Manager(_) | Keeper::Installation(_) => Labels::OfOthers,
    }
}

/// Whether record and annotations agree that the resource is of this start and installation.
pub(crate) fn is_proven(record: &PlacementRecord, workspace: &Workspace, installation: &str) -> bool {
    let meta = &workspace.metadata;
    convert::is_made_by(meta, installation) && record.is_of(convert::digest(meta), convert::generation(meta))
}

fn judged(record: &PlacementRecord, found: &Workspace, installation: &str) -> Resource {
    let meta = &found.metadata;
    let takes = record.takes(convert::digest(meta), convert::generation(meta));
    match convert::keeper(meta, installation) {
        Keeper::Us if takes => Resource::There { deleting: meta.deletion_timestamp.is_some() },
        Keeper::Us => Resource::Different,
        // Its label was taken off by hand; before it is taken over, an adopted one has none either. What has ended is stopped
        // only where it is certainly owned.
        Keeper::Nobody
            if takes
                && (record.is_live() || is_proven(record, found, installation))
                && !(record.digest.is_adopted() && record.state == RecordState::Placed) =>
        {
            Resource::There { deleting: meta.deletion_timestamp.is_some() }
        }
        Keeper::Nobody | Keeper::Manager(_) | Keeper::Installation(_) => Resource::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use domain::record::{Digest, RecordState};

    fn record() -> PlacementRecord {
        PlacementRecord {
            digest: Digest("f".repeat(64)),
            ..crate::view::tests::sample(RecordState::Confirmed)
        }
    }

    fn of(labels: &Value, change: &[(&str, Option<&str>)]) -> Labels {
        let mut annotations = json!({
            "spaceport.dev/installation": "here",
            "spaceport.dev/spec-digest": "f".repeat(64),
            "spaceport.dev/generation": "1",
        });
        for (key, value) in change {
            match value {
                Some(value) => annotations[format!("spaceport.dev/{key}")] = (*value).into(),
                None => drop(annotations.as_object_mut().unwrap().remove(&format!("spaceport.dev/{key}"))),
            }
        }
        let workspace: Workspace = serde_json::from_value(json!({
            "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
            "metadata": { "name": "ws", "labels": labels, "annotations": annotations },
            "spec": {
                "ownership": { "owner": "jane", "workspaceID": "meta" }, "type": "Regular", "class": "c",
                "image": { "workspace": { "ref": "image" }, "ide": { "web": "", "supervisor": "" } },
                "initializer": "CgA=", "workspaceLocation": "", "admission": { "level": "Owner" }, "ports": [],
            },
        }))
        .unwrap();
        labels_of(&record(), &workspace, "here")
    }

    fn labels(manager: &str) -> Value {
        json!({ "gitpod.io/managed-by": manager, "workspaceID": "meta", "owner": "jane" })
    }

    #[test]
    fn labels_are_put_back_only_where_record_and_annotations_agree() {
        assert_eq!(of(&labels("spaceport"), &[]), Labels::There);
        for missing in [json!({}), labels(""), json!({ "gitpod.io/managed-by": "spaceport" })] {
            assert_eq!(of(&missing, &[]), Labels::Missing, "{missing}");
        }
        for differs in [
            ("installation", None),
            ("spec-digest", None),
            ("spec-digest", Some("e")),
            ("generation", Some("2")),
        ] {
            assert_eq!(of(&json!({}), &[differs]), Labels::Unproven, "{differs:?}");
        }
        // Given to another manager, or another installation's: theirs, whatever the record says.
        assert_eq!(of(&labels("ws-manager-mk2"), &[]), Labels::OfOthers);
        assert_eq!(of(&labels("spaceport"), &[("installation", Some("there"))]), Labels::OfOthers);
        assert_eq!(of(&json!({}), &[("installation", Some("there"))]), Labels::Unproven);
    }
}
