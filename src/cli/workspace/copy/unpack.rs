//! Unpacks an archive that a container sent. The container may be hostile: nothing outside of the target is written, read
//! or linked to, and nothing is followed there.
//!
//! An entry is made only where all folders above it are real ones, and never by writing to what exists. A symlink is
//! made only if it leads to something below the target: it is relative, has `..` only at its beginning, and no more of
//! them than there are folders above it. Since each link leads to something below, so does each chain of them.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use tar::{Archive, Entry, EntryType};

use super::skipped::Skipped;

/// Bytes between the contents of two files: headers, and long names.
const HEADERS: u64 = 1024 * 1024;

/// Unpacks what is named `name` to `target`, or without a name all entries into the folder `target`. Returns what was not
/// copied.
pub fn unpack(from: impl Read, target: &Path, name: Option<&str>) -> Result<Skipped> {
    let budget = Rc::new(Cell::new(None));
    let mut archive = Archive::new(Bounded { from, budget: Rc::clone(&budget) });
    let mut unpacking = Unpacking { target, name, folders: Vec::new(), skipped: Skipped::default() };
    let broken = "the archive of the workspace cannot be read";
    budget.set(Some(HEADERS));
    for entry in archive.entries().context(broken)? {
        let mut entry = entry.context(broken)?;
        budget.set(None);
        unpacking.entry(&mut entry)?;
        budget.set(Some(HEADERS));
    }
    unpacking.finish()
}

/// Limits what is read between files: an archive may have names without end.
struct Bounded<R> {
    from: R,
    budget: Rc<Cell<Option<u64>>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if let Some(left) = self.budget.get() {
            let left = left.checked_sub(u64::try_from(read).unwrap_or(u64::MAX));
            self.budget.set(Some(left.ok_or_else(|| io::Error::other("a header is longer than 1 MiB"))?));
        }
        Ok(read)
    }
}

struct Unpacking<'a> {
    target: &'a Path,
    name: Option<&'a str>,
    /// Folders with the mode and time that they get at the end.
    folders: Vec<(PathBuf, u32, SystemTime)>,
    skipped: Skipped,
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<()> {
        let name = entry.path().context("a name in the archive cannot be read")?.into_owned();
        let Some(inner) = below(&name, self.name) else {
            self.skipped.add(&name, "its name is not below what is copied");
            return Ok(());
        };
        let path =
            if inner.as_os_str().is_empty() { self.target.to_owned() } else { self.target.join(&inner) };
        let kind = entry.header().entry_type();
        if let Some(why) = self.obstacle(&inner, &path, kind) {
            self.skipped.add(&name, why);
            return Ok(());
        }
        let made = self.make(entry, &name, &inner, &path, kind);
        made.with_context(|| format!("failed to write {}", path.display()))
    }

    /// Why an entry cannot be made there.
    fn obstacle(&self, inner: &Path, path: &Path, kind: EntryType) -> Option<&'static str> {
        let mut folder = self.target.to_owned();
        let above = inner.parent().into_iter().flat_map(Path::components);
        // The target itself may be a link of the user.
        for part in above {
            folder.push(part);
            if !fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
                return Some("what is above it is no folder");
            }
        }
        let existing =
            if inner.as_os_str().is_empty() { fs::metadata(path) } else { fs::symlink_metadata(path) };
        match existing {
            Ok(found) if kind.is_dir() && !found.is_dir() => Some("there is a file of this name"),
            Ok(found) if !kind.is_dir() && found.is_dir() => Some("there is a folder of this name"),
            _ => None,
        }
    }

    fn make(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        name: &Path,
        inner: &Path,
        path: &Path,
        kind: EntryType,
    ) -> Result<()> {
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        let seconds = entry.header().mtime().unwrap_or(0);
        let time = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        match kind {
            EntryType::Directory => {
                if !path.is_dir() {
                    fs::create_dir(path)?;
                }
                // At the end: a folder may allow no changes.
                self.folders.push((path.to_owned(), mode, time));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                remove(path)?;
                let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
                io::copy(entry, &mut file)?;
                file.set_permissions(Permissions::from_mode(mode))?;
                file.set_modified(time)?;
            }
            EntryType::Symlink => {
                let link = entry.link_name()?.ok_or_else(|| anyhow!("a link leads nowhere"))?;
                if !stays_below(inner, &link) {
                    self.skipped
                        .add(name, &format!("it is a link out of the copied folder, to {}", link.display()));
                    return Ok(());
                }
                remove(path)?;
                symlink(link, path)?;
            }
            EntryType::Link => {
                let link = entry.link_name()?.ok_or_else(|| anyhow!("a link leads nowhere"))?;
                match self.linked(&link) {
                    Some(linked) if linked != *path => {
                        remove(path)?;
                        fs::hard_link(linked, path)?;
                    }
                    Some(_) => {}
                    None => self.skipped.add(name, "it is a hard link to something that was not copied"),
                }
            }
            _ => self.skipped.add(name, "it is no file, folder or link"),
        }
        Ok(())
    }

    /// The file that a hard link names, if it was copied.
    fn linked(&self, link: &Path) -> Option<PathBuf> {
        let inner = below(link, self.name).filter(|inner| !inner.as_os_str().is_empty())?;
        let path = self.target.join(&inner);
        if self.obstacle(&inner, &path, EntryType::Regular).is_some() {
            return None;
        }
        fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()).then_some(path)
    }

    fn finish(self) -> Result<Skipped> {
        for (path, mode, time) in self.folders.into_iter().rev() {
            let context = || format!("failed to write {}", path.display());
            let folder = File::open(&path).with_context(context)?;
            folder.set_modified(time).with_context(context)?;
            folder.set_permissions(Permissions::from_mode(mode)).with_context(context)?;
        }
        Ok(self.skipped)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A name below what is copied; `None` if it leads elsewhere.
fn below(name: &Path, root: Option<&str>) -> Option<PathBuf> {
    let mut parts = name.components().filter(|part| *part != Component::CurDir);
    if let Some(root) = root
        && parts.next() != Some(Component::Normal(root.as_ref()))
    {
        return None;
    }
    parts.map(|part| if let Component::Normal(part) = part { Some(part) } else { None }).collect()
}

/// Whether a link at `inner` leads to something below the target.
fn stays_below(inner: &Path, link: &Path) -> bool {
    let above = inner.components().count().saturating_sub(1);
    let up = link.components().take_while(|part| *part == Component::ParentDir).count();
    let mut down = link.components().skip(up);
    // What is copied is no link itself: a workspace sends what such a link leads to.
    let is_one = !link.as_os_str().is_empty() && !inner.as_os_str().is_empty();
    is_one && up <= above && down.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests;
