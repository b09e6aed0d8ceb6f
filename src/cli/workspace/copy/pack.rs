//! Packs a local file or folder as a tar archive.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tar::{Builder, EntryType, Header};

use super::skipped::Skipped;

/// Writes `from` as an archive whose names begin with `name`; `.` for the content of a folder. Returns what an archive
/// cannot have.
pub fn pack(from: &Path, name: &Path, to: impl Write) -> Result<Skipped> {
    let mut packing =
        Packing { archive: Builder::new(to), links: HashMap::new(), skipped: Skipped::default() };
    // A link that is named is followed.
    let metadata = fs::metadata(from).with_context(|| format!("failed to read {}", from.display()))?;
    if name == Path::new(".") {
        packing.content(from, Path::new(""))?;
    } else {
        packing.entry(from, name, &metadata)?;
    }
    packing.archive.into_inner().and_then(|mut to| to.flush()).context("failed to send the archive")?;
    Ok(packing.skipped)
}

struct Packing<W: Write> {
    archive: Builder<W>,
    /// Names of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    skipped: Skipped,
}

impl<W: Write> Packing<W> {
    fn entry(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> Result<()> {
        let kind = metadata.file_type();
        let text = || format!("failed to read {}", path.display());
        let mut header = header(metadata);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.archive.append_data(&mut header, name, io::empty()).with_context(text)?;
            self.content(path, name)?;
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(path).with_context(text)?;
            self.archive.append_link(&mut header, name, target).with_context(text)?;
        } else if kind.is_file() {
            self.file(path, name, metadata, header)?;
        } else {
            let what = if kind.is_socket() {
                "a socket"
            } else if kind.is_fifo() {
                "a pipe"
            } else {
                "a device"
            };
            self.skipped.add(path, &format!("it is {what}"));
        }
        Ok(())
    }

    fn content(&mut self, folder: &Path, name: &Path) -> Result<()> {
        let text = || format!("failed to read {}", folder.display());
        let entries: io::Result<Vec<_>> = fs::read_dir(folder).with_context(text)?.collect();
        let mut entries = entries.with_context(text)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let metadata =
                fs::symlink_metadata(&path).with_context(|| format!("failed to read {}", path.display()))?;
            self.entry(&path, &name.join(entry.file_name()), &metadata)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &Path, metadata: &Metadata, mut header: Header) -> Result<()> {
        let text = || format!("failed to copy {}", path.display());
        let inode = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&inode) {
                header.set_entry_type(EntryType::Link);
                return self.archive.append_link(&mut header, name, first).with_context(text);
            }
            self.links.insert(inode, name.to_owned());
        }
        let file = File::open(path).with_context(text)?;
        let opened = file.metadata().with_context(text)?;
        if !opened.is_file() {
            bail!("{} was replaced while it was copied", path.display());
        }
        header.set_entry_type(EntryType::Regular);
        header.set_size(opened.len());
        let mut content = Exact { file: file.take(opened.len()), left: opened.len() };
        self.archive.append_data(&mut header, name, &mut content).with_context(text)
    }
}

/// A file of a known size: one that got shorter would garble the archive.
struct Exact {
    file: io::Take<File>,
    left: u64,
}

impl io::Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("it got shorter meanwhile"));
        }
        Ok(read)
    }
}

/// Mode and time; the owner is that of the workspace.
fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}
