//! Whose content an operation works on, as the resource has it.

use content::store::{BackupId, Digest, Format, Key, WorkspaceKeys};
use domain::names::{MetaId, OwnerId};
use jiff::Timestamp;
use k8s::resources::conditions::{FORCE_KILLED_TASK, WORKSPACE_CONTAINER_RUNNING};
use k8s::resources::{Workspace, names::GENERATION};

use super::error::Error;
use crate::state::{Layout, Origin};

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Whose content it is.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) origin: Origin,
    pub(super) namespace: String,
    pub(super) class: String,
    /// Bytes that the content may have.
    pub(super) quota: Option<u64>,
    /// The encoded initializer, without secrets.
    pub(super) initializer: Vec<u8>,
    /// Its container was killed and may still run: the folder is not at rest.
    pub(super) is_restless: bool,
}

impl Subject {
    pub(super) fn of(workspace: &Workspace) -> Result<Self, Error> {
        let name = workspace.metadata.name.clone().unwrap_or_default();
        let invalid = |error| Error::Name { instance: domain::names::quoted(&name), error };
        let spec = &workspace.spec;
        let status = workspace.status.as_ref();
        let generation =
            workspace.metadata.annotations.as_ref().and_then(|all| all.get(GENERATION)?.parse().ok());
        let owner: OwnerId = spec.ownership.owner.parse().map_err(invalid)?;
        let meta: MetaId = spec.ownership.workspace_id.parse().map_err(invalid)?;
        let origin = Origin {
            instance: Layout::instance(&name)?,
            uid: workspace.metadata.uid.clone(),
            attempt: status.and_then(|status| status.pod_recreated).unwrap_or(0),
            owner,
            workspace: meta,
            kind: spec.type_,
            generation: generation.unwrap_or(1),
            created: workspace
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        };
        let is_restless = status.is_some_and(|status| {
            status.is_true(WORKSPACE_CONTAINER_RUNNING) && status.is_true(FORCE_KILLED_TASK)
        });
        Ok(Self {
            origin,
            namespace: workspace.metadata.namespace.clone().unwrap_or_default(),
            class: spec.class.clone(),
            quota: spec.storage_quota.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
            initializer: spec.initializer.0.0.clone(),
            is_restless,
        })
    }

    pub(super) fn keys(&self) -> WorkspaceKeys {
        keys(&self.origin)
    }
}

pub(super) fn keys(origin: &Origin) -> WorkspaceKeys {
    WorkspaceKeys::new(origin.owner.clone(), origin.workspace.clone())
}

/// The object that a prebuild leaves.
pub(super) fn prebuild_key(origin: &Origin, format: Format) -> Key {
    keys(origin).snapshot(number(origin), format)
}

/// The id of an instance's backup. It follows from when the instance was created, so a late backup of an older instance never
/// becomes newer than one of a younger instance, and a repeated one replaces itself. Whatever the clocks of two clusters say, and
/// whatever generation the workspace had meanwhile, it is newer than the head that was the newest when the content was made; of two
/// instances that started from one head, each has its own.
pub(super) fn backup_id(origin: &Origin, newest: Option<BackupId>) -> BackupId {
    let own = BackupId { generation: origin.generation, sequence: number(origin) };
    match newest {
        Some(BackupId { generation, sequence }) if generation >= own.generation => {
            let after = sequence.saturating_add(1).saturating_add(share(origin));
            let sequence = if own.sequence > sequence { own.sequence } else { after };
            BackupId { generation, sequence }
        }
        _ => own,
    }
}

/// Nanoseconds of the instance's creation, which Kubernetes knows in seconds; the rest tells instances of one second apart.
fn number(origin: &Origin) -> u64 {
    let seconds = u64::try_from(origin.created.as_second()).unwrap_or(0);
    seconds.saturating_mul(SECOND).saturating_add(share(origin))
}

/// Nanoseconds below a second that tell instances apart.
fn share(origin: &Origin) -> u64 {
    let [a, b, c, d, ..] = *Digest::of(origin.instance.as_str().as_bytes()).as_bytes();
    u64::from(u32::from_be_bytes([a, b, c, d])) % SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(instance: &str, created: i64) -> Origin {
        Origin { created: Timestamp::from_second(created).unwrap(), ..Origin::sample(instance) }
    }

    #[test]
    fn a_late_backup_of_an_older_instance_never_wins() {
        let (old, young) = (origin("a", 1_700_000_000), origin("b", 1_700_000_001));
        assert!(backup_id(&old, None) < backup_id(&young, None));
        assert_eq!(backup_id(&old, None), backup_id(&old, None));
        assert_ne!(backup_id(&old, None), backup_id(&origin("b", 1_700_000_000), None));
    }

    #[test]
    fn a_backup_is_newer_than_the_head_it_started_from_whatever_the_clocks_say() {
        let ahead = BackupId { generation: 1, sequence: 1_900_000_000_000_000_000 };
        let (one, other) = (origin("a", 1_700_000_000), origin("b", 1_700_000_000));
        let id = backup_id(&one, Some(ahead));
        assert!(id > ahead && id.generation == 1, "{id:?}");
        assert_eq!(id, backup_id(&one, Some(ahead)));
        assert_ne!(id, backup_id(&other, Some(ahead)), "both started from one head");
    }

    #[test]
    fn a_workspace_that_moved_keeps_its_generation_and_whoever_started_before_that_loses() {
        let before = BackupId { generation: 1, sequence: 1_700_000_000_000_000_000 };
        let moved = Origin { generation: 2, ..origin("moved", 1_700_000_010) };
        let moved = backup_id(&moved, Some(before));
        assert_eq!(moved.generation, 2);
        // Its next sessions have no annotation that says so.
        let next = backup_id(&origin("next", 1_700_000_020), Some(moved));
        let late = backup_id(&origin("late", 1_699_999_999), Some(moved));
        assert!(next > moved && late > moved, "{next:?} {late:?}");
        // Frozen since before it moved.
        assert!(backup_id(&origin("frozen", 1_700_000_030), Some(before)) < moved);
    }
}
