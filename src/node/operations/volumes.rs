//! The folder of an instance, where its storage is limited by the file system: a subvolume below `.spaceport/volumes`, mounted over
//! the folder.
//!
//! A mount, because the kubelet may have made the folder before, and its container may have mounted it: the mount reaches the
//! container (`HostToContainer`), and another folder in its place would not. Mounts end with the node, so the agent makes them again
//! when it starts. Without a subvolume, all of this is work on the folder itself.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use domain::names::WorkspaceId;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::context::Context;
use super::error::Failure;
use super::folders::{self, Adopted};
use crate::quota::{Backend, is_subvolume};
use crate::state::{Layout, unless_missing};

/// Mounts on one folder that are undone: more than one are left only by somebody else.
const STACKED: usize = 8;

/// Makes the folder of an instance for the workspace's user, limited where the backend can do that.
pub(super) async fn prepare(
    context: &Context,
    instance: &WorkspaceId,
    quota: Option<u64>,
) -> Result<(), String> {
    let layout = context.disk.layout();
    if context.quota.backend() == Backend::BtrfsQgroup {
        let volume = layout.volume(instance);
        if tokio::fs::symlink_metadata(&volume).await.is_err() {
            context.quota.btrfs().create(&volume).await?;
        }
        context.quota.limit(layout, instance, quota).await?;
    }
    let id = instance.clone();
    let prepared = context.disk.blocking(instance.as_str(), move |layout| {
        show(layout, &id)?;
        folders::prepare(&layout.content(&id))
    });
    prepared.await.map_err(|error| error.to_string())
}

/// Mounts the subvolume of an instance over its folder, if it has one.
fn show(layout: &Layout, instance: &WorkspaceId) -> io::Result<()> {
    let (volume, folder) = (layout.volume(instance), layout.content(instance));
    if fs::symlink_metadata(&volume).is_err() || is_mounted(&volume, &folder) {
        return Ok(());
    }
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !folders::is_empty(&folder)? {
        let folder = folder.display();
        return Err(io::Error::other(format!(
            "{folder} is not empty, and its subvolume cannot be mounted there"
        )));
    }
    let none: Option<&str> = None;
    mount(Some(&volume), &folder, none, MsFlags::MS_BIND, none).map_err(|error| {
        io::Error::other(format!("mount {} over {}: {error}", volume.display(), folder.display()))
    })
}

/// Makes sure that the folder of an instance shows its content: the empty folder below a mount that is gone is none.
pub(super) async fn shown(context: &Context, instance: &WorkspaceId) -> Result<(), Failure> {
    let id = instance.clone();
    let shown = context.disk.blocking(instance.as_str(), move |layout| show(layout, &id));
    shown.await.map_err(|error| Failure::platform(format!("the content of the workspace: {error}")))
}

/// Mounts all subvolumes again: a restart of the node ended the mounts.
pub(super) fn show_all(layout: &Layout) -> io::Result<()> {
    let entries = match fs::read_dir(layout.volumes()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Ok(instance) = Layout::instance(&name.to_string_lossy()) else { continue };
        if let Err(error) = show(layout, &instance) {
            tracing::error!(%instance, %error, "the content of a workspace cannot be mounted");
        }
    }
    Ok(())
}

/// Two mounts of one file system have the same device, and every subvolume has its own.
fn is_mounted(volume: &Path, folder: &Path) -> bool {
    let seen = |path: &Path| fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
    seen(volume).is_some_and(|volume| seen(folder) == Some(volume))
}

/// Ends the mount, also in the namespaces that have it from this one.
fn hide(layout: &Layout, instance: &WorkspaceId) -> io::Result<()> {
    let (volume, folder) = (layout.volume(instance), layout.content(instance));
    for _ in 0..STACKED {
        if !is_mounted(&volume, &folder) {
            return Ok(());
        }
        umount2(&folder, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Err(io::Error::other(format!("{} is mounted too often", folder.display())))
}

/// Whether an instance has a subvolume.
fn has_volume(layout: &Layout, instance: &WorkspaceId) -> bool {
    fs::symlink_metadata(layout.volume(instance)).is_ok()
}

/// Empties the folder: what is in it moves below `parent`. The folder itself stays, because a container may have mounted it.
pub(super) fn empty(layout: &Layout, instance: &WorkspaceId, parent: &Path) -> io::Result<()> {
    if has_volume(layout, instance) {
        hide(layout, instance)?;
        folders::discard(&layout.volume(instance), parent, instance.as_str())?;
    }
    folders::empty(&layout.content(instance), parent, instance.as_str())
}

/// Moves the folder to the trash; one that is not there is moved.
pub(super) fn discard(layout: &Layout, instance: &WorkspaceId) -> io::Result<()> {
    if has_volume(layout, instance) {
        hide(layout, instance)?;
        folders::discard(&layout.volume(instance), &layout.trash(), instance.as_str())?;
    }
    folders::discard(&layout.content(instance), &layout.trash(), instance.as_str())
}

/// Moves the folder where none is, and writes that to the disk.
pub(super) fn relocate(layout: &Layout, instance: &WorkspaceId, to: &Path) -> io::Result<()> {
    if !has_volume(layout, instance) {
        return folders::relocate(&layout.content(instance), to);
    }
    hide(layout, instance)?;
    // First: a call that is interrupted after that must not take the empty folder for the content.
    folders::discard(&layout.content(instance), &layout.trash(), instance.as_str())?;
    folders::relocate(&layout.volume(instance), to)
}

/// Makes a kept folder the folder of an instance. One that could not be limited is refused.
pub(super) fn adopt(
    layout: &Layout,
    kept: &Path,
    instance: &WorkspaceId,
    backend: Backend,
) -> io::Result<Adopted> {
    if !is_subvolume(kept) {
        if backend == Backend::BtrfsQgroup {
            return Err(io::Error::other("it is no subvolume, and its storage could not be limited"));
        }
        return folders::adopt(kept, &layout.content(instance));
    }
    if has_volume(layout, instance) {
        return Err(io::Error::other("the workspace has a subvolume already"));
    }
    folders::relocate(kept, &layout.volume(instance))?;
    show(layout, instance)?;
    Ok(Adopted::Whole)
}

/// Removes an empty folder that nobody has a subvolume for. `false`: it is not empty.
pub(super) fn remove_empty(layout: &Layout, instance: &WorkspaceId) -> io::Result<bool> {
    if has_volume(layout, instance) {
        return Ok(false);
    }
    match unless_missing(fs::remove_dir(layout.content(instance))) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(true),
        other => other.map(|()| true),
    }
}
