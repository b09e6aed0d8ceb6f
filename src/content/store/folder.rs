//! Uploads into a folder, part by part: a temporary file, then fsync and rename. The temporary file is named by the upload's
//! id, so an upload that did not end is resumed or aborted as in any other store.

use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, MultipartId, PutPayload, PutResult, Result};
use rustix::fs::{Mode, OFlags};

/// Folder of the temporary files, beside the owners' folders: no owner's name begins with a dot.
const UPLOADS: &str = ".uploads";

/// A folder as a store of uploads in parts.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: Arc<PathBuf>,
    part_size: u64,
}

impl Folder {
    pub(super) fn new(root: PathBuf, part_size: u64) -> Self {
        Self { root: Arc::new(root), part_size }
    }

    /// Folder of a prefix.
    pub(super) fn below(&self, prefix: &Path) -> PathBuf {
        prefix.parts().fold(self.root.as_ref().clone(), |path, part| path.join(part.as_ref()))
    }

    /// The temporary file of an upload, and the size of its parts. The id was made here, or read from a state file.
    fn file(&self, id: &str) -> Result<(PathBuf, u64)> {
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let part_size = id.rsplit_once('-').and_then(|(_, size)| size.parse().ok()).filter(|_| plain(id));
        let part_size = part_size.ok_or_else(|| missing(id, io::ErrorKind::InvalidInput.into()))?;
        Ok((self.root.join(UPLOADS).join(id), part_size))
    }

    async fn blocking<T: Send + 'static>(
        run: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?
    }
}

fn missing(id: &str, error: io::Error) -> Error {
    Error::NotFound { path: id.to_owned(), source: error.into() }
}

fn failed(id: &str) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => missing(id, error),
        _ => Error::Generic { store: "folder", source: error.into() },
    }
}

/// Writes a folder's entries to the disk.
fn sync_folder(path: &FsPath) -> io::Result<()> {
    let folder = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fsync(folder)?;
    Ok(())
}

/// Creates a folder and those above it below `root`, each of them written to the disk.
fn create_folders(root: &FsPath, path: &FsPath) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut here = path;
    while here != root && !here.is_dir() {
        missing.push(here);
        here = here.parent().unwrap_or(root);
    }
    for folder in missing.into_iter().rev() {
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(folder.parent().unwrap_or(root))?,
        }
    }
    Ok(())
}

#[async_trait]
impl MultipartStore for Folder {
    async fn create_multipart(&self, _: &Path) -> Result<MultipartId> {
        let id = format!("{:016x}{:016x}-{}", fastrand::u64(..), fastrand::u64(..), self.part_size);
        let (file, _) = self.file(&id)?;
        let created = Self::blocking(move || {
            std::fs::create_dir_all(file.parent().unwrap_or(&file))?;
            std::fs::File::create_new(&file).map(drop)
        });
        created.await.map_err(failed(&id))?;
        Ok(id)
    }

    async fn put_part(&self, _: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        let (file, part_size) = self.file(id)?;
        let length = data.content_length();
        let written = Self::blocking(move || {
            use std::os::unix::fs::FileExt as _;
            let file = std::fs::File::options().write(true).open(&file)?;
            let mut at = u64::try_from(part).unwrap_or(u64::MAX).saturating_mul(part_size);
            for piece in &data {
                file.write_all_at(piece, at)?;
                at += piece.len() as u64;
            }
            Ok(())
        });
        written.await.map_err(failed(id))?;
        Ok(PartId { content_id: length.to_string() })
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let (file, _) = self.file(id)?;
        let (root, to) = (Arc::clone(&self.root), self.below(path));
        let size: u64 = parts.iter().filter_map(|part| part.content_id.parse::<u64>().ok()).sum();
        let moved = Self::blocking(move || {
            let opened = std::fs::File::options().write(true).open(&file)?;
            // Parts of a resumed upload may be left over behind the end.
            opened.set_len(size)?;
            opened.sync_all()?;
            let parent = to.parent().unwrap_or(&root);
            create_folders(&root, parent)?;
            std::fs::rename(&file, &to)?;
            sync_folder(parent)
        });
        moved.await.map_err(failed(id))?;
        Ok(PutResult { e_tag: None, version: None, extensions: http::Extensions::new() })
    }

    async fn abort_multipart(&self, _: &Path, id: &MultipartId) -> Result<()> {
        let (file, _) = self.file(id)?;
        Self::blocking(move || std::fs::remove_file(&file)).await.map_err(failed(id))
    }
}

/// Removes a folder with what a killed writer left in it: the client library's listing hides its own temporary files.
pub(super) async fn remove(path: PathBuf) -> io::Result<()> {
    Folder::blocking(move || match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
    .await
}
