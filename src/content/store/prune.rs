//! Pruning: which superseded heads and archives are deleted. The plan is a pure function; it needs a head that is proven, and
//! touches only what is older.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::error::Error;
use super::heads::ProvenHead;
use super::names::{BackupId, Key, ObjectName, WorkspaceKeys};
use super::open::Store;

/// What stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunePolicy {
    /// The newest backups that stay whatever their age; at least 1.
    pub keep: u32,
    /// Age below which a backup stays.
    pub age: Duration,
}

/// A head that was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedHead {
    /// Its id.
    pub id: BackupId,
    /// When the store wrote it.
    pub written_at: Timestamp,
    /// The archive that it names; `None` if the head cannot be read.
    pub archive: Option<BackupId>,
}

/// An archive that was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedArchive {
    /// Its id.
    pub id: BackupId,
    /// When the store wrote it.
    pub written_at: Timestamp,
}

/// What a plan is made of.
#[derive(Debug, Clone, Copy)]
pub struct PruneInput<'a> {
    /// All heads of the workspace.
    pub heads: &'a [ListedHead],
    /// All archives of the workspace.
    pub archives: &'a [ListedArchive],
    /// Id of the head that is proven. Nothing as new as it is deleted.
    pub proven: BackupId,
    /// Heads that somebody keeps.
    pub kept_heads: &'a BTreeSet<BackupId>,
    /// Archives that a snapshot or a prebuild names.
    pub kept_archives: &'a BTreeSet<BackupId>,
    /// The rule.
    pub policy: PrunePolicy,
    /// The time.
    pub now: Timestamp,
}

/// What is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrunePlan {
    /// Heads, which go first.
    pub heads: Vec<BackupId>,
    /// Archives that no remaining head names.
    pub archives: Vec<BackupId>,
}

/// What was deleted.
pub type Pruned = PrunePlan;

impl PrunePlan {
    /// Decides what is deleted.
    pub fn of(input: &PruneInput<'_>) -> Self {
        let PruneInput { heads, archives, proven, kept_heads, kept_archives, policy, now } = *input;
        let known = heads.iter().any(|head| head.id == proven && head.archive.is_some());
        if !known {
            return Self::default();
        }
        let old =
            |written: Timestamp| now.duration_since(written).unsigned_abs() >= policy.age && now >= written;
        let mut newest: Vec<BackupId> = heads.iter().map(|head| head.id).collect();
        newest.sort_unstable_by(|left, right| right.cmp(left));
        newest.truncate(usize::try_from(policy.keep.max(1)).unwrap_or(usize::MAX));
        let goes = |head: &&ListedHead| {
            // A head that cannot be read may be of a newer version.
            let superseded = head.id < proven && head.archive.is_some() && !newest.contains(&head.id);
            superseded && old(head.written_at) && !kept_heads.contains(&head.id)
        };
        let gone: BTreeSet<BackupId> = heads.iter().filter(goes).map(|head| head.id).collect();
        let stay = || heads.iter().filter(|head| !gone.contains(&head.id));
        let named: BTreeSet<BackupId> = stay().filter_map(|head| head.archive).collect();
        let unreadable = stay().any(|head| head.archive.is_none());
        // Archives of backups that never got a head are deleted, too, once they are old. One that is newer than the proven head
        // may be waiting for its head.
        let unused = |archive: &&ListedArchive| {
            let free = !named.contains(&archive.id) && !kept_archives.contains(&archive.id);
            free && archive.id < proven && old(archive.written_at) && !unreadable
        };
        let archives = archives.iter().filter(unused).map(|archive| archive.id).collect();
        Self { heads: gone.into_iter().collect(), archives }
    }
}

impl Store {
    /// Deletes superseded backups of a workspace. `proven` must be its newest head; if a newer one is there, nothing is deleted
    /// until that one is proven. `kept_archives` are those that snapshots and prebuilds name.
    pub async fn prune(
        &self,
        keys: &WorkspaceKeys,
        proven: &ProvenHead,
        kept_heads: &BTreeSet<BackupId>,
        kept_archives: &BTreeSet<BackupId>,
        (policy, now): (PrunePolicy, Timestamp),
    ) -> Result<Pruned, Error> {
        let listed = self.heads(keys).await?;
        if listed.iter().map(|(id, _)| *id).max() != Some(proven.id()) {
            return Ok(Pruned::default());
        }
        let mut heads = Vec::with_capacity(listed.len());
        for (id, written_at) in listed {
            let archive = match self.read_head(keys, id).await {
                Ok(head) => archive_of(keys, &head.archive),
                Err(Error::BadHead { .. } | Error::Corrupted { .. }) => None,
                Err(Error::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            heads.push(ListedHead { id, written_at, archive });
        }
        let archives = self.archives(keys).await?;
        let (heads, archives, proven) = (heads.as_slice(), archives.as_slice(), proven.id());
        let input = PruneInput { heads, archives, proven, kept_heads, kept_archives, policy, now };
        let plan = PrunePlan::of(&input);
        for id in &plan.heads {
            self.delete(&keys.head(*id)).await?;
        }
        for id in &plan.archives {
            self.delete(&keys.archive(*id)).await?;
        }
        Ok(plan)
    }

    async fn archives(&self, keys: &WorkspaceKeys) -> Result<Vec<ListedArchive>, Error> {
        let of = |key: Key| match key.object() {
            Some((_, ObjectName::Archive(id))) => Some(id),
            _ => None,
        };
        let listed = self.listed(&keys.archives(), of).await?;
        Ok(listed.into_iter().map(|(id, written_at)| ListedArchive { id, written_at }).collect())
    }
}

/// The id of an archive of this workspace.
fn archive_of(keys: &WorkspaceKeys, path: &str) -> Option<BackupId> {
    match Key::parse(keys.owner(), path).ok()?.object()? {
        (id, ObjectName::Archive(archive)) if id == *keys.id() => Some(archive),
        _ => None,
    }
}
