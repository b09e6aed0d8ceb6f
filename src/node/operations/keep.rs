//! Folders that stay after their proven backup, so that a restart on the same node downloads nothing.

use std::fs;
use std::io;

use domain::names::{MetaId, OwnerId};
use jiff::Timestamp;

use super::context::Context;
use super::error::{Error, Failure};
use super::folders::{self, Adopted};
use super::restore;
use super::subject::Subject;
use super::volumes;
use crate::state::{Base, KeptFolder, STATE_MAX, read_file, remove_file, write_file};

/// Under which file work on the kept folder of a workspace is done one after the other.
pub(super) fn lock(owner: &OwnerId, workspace: &MetaId) -> String {
    format!("{owner}/{workspace}")
}

/// Puts the folder of an instance, whose backup is proven, where it stays. An older one of the workspace goes. The record comes
/// last, and goes first: without it nobody takes a kept folder for complete.
pub(super) async fn keep(context: &Context, subject: &Subject, base: Base, size: u64) -> Result<(), Error> {
    let origin = subject.origin.clone();
    let excludes = context.settings.excludes.of(&subject.class);
    let record = KeptFolder { version: 1, base, size, excludes, since: Timestamp::now() };
    let name = lock(&subject.origin.owner, &subject.origin.workspace);
    let kept = context.disk.blocking(&name, move |layout| {
        let (content, tree) = (layout.content(&origin.instance), layout.tree(&origin.instance));
        if fs::symlink_metadata(&content).is_err() || fs::symlink_metadata(&tree).is_err() {
            // Moved by a call before this one.
            return Ok(());
        }
        let kept = layout.kept(&origin.owner, &origin.workspace);
        remove_file(&layout.kept_record(&origin.owner, &origin.workspace))?;
        folders::discard(&kept, &layout.trash(), &format!("{}.{}", origin.owner, origin.workspace))?;
        volumes::relocate(layout, &origin.instance, &kept)?;
        folders::relocate(&tree, &layout.kept_tree(&origin.owner, &origin.workspace))?;
        write_file(&layout.kept_record(&origin.owner, &origin.workspace), &record)
    });
    kept.await.map_err(Error::stopped)?;
    context.sweep();
    Ok(())
}

/// Deletes the folder of an instance whose content is in the store.
pub(super) async fn discard(context: &Context, subject: &Subject) -> Result<(), Error> {
    let id = subject.origin.instance.clone();
    let discarded = context.disk.blocking(subject.origin.instance.as_str(), move |layout| {
        volumes::discard(layout, &id)?;
        remove_file(&layout.tree(&id))
    });
    discarded.await.map_err(Error::stopped)?;
    context.sweep();
    Ok(())
}

/// A kept folder that was adopted.
pub(super) struct Reused {
    pub(super) base: Base,
    /// Bytes of the stored object.
    pub(super) size: u64,
    /// Its tree state.
    pub(super) tree: Tree,
}

/// The tree state of a kept folder that was adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    /// It still holds.
    Same,
    /// The times of entries moved, and nothing else.
    Moved,
    /// The folder has more than its backup would have with the excludes of today, so the next backup is a whole one.
    Other,
}

/// Makes the kept folder of a workspace the content of an instance, if it is the newest backup. The state on disk says already that
/// the instance is being initialised, so after an interruption its folder is emptied, and the backup restored.
pub(super) async fn reuse(context: &Context, subject: &Subject) -> Result<Option<Reused>, Failure> {
    let origin = subject.origin.clone();
    let path = context.disk.layout().kept_record(&origin.owner, &origin.workspace);
    // A record that cannot be read costs a download.
    let record = context.disk.load::<KeptFolder>(&origin.instance, path).await.ok().flatten();
    let Some(record) = record else { return Ok(None) };
    if !restore::is_newest(context, subject, &record.base).await? {
        return Ok(None);
    }
    let KeptFolder { base, size, excludes, .. } = record.clone();
    let backend = context.quota.backend();
    let is_like = excludes == context.settings.excludes.of(&subject.class);
    let name = lock(&subject.origin.owner, &subject.origin.workspace);
    let adopted = context.disk.blocking(&name, move |layout| {
        let path = layout.kept_record(&origin.owner, &origin.workspace);
        let is_same = read_file::<KeptFolder>(&path, STATE_MAX).is_ok_and(|found| found == Some(record));
        if !is_same {
            return Ok(None);
        }
        remove_file(&path)?;
        let kept = layout.kept(&origin.owner, &origin.workspace);
        let adopted = volumes::adopt(layout, &kept, &origin.instance, backend)?;
        let tree = layout.kept_tree(&origin.owner, &origin.workspace);
        match adopted {
            Adopted::Whole => folders::relocate(&tree, &layout.tree(&origin.instance))?,
            Adopted::EachEntry => remove_file(&tree)?,
        }
        Ok::<_, io::Error>(Some(adopted))
    });
    match adopted.await {
        Ok(Some(adopted)) => {
            let tree = match adopted {
                Adopted::Whole => Tree::Same,
                Adopted::EachEntry if is_like => Tree::Moved,
                Adopted::EachEntry => Tree::Other,
            };
            Ok(Some(Reused { base, size, tree }))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            tracing::warn!(instance = %subject.origin.instance, %error, "the kept folder cannot be used; the backup is restored");
            Ok(None)
        }
    }
}
