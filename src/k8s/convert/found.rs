//! Ownership of a Workspace, and the fields that are compared with placement records.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::resources::Workspace;
use crate::resources::names::{
    GENERATION, INSTALLATION, KEYING, MANAGED_BY, MANAGER, OWNER, SPEC_DIGEST, WORKSPACE_ID,
};
use domain::diff::{Found, Keeper};
use domain::signing::Keying;

/// Who manages an object. One with the label of Spaceport and no installation belongs to this one: no other kind of manager
/// created it.
pub fn keeper(meta: &ObjectMeta, installation: &str) -> Keeper {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    match label.map(String::as_str) {
        None | Some("") => Keeper::Nobody,
        Some(MANAGER) => {
            let made_by = meta.annotations.as_ref().and_then(|all| all.get(INSTALLATION));
            made_by
                .filter(|made_by| *made_by != installation)
                .map_or(Keeper::Us, |made_by| Keeper::Installation(made_by.clone()))
        }
        Some(manager) => Keeper::Manager(manager.to_owned()),
    }
}

/// The resource version as a number; 0 if it is not one, so that it is never newer than another.
pub fn resource_version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Digest of the start that an object was created for, by its annotation; empty if it has none.
pub fn digest(meta: &ObjectMeta) -> &str {
    annotation(meta, SPEC_DIGEST).map_or("", String::as_str)
}

/// Generation of the placement that an object was created for, by its annotation.
pub fn generation(meta: &ObjectMeta) -> u32 {
    annotation(meta, GENERATION).and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Keying of the start that an object was created for.
pub fn keying(meta: &ObjectMeta) -> Option<Keying> {
    annotation(meta, KEYING)?.parse().ok()
}

/// Whether an installation created or adopted an object, by its annotation.
pub fn is_made_by(meta: &ObjectMeta, installation: &str) -> bool {
    annotation(meta, INSTALLATION).is_some_and(|made_by| made_by == installation)
}

/// Whether a Workspace lacks one of the labels that it is created with. Only a person removes one.
pub fn lacks_labels(meta: &ObjectMeta) -> bool {
    let value = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key));
    [MANAGED_BY, WORKSPACE_ID, OWNER].iter().any(|key| value(key).is_none_or(String::is_empty))
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a String> {
    meta.annotations.as_ref().and_then(|all| all.get(key))
}

/// The fields of a Workspace that are compared with records; `None` if its name or namespace is invalid for Spaceport.
pub fn found(workspace: &Workspace, installation: &str) -> Option<Found> {
    let (meta, ownership) = (&workspace.metadata, &workspace.spec.ownership);
    let phase = workspace.status.as_ref().map(|status| status.phase).unwrap_or_default();
    Some(Found {
        name: meta.name.clone()?,
        namespace: meta.namespace.as_deref()?.parse().ok()?,
        keeper: keeper(meta, installation),
        made_here: is_made_by(meta, installation),
        meta: ownership.workspace_id.clone(),
        owner: ownership.owner.clone(),
        phase: format!("{phase:?}"),
        class: workspace.spec.class.clone(),
        digest: digest(meta).to_owned(),
        generation: generation(meta),
        deleting: meta.deletion_timestamp.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(label: Option<&str>, installation: Option<&str>) -> ObjectMeta {
        let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        ObjectMeta {
            labels: label.map(|label| pair(MANAGED_BY, label)),
            annotations: installation.map(|installation| pair(INSTALLATION, installation)),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_object_is_ours_by_its_label_unless_another_installation_made_it() {
        let of = |label, installation| keeper(&object(label, installation), "here");
        assert_eq!(of(Some(MANAGER), Some("here")), Keeper::Us);
        assert_eq!(of(Some(MANAGER), None), Keeper::Us);
        assert_eq!(of(Some(MANAGER), Some("there")), Keeper::Installation("there".to_owned()));
        assert_eq!(of(Some("ws-manager-mk2"), Some("here")), Keeper::Manager("ws-manager-mk2".to_owned()));
        assert_eq!(of(None, Some("here")), Keeper::Nobody);
    }

    #[test]
    fn a_label_that_is_gone_or_empty_is_missed() {
        let with = |owner: Option<&str>| {
            let labels = [(MANAGED_BY, Some(MANAGER)), (WORKSPACE_ID, Some("meta")), (OWNER, owner)];
            let labels =
                labels.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
            ObjectMeta { labels: Some(labels.collect()), ..ObjectMeta::default() }
        };
        assert!(!lacks_labels(&with(Some("jane"))));
        assert!(lacks_labels(&with(None)) && lacks_labels(&with(Some(""))));
        assert!(lacks_labels(&ObjectMeta::default()));
    }
}
