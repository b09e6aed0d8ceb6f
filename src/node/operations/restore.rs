//! Restores objects of the store into the folder of a workspace.

use bytes::Bytes;
use content::initializer::{Fault, Object};
use content::store::{self, Choice, DownloadOptions, Key, ObjectName};
use domain::names::OwnerId;
use futures::{Stream, StreamExt as _};

use super::context::Context;
use super::error::Failure;
use super::exchange::{NoFrames, TreeFile, Worker};
use super::subject::Subject;
use crate::archives::{Answer, Request};
use crate::state::Base;

/// Bytes that a restore may have without a quota, and those of a backup: its owner's files come back, also from a node where
/// nothing stopped them.
const UNLIMITED: u64 = 1 << 50;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Restored {
    /// Bytes of all files.
    pub(super) bytes: u64,
}

/// A backup to restore.
pub(super) struct Source {
    pub(super) base: Base,
    pub(super) key: Key,
    options: DownloadOptions,
}

/// The newest backup of a workspace. It must be there.
pub(super) async fn newest(context: &Context, subject: &Subject) -> Result<Source, Failure> {
    let keys = subject.keys();
    let none = || {
        let message = format!(
            "workspace {} of owner {} has no backup in store {}",
            keys.id(),
            keys.owner(),
            context.store.name()
        );
        Failure::lasting(Fault::Platform, message)
    };
    match context.store.newest_backup(&keys).await?.ok_or_else(none)? {
        Choice::Head(head) => {
            let archive = head.archive();
            let options = DownloadOptions {
                from: 0,
                e_tag: archive.e_tag().map(str::to_owned),
                digest: Some(archive.digest()),
            };
            Ok(Source { base: Base::Head(head.id()), key: archive.key().clone(), options })
        }
        Choice::FullTar { backup, unproven } => {
            if let Some(not) = unproven {
                tracing::warn!(workspace = %keys.id(), reason = %not, "restoring full.tar instead of a newer head");
            }
            let base = Base::FullTar { size: backup.size, made_at: backup.made_at };
            Ok(Source { base, key: backup.key, options: DownloadOptions::default() })
        }
    }
}

/// The backup as a base still is the newest one.
pub(super) async fn is_newest(context: &Context, subject: &Subject, base: &Base) -> Result<bool, Failure> {
    let found = match context.store.newest_backup(&subject.keys()).await? {
        Some(Choice::Head(head)) => Base::Head(head.id()),
        Some(Choice::FullTar { backup, .. }) => Base::FullTar { size: backup.size, made_at: backup.made_at },
        None => return Ok(false),
    };
    Ok(found == *base)
}

/// Restores a backup, and keeps the tree state if `tree` says so.
pub(super) async fn backup(
    context: &Context,
    subject: &Subject,
    worker: &Worker<'_>,
    source: Source,
    tree: bool,
) -> Result<Restored, Failure> {
    let Source { key, options, .. } = source;
    restore(context, subject, worker, &key, options, (UNLIMITED, tree))
        .await
        .map_err(|f| f.while_doing("restoring the backup"))
}

/// Restores a snapshot; `None` if there is no such object.
pub(super) async fn snapshot(
    context: &Context,
    subject: &Subject,
    worker: &Worker<'_>,
    object: &Object,
) -> Result<Option<Restored>, Failure> {
    let key = context.store.parse_snapshot(&object.name)?;
    check_access(&key, &subject.origin.owner)?;
    match context.store.download(&key, DownloadOptions::default()).await {
        Err(store::Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    // What was stored near the quota must come back.
    let bytes = subject.quota.map_or(UNLIMITED, |quota| quota.saturating_add(quota / 10));
    let restored = restore(context, subject, worker, &key, DownloadOptions::default(), (bytes, false)).await;
    restored.map(Some).map_err(|failure| failure.while_doing(&format!("restoring snapshot {}", object.name)))
}

/// A snapshot may be another owner's, who shared its name. Backups are nobody else's.
fn check_access(key: &Key, owner: &OwnerId) -> Result<(), Failure> {
    let is_own = key.owner() == owner
        && matches!(key.object(), Some((_, ObjectName::FullTar | ObjectName::Archive(_))));
    if is_own || matches!(key.object(), Some((_, ObjectName::Snapshot(_)))) {
        return Ok(());
    }
    Err(Failure::lasting(Fault::User, format!("{} of owner {} is no snapshot", key.path(), key.owner())))
}

async fn restore(
    context: &Context,
    subject: &Subject,
    worker: &Worker<'_>,
    key: &Key,
    options: DownloadOptions,
    (bytes, tree): (u64, bool),
) -> Result<Restored, Failure> {
    let download = context.store.download(key, options).await?;
    let excludes = context.settings.excludes.of(&subject.class);
    let request = Request::Restore { bytes, tree: tree.then_some(excludes) };
    let instance = &subject.origin.instance;
    let path = context.disk.layout().tree(instance);
    let answer = if tree {
        let failed = |error: std::io::Error| Failure::platform(format!("the tree state: {error}"));
        let mut file = TreeFile::create(path).await.map_err(failed)?;
        let answer = worker.exchange(&request, chunks(download), &mut file).await?;
        file.finish().await.map_err(failed)?;
        answer
    } else {
        worker.exchange(&request, chunks(download), &mut NoFrames).await?
    };
    let Answer::Restored { bytes, notes, .. } = answer else {
        return Err(Failure::platform("the helper's answer is not about a restore"));
    };
    for note in &notes {
        tracing::info!(%instance, %note, "content is restored with a note");
    }
    Ok(Restored { bytes })
}

fn chunks(download: store::Download) -> impl Stream<Item = Result<Bytes, Failure>> + Send + Unpin {
    download.map(|chunk| chunk.map_err(Failure::from))
}
