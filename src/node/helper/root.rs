//! The root of a helper: a read-only tmpfs with bind mounts, built by the real root before it enters a user namespace, so that
//! nothing inside can change a mount.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::pivot_root;
use rustix::fs::{Mode, OFlags};

use super::settings::Settings;

/// Where the helper sees the workspace.
pub(super) const WORKSPACE: &str = "/workspace";
/// Where the helper sees its own program.
pub(super) const PROGRAM: &str = "/spaceport";
/// Devices that programs take for granted.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// So that programs find a name for their user.
const PASSWD: &str = "root:x:0:0::/tmp:/bin/false\n";
const NONE: Option<&str> = None;
/// Every mount.
const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// Builds the root and moves there. The caller is root in a mount namespace of its own, and process 1 of a pid namespace.
pub(super) fn enter(settings: &Settings, workspace: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(workspace, flags, Mode::empty())
        .map_err(|error| context(&error.into(), "open the folder of the workspace", workspace))?;
    let own = program()?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    // From here on what is below the scratch folder is hidden, so programs and workspace are named by their descriptors.
    let root = &settings.scratch;
    let options = "mode=0755,size=16m,nr_inodes=64k";
    mount(Some("tmpfs"), root, Some("tmpfs"), QUIET | MsFlags::MS_NOEXEC, Some(options))
        .map_err(|error| context(&error.into(), "mount the helper's root at", root))?;
    for folder in &settings.folders {
        add(root, folder, &settings.folders)
            .map_err(|error| context(&error, "bind a folder of the helper", folder))?;
    }
    for device in DEVICES {
        let target = file_at(root, Path::new(device))?;
        bind(Path::new(device), &target, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)?;
    }
    let program = file_at(root, Path::new(PROGRAM))?;
    bind(&behind(&own), &program, QUIET | MsFlags::MS_RDONLY)?;
    let target = folder_at(root, Path::new(WORKSPACE))?;
    bind(&behind(&opened), &target, QUIET | MsFlags::MS_NOEXEC)?;
    temporary(root, settings.limits.temporary)?;
    fs::write(file_at(root, Path::new("/etc/passwd"))?, PASSWD)?;
    let proc = folder_at(root, Path::new("/proc"))?;
    mount(Some("proc"), &proc, Some("proc"), QUIET | MsFlags::MS_NOEXEC, NONE)?;
    drop((opened, own));
    pivot(root)
}

/// The running program, opened in this mount namespace: what `/proc/self/exe` is in cannot be bound here.
fn program() -> io::Result<OwnedFd> {
    let path = fs::read_link("/proc/self/exe")?;
    let replaced = || io::Error::other(format!("{} was replaced; restart the agent", path.display()));
    let opened =
        rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|_| replaced())?;
    let (found, running) = (rustix::fs::fstat(&opened)?, rustix::fs::stat("/proc/self/exe")?);
    if (found.st_dev, found.st_ino) == (running.st_dev, running.st_ino) {
        Ok(opened)
    } else {
        Err(replaced())
    }
}

/// A path for what is opened.
fn behind(opened: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

fn temporary(root: &Path, size: u64) -> io::Result<()> {
    let target = folder_at(root, Path::new("/tmp"))?;
    let options = format!("mode=1777,size={size},nr_inodes=64k");
    mount(Some("tmpfs"), &target, Some("tmpfs"), QUIET | MsFlags::MS_NOEXEC, Some(options.as_str()))?;
    Ok(())
}

fn pivot(root: &Path) -> io::Result<()> {
    nix::unistd::chdir(root)?;
    // The old root is stacked below the new one, and taken off.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | QUIET;
    mount(NONE, "/", NONE, flags, NONE)?;
    Ok(())
}

/// Adds a file or folder of the agent's root. A link stays one where its target is also added.
fn add(root: &Path, path: &Path, all: &[PathBuf]) -> io::Result<()> {
    let Ok(seen) = fs::symlink_metadata(path) else { return Ok(()) };
    let Ok(real) = fs::canonicalize(path) else { return Ok(()) };
    if seen.is_symlink() && all.iter().any(|other| other != path && real.starts_with(other)) {
        return symlink(fs::read_link(path)?, inside(root, path)?);
    }
    let target = if real.is_dir() { folder_at(root, path)? } else { file_at(root, path)? };
    bind(&real, &target, QUIET | MsFlags::MS_RDONLY)
}

fn bind(source: &Path, target: &Path, flags: MsFlags) -> io::Result<()> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)?;
    mount(NONE, target, NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, NONE)?;
    Ok(())
}

fn folder_at(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let target = inside(root, path)?;
    fs::create_dir_all(&target)?;
    Ok(target)
}

fn file_at(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let target = inside(root, path)?;
    fs::write(&target, "")?;
    Ok(target)
}

/// The place of an absolute path below the new root; makes the folders above it.
fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut target = root.to_path_buf();
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => target.push(name),
            _ => {
                return Err(io::Error::other(
                    "the path of a helper's folder must be absolute and without `..`",
                ));
            }
        }
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(target)
}

fn context(error: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
