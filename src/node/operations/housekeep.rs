//! Removes what nobody needs any more. Content whose backup is not proven is reported, and stays.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::names::{MetaId, OwnerId, WorkspaceId};
use jiff::Timestamp;

use super::context::Context;
use super::error::Error;
use super::{folders, keep, upload, volumes};
use crate::state::{
    KeptFolder, Known, Layout, Origin, STATE_MAX, SnapshotRecord, Stage, State, keep_reserve, read_file,
    remove_file,
};

/// Age below which a file may belong to something that is just beginning.
const YOUNG: Duration = Duration::from_mins(10);
/// Age from which on a folder without a state file is a leftover.
const LEFTOVER: Duration = Duration::from_hours(1);
/// Age from which on nobody resumes an upload of what is gone.
const STALE_UPLOAD: Duration = Duration::from_hours(24);

/// What housekeeping did and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Housekept {
    /// Instances of which everything was removed.
    pub removed: u64,
    /// Content of instances that are gone, which is not in the store.
    pub unproven: Vec<Unproven>,
    /// State files that cannot be used, each as one sentence.
    pub broken: Vec<String>,
    /// Uploads that were ended in the store.
    pub aborted_uploads: u64,
}

/// Content that is not in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven {
    /// The instance.
    pub instance: WorkspaceId,
    /// The owner, if the state file says so.
    pub owner: Option<OwnerId>,
    /// The workspace across its runs.
    pub workspace: Option<MetaId>,
    /// Where the content is.
    pub folder: PathBuf,
    /// One sentence.
    pub why: String,
}

/// What freeing space came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    /// Kept folders that were deleted.
    pub folders: u64,
    /// Bytes that are free now.
    pub available: u64,
}

/// Removes leftovers of all instances but the known ones.
pub(super) async fn run(
    context: &Context,
    known: &BTreeSet<WorkspaceId>,
    now: Timestamp,
) -> Result<Housekept, Error> {
    let mut done = Housekept::default();
    let layout = context.disk.layout().clone();
    for (name, path) in list(layout.states()).await? {
        let Some(instance) = name.strip_suffix(".json").and_then(|name| Layout::instance(name).ok()) else {
            continue;
        };
        if !known.contains(&instance) && is_older(&path, YOUNG, now) {
            instance_is_gone(context, &instance, now, &mut done).await?;
        }
    }
    for (name, path) in list(layout.root().to_path_buf()).await? {
        if is_older(&path, LEFTOVER, now) {
            folder(context, &name, known, &mut done).await?;
        }
    }
    snapshots(context, known, now, &mut done).await?;
    kept(context).await?;
    context.swept().await;
    if let Err(error) = context.quota.sweep(&layout).await {
        tracing::warn!(error, "quota groups of deleted content cannot be removed");
    }
    let again = tokio::task::spawn_blocking(move || keep_reserve(&layout));
    again.await.map_err(Error::stopped)?;
    Ok(done)
}

/// Names and paths of a folder; none if it is not there.
async fn list(folder: PathBuf) -> Result<Vec<(String, PathBuf)>, Error> {
    let read = move || match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect(),
    };
    tokio::task::spawn_blocking(read).await.map_err(Error::stopped)?.map_err(Error::stopped)
}

fn is_older(path: &Path, age: Duration, now: Timestamp) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
    let modified = modified.ok().and_then(|time| Timestamp::try_from(time).ok());
    modified.is_some_and(|time| now > time && now.duration_since(time).unsigned_abs() >= age)
}

/// The files of an instance whose resource is gone.
async fn instance_is_gone(
    context: &Context,
    instance: &WorkspaceId,
    now: Timestamp,
    done: &mut Housekept,
) -> Result<(), Error> {
    let state = match context.disk.read(instance).await {
        Known::State(state) => *state,
        Known::Nothing => return Ok(()),
        Known::Broken(problem) => {
            done.broken.push(problem);
            return Ok(());
        }
    };
    let why = match &state.stage {
        // Nobody's, proven, or unwanted.
        Stage::Initialising
        | Stage::NotInitialised { .. }
        | Stage::BackedUp(_)
        | Stage::Wiping
        | Stage::Wiped
        | Stage::NotWiped { .. } => None,
        Stage::Filled | Stage::Ready => Some("the workspace ended without a backup".to_owned()),
        Stage::BackingUp(pending) => {
            let problem = pending.problem.clone().unwrap_or_else(|| "it was interrupted".to_owned());
            Some(format!("the workspace ended before its backup was complete: {problem}"))
        }
        Stage::BackupFailed { message } => Some(message.clone()),
    };
    let journal = context.disk.layout().journal(instance);
    if why.is_none() || is_older(&journal, STALE_UPLOAD, now) {
        abort(context, &state, journal, done).await;
    }
    if let Some(why) = why {
        let Origin { instance, owner, workspace, .. } = state.origin;
        let folder = context.disk.layout().content(&instance);
        done.unproven.push(Unproven {
            instance,
            owner: Some(owner),
            workspace: Some(workspace),
            folder,
            why,
        });
    } else {
        done.removed += u64::from(remove(context, state).await?);
    }
    Ok(())
}

async fn abort(context: &Context, state: &State, journal: PathBuf, done: &mut Housekept) {
    let Origin { instance, owner, .. } = &state.origin;
    match upload::abort(context, instance, owner, journal).await {
        Ok(is_aborted) => done.aborted_uploads += u64::from(is_aborted),
        Err(failure) => tracing::warn!(%instance, reason = %failure, "an upload cannot be aborted"),
    }
}

/// Discards the content of an instance, and then its files: the state file last, because it says that the content may go. Returns
/// whether that still holds: a workspace of that name may have come since the state was read.
async fn remove(context: &Context, state: State) -> Result<bool, Error> {
    let (id, name) = (state.origin.instance.clone(), state.origin.instance.clone());
    let removed = context.disk.blocking(name.as_str(), move |layout| {
        let found = read_file::<State>(&layout.state(&id), STATE_MAX);
        if !found.is_ok_and(|found| found == Some(state)) {
            return Ok(false);
        }
        volumes::discard(layout, &id)?;
        if let Some(daemon) = id.daemon() {
            folders::discard(&layout.root().join(daemon.as_str()), &layout.trash(), daemon.as_str())?;
        }
        let files = [layout.tree(&id), layout.new_tree(&id), layout.journal(&id), layout.state(&id)];
        files.iter().try_for_each(|file| remove_file(file))?;
        Ok(true)
    });
    removed.await.map_err(Error::stopped)
}

/// A folder beside those of instances. The kubelet makes empty ones.
async fn folder(
    context: &Context,
    name: &str,
    known: &BTreeSet<WorkspaceId>,
    done: &mut Housekept,
) -> Result<(), Error> {
    let Ok(id) = name.parse::<WorkspaceId>() else { return Ok(()) };
    if let Some(owner) = id.daemon_of() {
        return daemon(context, id, owner, known).await;
    }
    if known.contains(&id) {
        return Ok(());
    }
    if !matches!(context.disk.read(&id).await, Known::Nothing) {
        return Ok(());
    }
    let path = context.disk.layout().content(&id);
    let instance = id.clone();
    let removed = context.disk.blocking(name, move |layout| {
        // Its initialisation may have begun since.
        if fs::symlink_metadata(layout.state(&id)).is_ok() {
            Ok(true)
        } else {
            volumes::remove_empty(layout, &id)
        }
    });
    if !removed.await.map_err(Error::stopped)? {
        let why = "it has no state file, so nobody knows whether it is in the store".to_owned();
        done.unproven.push(Unproven { instance, owner: None, workspace: None, folder: path, why });
    }
    Ok(())
}

/// The folder `<id>-daemon`, mounted at `/.workspace`. It is in no backup, so it goes when its instance has nothing else here.
async fn daemon(
    context: &Context,
    id: WorkspaceId,
    owner: WorkspaceId,
    known: &BTreeSet<WorkspaceId>,
) -> Result<(), Error> {
    if known.contains(&owner) {
        return Ok(());
    }
    let name = owner.as_str().to_owned();
    let discarded = context.disk.blocking(&name, move |layout| {
        if fs::symlink_metadata(layout.state(&owner)).is_ok() {
            return Ok(());
        }
        folders::discard(&layout.root().join(id.as_str()), &layout.trash(), id.as_str())
    });
    discarded.await.map_err(Error::stopped)
}

/// Records of snapshots of instances that are gone.
async fn snapshots(
    context: &Context,
    known: &BTreeSet<WorkspaceId>,
    now: Timestamp,
    done: &mut Housekept,
) -> Result<(), Error> {
    for (name, path) in list(context.disk.layout().snapshots()).await? {
        if name.strip_suffix(".json").is_none() || !is_older(&path, STALE_UPLOAD, now) {
            continue;
        }
        let from = path.clone();
        let read = tokio::task::spawn_blocking(move || read_file::<SnapshotRecord>(&from, STATE_MAX));
        let record = match read.await.map_err(Error::stopped)? {
            Ok(Some(record)) if !known.contains(&record.instance) => record,
            Ok(_) => continue,
            Err(error) => {
                done.broken.push(error.to_string());
                continue;
            }
        };
        let journal = path.with_extension("upload");
        match upload::abort(context, &record.instance, &record.owner, journal).await {
            Ok(is_aborted) => done.aborted_uploads += u64::from(is_aborted),
            Err(failure) => {
                tracing::warn!(object = record.object, reason = %failure, "the upload of a snapshot cannot be aborted");
                continue;
            }
        }
        context.disk.remove(&record.instance, path).await?;
    }
    Ok(())
}

/// All kept folders, by owner and workspace.
async fn all_kept(context: &Context) -> Result<Vec<(OwnerId, MetaId)>, Error> {
    let mut all = Vec::new();
    for (owner, folder) in list(context.disk.layout().all_kept()).await? {
        let Ok(owner) = owner.parse::<OwnerId>() else { continue };
        for (workspace, _) in list(folder).await? {
            all.extend(workspace.parse().ok().map(|workspace: MetaId| (owner.clone(), workspace)));
        }
    }
    Ok(all)
}

/// Discards kept folders without a record: a call that moved them was interrupted, and nobody takes them for complete.
async fn kept(context: &Context) -> Result<(), Error> {
    for (owner, workspace) in all_kept(context).await? {
        let name = keep::lock(&owner, &workspace);
        let discarded = context.disk.blocking(&name, move |layout| {
            if layout.kept_record(&owner, &workspace).exists() {
                return Ok(());
            }
            remove_file(&layout.kept_tree(&owner, &workspace))?;
            let name = format!("{owner}.{workspace}");
            folders::discard(&layout.kept(&owner, &workspace), &layout.trash(), &name)
        });
        discarded.await.map_err(Error::stopped)?;
    }
    Ok(())
}

/// Deletes kept folders, the oldest first.
pub(super) async fn free(context: &Context, wanted: u64) -> Result<Freed, Error> {
    let mut all = Vec::new();
    for (owner, workspace) in all_kept(context).await? {
        let path = context.disk.layout().kept_record(&owner, &workspace);
        let read = tokio::task::spawn_blocking(move || read_file::<KeptFolder>(&path, STATE_MAX));
        let since = read.await.map_err(Error::stopped)?.ok().flatten().map(|record| record.since);
        all.push((since, owner, workspace));
    }
    all.sort_by_key(|(since, ..)| *since);
    let mut freed = Freed { folders: 0, available: available(context).await? };
    for (_, owner, workspace) in all {
        if freed.available >= wanted {
            break;
        }
        let name = keep::lock(&owner, &workspace);
        let discarded = context.disk.blocking(&name, move |layout| {
            remove_file(&layout.kept_record(&owner, &workspace))?;
            remove_file(&layout.kept_tree(&owner, &workspace))?;
            let name = format!("{owner}.{workspace}");
            folders::discard(&layout.kept(&owner, &workspace), &layout.trash(), &name)
        });
        discarded.await.map_err(Error::stopped)?;
        context.swept().await;
        freed = Freed { folders: freed.folders + 1, available: available(context).await? };
    }
    Ok(freed)
}

async fn available(context: &Context) -> Result<u64, Error> {
    let layout = context.disk.layout().clone();
    let read = tokio::task::spawn_blocking(move || folders::available(&layout));
    read.await.map_err(Error::stopped)?.map_err(Error::stopped)
}
